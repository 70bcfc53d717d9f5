"""`stop` in a run directory: whoever makes it asks the run to end after the step in progress.

A signal, the clock and a person ask in the same way, and a trainer on another machine hears it: the
run directory is the one thing that all processes of a run share.
"""

from __future__ import annotations

from pathlib import Path

from tinylora_rl.atomic import read_json, write_json


class StopFile:
    """The file in the run directory `run`."""

    def __init__(self, run: Path) -> None:
        self._path = run / "stop"

    def clear(self) -> None:
        """Nobody has asked."""
        self._path.unlink(missing_ok=True)

    def ask(self, reason: str) -> None:
        """The run is asked to end; who asked first is remembered."""
        if not self._path.exists():
            write_json(self._path, {"reason": reason})

    @property
    def reason(self) -> str | None:
        """Why the run shall end; None where nobody asked."""
        if not self._path.exists():
            return None
        return str((read_json(self._path) or {}).get("reason", f"the file {self._path}"))

    def answer(self, step: int) -> None:
        """The run says that it has ended after `step`, because it was asked to."""
        write_json(self._path, {"reason": self.reason, "stopped_after_step": step})

    @property
    def stopped_after_step(self) -> int | None:
        """The answer; None where there is none."""
        return (read_json(self._path) or {}).get("stopped_after_step")
