"""Asks a run to end after the step in progress, by a file `stop` in its directory.

Signals, the time limit and users ask in the same way, and it reaches a trainer on another machine:
all processes of a run share its directory.
"""

from __future__ import annotations

from pathlib import Path

from tinylora_rl.atomic import read_json, write_json


class StopFile:
    """Reads and writes the file `stop` in the run directory `run`."""

    def __init__(self, run: Path) -> None:
        self._path = run / "stop"

    def clear(self) -> None:
        """Removes the request, if there is one."""
        self._path.unlink(missing_ok=True)

    def ask(self, reason: str) -> None:
        """Asks the run to end. The first reason stays."""
        if not self._path.exists():
            write_json(self._path, {"reason": reason})

    @property
    def reason(self) -> str | None:
        """Returns the reason of the request; None where there is no request."""
        if not self._path.exists():
            return None
        return str((read_json(self._path) or {}).get("reason", f"the file {self._path}"))

    def answer(self, step: int) -> None:
        """Records that the run ended after `step`, as requested."""
        write_json(self._path, {"reason": self.reason, "stopped_after_step": step})

    @property
    def stopped_after_step(self) -> int | None:
        """Returns the step of the answer; None where there is no answer."""
        return (read_json(self._path) or {}).get("stopped_after_step")
