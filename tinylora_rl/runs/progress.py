"""Shows how far the step in progress is on the terminal from which a run was started.

Both ends share a file in the run directory: the console creates it if it is a terminal and removes
it at the end; the trainer and the actor write into it as long as it exists.
"""

from __future__ import annotations

import os
import re
import time
from contextlib import suppress
from pathlib import Path

WIDTH_BYTES = 64  # every write fills them all, so that a shorter text leaves nothing of a longer
WRITE_EVERY_S = 0.5


class ProgressFile:
    """The file of the run in the directory `run`, from either end."""

    def __init__(self, run: Path) -> None:
        self._path = run / ".progress"
        self._phase, self._total = "", 0
        self._num_done = 0
        self._written_s = 0.0

    def create(self) -> None:
        """Asks the other processes to report. The terminal's end, as `remove`, `read`, `clear`."""
        with suppress(OSError):
            self._path.write_bytes(b"")

    def remove(self) -> None:
        """Ends the reports; also removes what a killed run left."""
        self._path.unlink(missing_ok=True)

    def read(self) -> str | None:
        """ "rollout 12/64", or None before the first report of a step."""
        try:
            text = self._path.read_text().strip()
        except (OSError, UnicodeDecodeError):
            return None
        return text if re.fullmatch(r"\w+ \d+/\d+", text) else None

    def clear(self) -> None:
        """Forgets the report of a step that has ended."""
        self._write(b"")

    def begin(self, phase: str, total: int) -> None:
        """Reports that none of `total` pieces of `phase` are done. The end that does the work."""
        self._phase, self._total = phase, total
        self._report(0)

    def advance_to(self, num_done: int) -> None:
        """Reports that `num_done` pieces are done, if that is news, at most twice a second."""
        num_done = min(num_done, self._total)
        if num_done != self._num_done and time.monotonic() >= self._written_s + WRITE_EVERY_S:
            self._report(num_done)

    def _report(self, num_done: int) -> None:
        self._num_done, self._written_s = num_done, time.monotonic()
        self._write(f"{self._phase} {num_done}/{self._total}".encode())

    def _write(self, text: bytes) -> None:
        # In place and without O_CREAT, not by a renamed sibling: a removed file stays removed. One
        # write of one block is not seen in halves; a disk that is full must not end the run.
        with suppress(OSError):
            descriptor = os.open(self._path, os.O_WRONLY)
            try:
                os.pwrite(descriptor, text[:WIDTH_BYTES].ljust(WIDTH_BYTES), 0)
            finally:
                os.close(descriptor)
