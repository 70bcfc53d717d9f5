"""Points as commands that a launcher runs, here one after the other, and their progress lines.

Each in a process of its own: Ray, vLLM and torch leave state behind. A stop signal is passed on to
the point that runs, which saves and ends; the points after it are not begun.
"""

from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
import sys
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TextIO

from omegaconf import DictConfig

from tinylora_rl.errors import EXIT_SIGNAL
from tinylora_rl.runs.console import progress_line
from tinylora_rl.runs.directory import RunDirectory, read_metrics
from tinylora_rl.runs.status import read_status
from tinylora_rl.sweeps.points import run_dir_of, short_names

CONSOLE = "console.txt"
HYDRA_HINT = "Set the environment variable HYDRA_FULL_ERROR"  # after an error's own last line


@dataclasses.dataclass(frozen=True)
class Job:
    """One point: its label `[2/9] u-1__seed-0`, and the arguments of a Python interpreter."""

    label: str
    directory: Path
    arguments: tuple[str, ...]

    @property
    def console(self) -> Path:
        """Returns the file of the console output; appended to by each start."""
        return self.directory / CONSOLE


def jobs_of(
    config: DictConfig, job_overrides: Sequence[Sequence[str]], initial_job_idx: int
) -> list[Job]:
    """Makes each point a command: the module of this process, started for one run."""
    directories = [run_dir_of(overrides) for overrides in job_overrides]
    names = short_names([directory.name for directory in directories])
    spec = sys.modules["__main__"].__spec__
    module = spec.name if spec is not None else f"tinylora_rl.{config.command}"
    total = initial_job_idx + len(job_overrides)
    return [
        Job(
            label=f"[{number}/{total}] {name}",
            directory=directory,
            arguments=("-m", module, *_hydra_arguments(config), *overrides),
        )
        for number, (name, directory, overrides) in enumerate(
            zip(names, directories, job_overrides, strict=True), start=initial_job_idx + 1
        )
    ]


def _hydra_arguments(config: DictConfig) -> list[str]:
    arguments = [
        argument
        for source in config.hydra.runtime.config_sources
        if source.provider == "command-line"
        for argument in ("--config-dir", source.path)
    ]
    return arguments + [
        override
        for override in config.hydra.overrides.hydra
        if not override.lstrip("+").startswith("hydra.mode=")
    ]


def last_words(directory: Path) -> str:
    """Returns the last line that the point in `directory` said to a person, or ""."""
    console = directory / CONSOLE
    text = console.read_text(encoding="utf-8", errors="replace") if console.exists() else ""
    lines = (line.strip() for line in reversed(text.splitlines()))
    return next((line for line in lines if line and not line.startswith(HYDRA_HINT)), "")


class ProgressLine:
    """One line on the console for one running point.

    On a terminal it is rewritten with every step; elsewhere there is one at the start and the end.
    """

    def __init__(self, job: Job, console: TextIO) -> None:
        self._job = job
        self._console = console
        self._is_live = console.isatty()
        self._shown = ""

    def start(self) -> None:
        self._show("starting")

    def update(self) -> None:
        if self._is_live:
            self._show(self._progress() or "starting")

    def end(self, outcome: str) -> None:
        self._show("   ".join(part for part in (outcome, self._progress()) if part))
        if self._is_live:
            print(file=self._console)

    def _progress(self) -> str:
        rows = read_metrics(RunDirectory(self._job.directory).metrics)
        status = read_status(self._job.directory)
        return progress_line(rows[-1], status.total_steps if status else None) if rows else ""

    def _show(self, text: str) -> None:
        line = f"{self._job.label}   {text}"
        if line == self._shown:
            return
        self._shown = line
        if self._is_live:
            print(f"\r\x1b[K{line}", end="", file=self._console, flush=True)
        else:
            print(line, file=self._console, flush=True)


POLL_S = 0.5


def run_in_turn(
    jobs: Iterable[Job], *, keep_going: bool, stop_timeout_s: float, console: TextIO
) -> dict[Path, int]:
    """Runs `jobs` in order, up to one that fails unless `keep_going`; returns their exit codes.

    On KeyboardInterrupt the running point gets a signal, and SIGKILL after `stop_timeout_s`.
    """
    codes: dict[Path, int] = {}
    for job in jobs:
        code = run(job, stop_timeout_s=stop_timeout_s, console=console)
        codes[job.directory] = code
        if code not in (0, EXIT_SIGNAL) and not keep_going:
            break
    return codes


def run(job: Job, *, stop_timeout_s: float, console: TextIO) -> int:
    """Returns the exit code of `job`, negative where a signal killed it."""
    line = ProgressLine(job, console)
    job.directory.mkdir(parents=True, exist_ok=True)
    with job.console.open("ab") as output:
        line.start()
        # Its own session: a ctrl-C reaches it once, from here, and not from the terminal too.
        process = subprocess.Popen(
            [sys.executable, *job.arguments],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
            start_new_session=True,
        )
        try:
            while process.poll() is None:
                line.update()
                with suppress(subprocess.TimeoutExpired):
                    process.wait(POLL_S)
        except KeyboardInterrupt:
            line.end("stopping")
            _stop(process, stop_timeout_s)
            raise
    line.end(_outcome(process.returncode, job))
    return process.returncode


def _stop(process: subprocess.Popen[bytes], timeout_s: float) -> None:
    process.terminate()
    try:
        process.wait(timeout_s)
    finally:  # late, or the user has lost patience
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _outcome(code: int, job: Job) -> str:
    if code == 0:
        return "done"
    if code == EXIT_SIGNAL:
        return "stopped"
    return f"failed with exit code {code}: {last_words(job.directory)}"
