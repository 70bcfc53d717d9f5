"""Our sweeper and launchers, in the one package in which Hydra looks for them.

A namespace package, shared with other plugins, hence without `__init__.py`. Hydra imports this
module in each of its applications, so the work is imported when it is asked for.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

if TYPE_CHECKING:
    from tinylora_rl.sweeps.jobs import Job


class PointsSweeper(Sweeper):
    """`hydra/sweeper: points`: only what is not finished is launched."""

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        self._config = config
        self._loader = hydra_context.config_loader
        self._launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments: list[str]) -> None:
        """Ends the process.

        Raises:
            SweepOver: always, with the sweep's exit code.
        """
        from tinylora_rl.runs.exit_codes import exit_code_of
        from tinylora_rl.sweeps.sweep import SweepOver, sweep

        raise SweepOver(
            exit_code_of(lambda: sweep(self._config, self._loader, self._launcher, arguments))
        )


class _JobsLauncher(Launcher):
    """The common part of our launchers: a point is a command."""

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        del hydra_context, task_function
        self._config = config

    def launch(
        self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int
    ) -> list[JobReturn]:
        """Runs the points in order; returns those that were run, which ends with a failed one."""
        from tinylora_rl.sweeps.jobs import jobs_of

        jobs = jobs_of(self._config, job_overrides, initial_job_idx)
        codes = self._run(jobs)
        returned = []
        for job, overrides in zip(jobs, job_overrides, strict=True):
            if job.directory in codes:
                job_return = JobReturn(overrides=list(overrides), status=JobStatus.COMPLETED)
                job_return.return_value = codes[job.directory]
                returned.append(job_return)
        return returned

    def _run(self, jobs: list[Job]) -> Mapping[Path, int]:
        raise NotImplementedError


class PlanLauncher(_JobsLauncher):
    """`hydra/launcher: plan`: runs nothing."""

    def _run(self, jobs: list[Job]) -> Mapping[Path, int]:
        del jobs
        return {}


class ProcessesLauncher(_JobsLauncher):
    """`hydra/launcher: processes`: one point after the other on this machine."""

    def __init__(self, **options: Any) -> None:
        self._options = options

    def _run(self, jobs: list[Job]) -> Mapping[Path, int]:
        from tinylora_rl.sweeps.jobs import run_in_turn

        return run_in_turn(jobs, console=sys.stdout, **self._options)


class RayJobsLauncher(_JobsLauncher):
    """`hydra/launcher: ray_jobs`: on a running Ray cluster."""

    def __init__(self, **options: Any) -> None:
        self._options = options

    def _run(self, jobs: list[Job]) -> Mapping[Path, int]:
        from tinylora_rl.sweeps.ray_jobs import RayJobs

        return RayJobs(**self._options).run(jobs, sys.stdout)
