"""`status.json`: how far a run got and how it ended, for whoever comes to its directory later.

A run that was killed leaves `running` behind without holding the lock of its directory; it counts
as unfinished, like one that was stopped or failed. Starting it again continues it.
"""

from __future__ import annotations

import dataclasses
import fcntl
import sys
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

from tinylora_rl.atomic import DiskFullError, read_json, write_json
from tinylora_rl.errors import EXIT_FAILED, EXIT_SIGNAL
from tinylora_rl.runs.directory import RunDirectory, read_metrics

STATUS_FILE = "status.json"

State = Literal["running", "finished", "stopped", "failed"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Status:
    """The contents of `status.json`.

    Attributes:
        verb: `train`, `sft`.
        state: `finished` only where the run went through its last step and exited with 0.
        exit_code: of the process; None while it runs, or where it was killed.
        started, ended: of the last start, ISO 8601 in UTC; ended is None like exit_code.
        steps: the last step in `metrics.jsonl`, when this was written.
        total_steps: of the whole run as planned, None before that is known; a run that leaves
            out rows which are too long finishes with fewer.
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
    """What the run in `directory` last wrote; None where there is none, or of another version."""
    content = read_json(Path(directory) / STATUS_FILE)
    if content is None or content.keys() != {field.name for field in dataclasses.fields(Status)}:
        return None
    return Status(**content)


def is_active(directory: Path) -> bool:
    """Whether a process holds `runs.directory.exclusive` on `directory` at this moment."""
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
    """The last step in the metrics of the run in `directory`; 0 where there is none."""
    rows = read_metrics(RunDirectory(Path(directory)).metrics)
    return int(rows[-1]["step"]) if rows else 0


class RecordedRun:
    """Keeps `status.json` of a run: `running` inside the block, its outcome afterwards.

    Use it inside `runs.directory.exclusive`. The block sets `exit_code` when it ends well; an error
    of the package brings its own.
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
        """Records how many steps the whole run is going to have."""
        self._total_steps = total_steps
        self._write(state="running", exit_code=None, ended=None)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        del kind, traceback
        if isinstance(error, KeyboardInterrupt):
            self.exit_code = EXIT_SIGNAL
        elif error is not None:
            self.exit_code = getattr(error, "exit_code", EXIT_FAILED)
        try:
            self._write(state=self._outcome(), exit_code=self.exit_code, ended=_now())
        except DiskFullError as full:  # the run's own end says more; "running" counts as unfinished
            print(f"{STATUS_FILE} not written: {full}", file=sys.stderr)

    def _outcome(self) -> State:
        if self.exit_code == 0:
            return "finished"
        return "stopped" if self.exit_code == EXIT_SIGNAL else "failed"

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
