"""Prints a line per step and a closing summary; redirects what libraries print to the log."""

from __future__ import annotations

import atexit
import json
import os
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

from tinylora_rl.runs.directory import RunDirectory, held_out, read_metrics
from tinylora_rl.runs.progress import ProgressFile

POLL_S = 0.5
ERASE_LINE = "\x1b[K"  # from the cursor on; every terminal of today reads it
SMOOTHED_STEPS = 3  # averaged for "before" and "after", at either end; at most half the run


@contextmanager
def library_noise_to(log: Path) -> Iterator[TextIO]:
    """Appends both output streams of this process and its children to `log`, inside the block.

    Redirected are the file descriptors, not sys.stdout: Ray, vLLM and C++ libraries write past it.

    Yields:
        A line-buffered stream to where standard output went before.
    """
    _flush()
    saved = os.dup(1), os.dup(2)
    _redirect(log)
    console = os.fdopen(os.dup(saved[0]), "w", buffering=1, encoding="utf-8")
    try:
        yield console
    finally:
        _flush()
        os.dup2(saved[0], 1)
        os.dup2(saved[1], 2)
        for descriptor in saved:
            os.close(descriptor)
        console.close()


def exit_noise_to(log: Path) -> None:
    """Appends what libraries print while the interpreter ends to `log`, not after the results."""
    atexit.register(_redirect, log)


def _flush() -> None:
    sys.stdout.flush()
    sys.stderr.flush()


def _redirect(log: Path) -> None:
    _flush()
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    os.close(descriptor)


class ProgressLines:
    """Prints a line for every step that appears in a run's metrics file, from a thread.

    Steps that are in the file already (of the run being resumed) are not printed again. On a
    terminal the line of the step in progress follows, "step 3/10   rollout 12/64".
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


def closing_summary(run: RunDirectory) -> list[str]:
    """Returns the lines of the summary, as far as the run got; none without a step."""
    rows = read_metrics(run.metrics)
    trained = [row for row in rows if "critic/score/mean" in row]
    lines = []
    if (run.adapter / "manifest.json").is_file():
        manifest = json.loads((run.adapter / "manifest.json").read_text())
        lines.append(
            f"trained numbers   {manifest['num_parameters']} ({manifest['payload_bytes']} bytes of "
            "payload)"
        )
    if trained:
        width = max(1, min(SMOOTHED_STEPS, len(trained) // 2))
        for label, key, form in (
            ("training reward", "critic/score/mean", ".3f"),
            ("response length", "response_length/mean", ".1f"),
        ):
            before, after = (
                sum(row[key] for row in part) / width
                for part in (trained[:width], trained[-width:])
            )
            lines.append(f"{label:<18}{before:{form}} -> {after:{form}}   (means of {width} steps)")
    validated = [held_out(row) for row in rows if held_out(row)]
    for name in dict.fromkeys(name for accuracy in validated for name in accuracy):
        values = [accuracy[name] for accuracy in validated if name in accuracy]
        lines.append(f"held-out {name:<9}{values[0]:.3f} -> {values[-1]:.3f}")
    for label, path in (
        ("adapter", run.adapter),
        ("metrics", run.metrics),
        ("figure", run.figure),
        ("responses", run.samples_page),
        ("v of each step", run.vectors),
        ("checkpoints", run.checkpoints),
        ("log", run.log),
    ):
        if path.exists():
            lines.append(f"{label:<18}{path}")
    return ["", *lines] if rows else []
