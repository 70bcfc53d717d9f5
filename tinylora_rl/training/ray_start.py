"""How Ray starts the workers of a run."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

from omegaconf import DictConfig, open_dict

from tinylora_rl.errors import ConfigError


def forked_workers(config: DictConfig) -> AbstractContextManager[str | None]:
    """The fork server of a run that has one (`run.fork_workers`), for as long as it lasts.

    Raises:
        ConfigError: the workers would be on other machines, too.
    """
    if not config.run.fork_workers:
        return nullcontext()
    ray_init = config.ray_kwargs.ray_init
    if ray_init.get("address") != "local":
        raise ConfigError(
            f"run.fork_workers=true with ray_kwargs.ray_init.address={ray_init.get('address')}: "
            "only a Ray that this run starts here can fork its workers; give run.fork_workers=false"
        )
    from tinylora_rl.verl_plugin.cpu.fork_server import fork_server

    return fork_server({key: str(value) for key, value in ray_init.runtime_env.env_vars.items()})


def start_with(config: DictConfig, py_executable: str | None) -> None:
    """Ray starts its workers by this command; None: by Python itself.

    For after config.yaml is written: the command is of this moment only.
    """
    if py_executable is not None:
        with open_dict(config):
            config.ray_kwargs.ray_init.runtime_env.py_executable = py_executable
