"""Asks a run to end after the step in progress, by a file `stop` in its directory.

It reaches a trainer on another machine: all processes of a run share its directory.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path

from tinylora_rl.atomic import read_json, write_json
from tinylora_rl.runs.directory import read_metrics

ENDING_S = 20.0  # from the end of the last step to the end of the process
SLOWER = 1.2  # the next step may take this many times the slowest one so far
POLL_S = 1.0


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


class TimeLimit:
    """Stops a run between two steps, before a wall-clock limit of its cluster would kill it.

    Watches the clock from a thread, inside the block. A step begins if the slowest one so far would
    still fit; one that then takes too long is ended in the middle.

    Args:
        limit_s: seconds after `start_s` (of `time.monotonic`) by which the process exits, or None.
        metrics: the run's metrics file, for the seconds that its steps take.
        ask: called once, with the reason, when the next step would not fit.
        end: called once, when the step in progress did not fit.
    """

    def __init__(
        self,
        limit_s: float | None,
        start_s: float,
        metrics: Path,
        *,
        ask: Callable[[str], None],
        end: Callable[[], None],
    ) -> None:
        self._limit_s = limit_s
        self._start_s = start_s
        self._metrics = metrics
        self._ask = ask
        self._end = end
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> TimeLimit:
        if self._limit_s is not None:
            self._thread.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._over.set()
        if self._thread.is_alive():
            self._thread.join()

    def _watch(self) -> None:
        assert self._limit_s is not None
        end_s = self._start_s + self._limit_s - ENDING_S
        asked = False
        while not self._over.wait(POLL_S):
            now_s = time.monotonic()
            if now_s >= end_s:
                self._end()
                return
            # a step that was begun since the last look must still fit, too
            step_s = SLOWER * slowest_step_s(self._metrics) + 2 * POLL_S
            if not asked and now_s + step_s >= end_s:
                self._ask(f"run.time_limit_s={self._limit_s:g}")
                asked = True


def slowest_step_s(metrics: Path) -> float:
    """Returns the seconds of the slowest step, validation included; 0 before the first."""
    return max(
        (
            float(row["timing_s/step"]) + float(row.get("timing_s/testing") or 0)
            for row in read_metrics(metrics)
            if row.get("timing_s/step")
        ),
        default=0.0,
    )
