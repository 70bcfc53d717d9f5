"""Starts the workers of a run's Ray as forks, where a run asks for it."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

from tinylora_rl.errors import ConfigError
from tinylora_rl.settings.experiment import Experiment


def forked_workers(experiment: Experiment) -> AbstractContextManager[str | None]:
    """Starts the fork server of a run that has one (`run.fork_workers`).

    Returns:
        A context that yields the command by which Ray starts its workers; None: by Python itself.

    Raises:
        ConfigError: the workers would be on other machines, too.
    """
    if not experiment.run.fork_workers:
        return nullcontext()
    if experiment.ray.address != "local":
        raise ConfigError(
            f"run.fork_workers=true with ray_kwargs.ray_init.address={experiment.ray.address}: "
            "only a Ray that this run starts here can fork its workers; give run.fork_workers=false"
        )
    from tinylora_rl.verl_plugin.cpu.fork_server import fork_server

    return fork_server({key: str(value) for key, value in experiment.ray.env_vars.items()})
