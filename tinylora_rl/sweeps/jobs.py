"""Points as commands that a launcher runs, and their progress lines."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TextIO

from omegaconf import DictConfig

from tinylora_rl.runs.console import progress_line
from tinylora_rl.runs.directory import RunDirectory, read_metrics
from tinylora_rl.runs.status import read_status
from tinylora_rl.sweeps.points import run_dir_of, short_names

CONSOLE = "console.txt"
HYDRA_HINT = "Set the environment variable HYDRA_FULL_ERROR"  # after an error's own last line


@dataclasses.dataclass(frozen=True)
class Job:
    """One point.

    Attributes:
        label: `[2/9] u-1__seed-0`.
        arguments: of a Python interpreter.
    """

    label: str
    directory: Path
    arguments: tuple[str, ...]

    @property
    def console(self) -> Path:
        """The console output of the point; appended to by each start."""
        return self.directory / CONSOLE


def jobs_of(
    config: DictConfig, job_overrides: Sequence[Sequence[str]], initial_job_idx: int
) -> list[Job]:
    """The points of a sweep as commands: the module of this process, started for one run each."""
    directories = [run_dir_of(overrides) for overrides in job_overrides]
    names = short_names([directory.name for directory in directories])
    total = initial_job_idx + len(job_overrides)
    return [
        Job(
            label=f"[{number}/{total}] {name}",
            directory=directory,
            arguments=("-m", _module(config), *_hydra_arguments(config), *overrides),
        )
        for number, (name, directory, overrides) in enumerate(
            zip(names, directories, job_overrides, strict=True), start=initial_job_idx + 1
        )
    ]


def _module(config: DictConfig) -> str:
    spec = sys.modules["__main__"].__spec__
    return spec.name if spec is not None else f"tinylora_rl.{config.command}"


def _hydra_arguments(config: DictConfig) -> list[str]:
    """Returns the arguments to Hydra itself that a single run needs too."""
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
    """The last line that the point in `directory` said to a person; "" where none was kept."""
    console = directory / CONSOLE
    text = console.read_text(encoding="utf-8", errors="replace") if console.exists() else ""
    lines = (line.strip() for line in reversed(text.splitlines()))
    return next((line for line in lines if line and not line.startswith(HYDRA_HINT)), "")


class ProgressLine:
    """One line on the console for one running point.

    On a terminal it is rewritten with every step; elsewhere there is a line when the point starts
    and one when it ends.
    """

    def __init__(self, job: Job, console: TextIO) -> None:
        self._job = job
        self._console = console
        self._is_live = console.isatty()
        self._shown = ""

    def start(self) -> None:
        self._show("starting")

    def update(self) -> None:
        """Shows the last step in the point's metrics; nothing where lines cannot be rewritten."""
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
