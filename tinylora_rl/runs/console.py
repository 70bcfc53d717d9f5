"""What a person sees of a run: a line per step; everything the libraries say goes to a file."""

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

POLL_S = 0.5


@contextmanager
def library_noise_to(log: Path) -> Iterator[TextIO]:
    """Inside, both output streams of this process and its children append to `log`.

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
    """What libraries say while the interpreter ends goes to `log`, and not after the results."""

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

    The trainer runs in another process; its file is the one thing both ends have. Steps that are in
    the file already (of the run being resumed) are not printed again.
    """

    def __init__(self, metrics: Path, console: TextIO, total_steps: int | None) -> None:
        self._metrics = metrics
        self._console = console
        self._total_steps = total_steps
        self._printed = len(read_metrics(metrics))
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._follow, daemon=True)

    def __enter__(self) -> ProgressLines:
        self._thread.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._stop.set()
        self._thread.join()
        self._print_new()

    def _follow(self) -> None:
        while not self._stop.wait(POLL_S):
            self._print_new()

    def _print_new(self) -> None:
        rows = read_metrics(self._metrics)
        for row in rows[self._printed :]:
            print(progress_line(row, self._total_steps), file=self._console)
        self._printed = len(rows)


def progress_line(row: Mapping[str, Any], total_steps: int | None) -> str:
    """One step in one line: reward, response length, |v|, time, and what was validated."""
    parts = [f"step {row['step']:>4}" + (f"/{total_steps}" if total_steps else "")]
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
