"""Prints a line per step; redirects what the libraries print to the log."""

from __future__ import annotations

import atexit
import os
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

from tinylora_rl.runs.directory import read_metrics
from tinylora_rl.runs.metric_names import held_out
from tinylora_rl.runs.progress import ProgressFile

POLL_S = 0.5
ERASE_LINE = "\x1b[K"  # from the cursor on; every terminal of today reads it


@contextmanager
def library_noise_to(log: Path) -> Iterator[TextIO]:
    """Appends both output streams of this process and its children to `log`, inside the block.

    Redirected are the file descriptors, not sys.stdout: Ray, vLLM and C++ libraries write past it.

    Yields:
        A line-buffered stream to where standard output went before.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    saved = os.dup(1), os.dup(2)
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    os.close(descriptor)
    console = os.fdopen(os.dup(saved[0]), "w", buffering=1, encoding="utf-8")
    try:
        yield console
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os.dup2(saved[0], 1)
        os.dup2(saved[1], 2)
        for descriptor in saved:
            os.close(descriptor)
        console.close()


def exit_noise_to(log: Path) -> None:
    """Appends what libraries print while the interpreter ends to `log`, not after the results."""

    def redirect() -> None:
        sys.stdout.flush()
        sys.stderr.flush()
        descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        os.dup2(descriptor, 1)
        os.dup2(descriptor, 2)
        os.close(descriptor)

    atexit.register(redirect)


class ProgressLines:
    """Prints a line for every step that appears in a run's metrics file, from a thread.

    The trainer runs in another process; the run directory is what both ends share. Steps that are
    in the file already (of the run being resumed) are not printed again. On a terminal the line of
    the step in progress follows, "step 3/10   rollout 12/64", and is overwritten in place.
    """

    def __init__(self, metrics: Path, console: TextIO, total_steps: int | None) -> None:
        self._metrics = metrics
        self._console = console
        self._total_steps = total_steps
        rows = read_metrics(metrics)
        self._printed = len(rows)
        self._last_step = int(rows[-1]["step"]) if rows else 0
        self._progress = ProgressFile(metrics.parent)
        self._is_terminal = console.isatty()
        self._in_place = ""
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._follow, daemon=True)

    def __enter__(self) -> ProgressLines:
        self._progress.remove()
        if self._is_terminal:
            self._progress.create()
        self._thread.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._stop.set()
        self._thread.join()
        self._progress.remove()
        self._print_new()
        self._show("")

    def _follow(self) -> None:
        while not self._stop.wait(POLL_S):
            self._print_new()
            if self._is_terminal and (report := self._progress.read()) is not None:
                step = _step_label(self._last_step + 1, self._total_steps)
                # the first validation precedes step 1
                self._show(report if report.startswith("validation") else f"{step}   {report}")

    def _print_new(self) -> None:
        rows = read_metrics(self._metrics)
        if rows[self._printed :]:
            self._show("")
            self._progress.clear()
            self._last_step = int(rows[-1]["step"])
        for row in rows[self._printed :]:
            print(progress_line(row, self._total_steps), file=self._console)
        self._printed = len(rows)

    def _show(self, line: str) -> None:
        """Puts `line` in the place of the one before, on a terminal alone."""
        if line != self._in_place:
            self._console.write(f"\r{ERASE_LINE}{line}")
            self._console.flush()
            self._in_place = line


def progress_line(row: Mapping[str, Any], total_steps: int | None) -> str:
    """Formats one step in one line: reward, response length, |v|, time, and what was validated."""
    parts = [_step_label(row["step"], total_steps)]
    for key, label, form in (
        ("critic/score/mean", "reward", ".3f"),
        ("train/loss", "loss", ".4f"),
        ("response_length/mean", "length", ".1f"),
        ("tinylora/v_norm", "|v|", ".4f"),
        ("timing_s/step", "", ".1f"),
    ):
        if row.get(key) is not None:
            parts.append(
                f"{label} {row[key]:{form}}".strip() + (" s" if key.startswith("timing") else "")
            )
    parts += [f"held-out {name} {value:.3f}" for name, value in held_out(row).items()]
    return "   ".join(parts)


def _step_label(step: int, total_steps: int | None) -> str:
    return f"step {step:>4}" + (f"/{total_steps}" if total_steps else "")
