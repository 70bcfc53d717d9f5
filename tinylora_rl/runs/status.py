"""Writes and reads `status.json`: the progress of a run and its outcome.

A killed run leaves `running` behind, and no lock on its directory; it counts as unfinished, like
one that was stopped or failed. Starting it again continues it.
"""

from __future__ import annotations

import dataclasses
import fcntl
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from tinylora_rl.atomic import DiskFullError, read_json, write_json
from tinylora_rl.errors import EXIT_FAILED, EXIT_SIGNAL
from tinylora_rl.runs.directory import RunDirectory, read_metrics

STATUS_FILE = "status.json"

State = Literal["running", "finished", "stopped", "failed"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Status:
    """Holds the contents of `status.json`; times in ISO 8601, UTC.

    Attributes:
        state: `finished` only if the run took its last step and exited with 0.
        exit_code: None while it runs, and if it was killed; so is `ended`.
        total_steps: planned for the whole run, None before that is known; a run that leaves out
            rows which are too long finishes with fewer.
    """

    verb: str
    state: State
    exit_code: int | None
    started: str
    ended: str | None
    steps: int
    total_steps: int | None

    @property
    def is_finished(self) -> bool:
        return self.state == "finished"


def read_status(directory: Path) -> Status | None:
    """Reads the status of the run in `directory`; None if there is none, or of another version."""
    content = read_json(Path(directory) / STATUS_FILE)
    if content is None or content.keys() != {field.name for field in dataclasses.fields(Status)}:
        return None
    return Status(**content)


def is_active(directory: Path) -> bool:
    """Returns True while a process is inside `runs.directory.exclusive` on `directory`."""
    lock = Path(directory) / ".lock"
    if not lock.exists():
        return False
    with lock.open() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def last_step(directory: Path) -> int:
    """Returns the last step in the metrics of the run in `directory`; 0 without one."""
    rows = read_metrics(RunDirectory(Path(directory)).metrics)
    return int(rows[-1]["step"]) if rows else 0


class RecordedRun:
    """Writes `status.json` of a run: `running` inside the block, its outcome afterwards.

    Use it inside `runs.directory.exclusive`. The block sets `exit_code` before it ends; an error of
    the package carries its own.
    """

    def __init__(self, directory: Path, verb: str) -> None:
        self._directory = directory
        self._verb = verb
        self._started = _now()
        self._total_steps: int | None = None
        self.exit_code = EXIT_FAILED

    def __enter__(self) -> RecordedRun:
        self._write(state="running", exit_code=None, ended=None)
        return self

    def expect(self, total_steps: int) -> None:
        """Records the number of steps that the whole run is going to have."""
        self._total_steps = total_steps
        self._write(state="running", exit_code=None, ended=None)

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        if isinstance(error, KeyboardInterrupt):
            self.exit_code = EXIT_SIGNAL
        elif error is not None:
            self.exit_code = getattr(error, "exit_code", EXIT_FAILED)
        states: dict[int, State] = {0: "finished", EXIT_SIGNAL: "stopped"}
        state = states.get(self.exit_code, "failed")
        try:
            self._write(state=state, exit_code=self.exit_code, ended=_now())
        except DiskFullError as full:  # its own error matters more; "running" is unfinished
            print(f"{STATUS_FILE} not written: {full}", file=sys.stderr)

    def _write(self, **values: Any) -> None:
        status = Status(
            verb=self._verb,
            started=self._started,
            steps=last_step(self._directory),
            total_steps=self._total_steps,
            **values,
        )
        write_json(self._directory / STATUS_FILE, dataclasses.asdict(status))


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
