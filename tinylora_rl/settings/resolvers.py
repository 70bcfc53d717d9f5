"""The functions that `configs/` may use in an interpolation, and the folders of Hydra files.

Imports neither torch nor verl.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf


def config_dir() -> Path:
    """Returns the folder of our Hydra files: in an installed package, beside it in a checkout."""
    package = Path(__file__).parents[1]
    installed = package / "configs"
    return installed if installed.is_dir() else package.parent / "configs"


def verl_config_dir() -> Path:
    """Returns the folder of verl's Hydra configuration, found without importing verl.

    Raises:
        ModuleNotFoundError: verl is not installed.
    """
    spec = importlib.util.find_spec("verl")
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError(
            "verl is not installed; install this package with its cpu or gpu extra"
        )
    return Path(spec.submodule_search_locations[0]) / "trainer" / "config"


def register_resolvers() -> None:
    """Registers the functions with OmegaConf; call before Hydra composes."""
    resolvers: dict[str, Callable[..., Any]] = {
        "config_dir": lambda: str(config_dir()),
        "verl_config_dir": lambda: str(verl_config_dir()),
        "tiny_model_dir": _tiny_model_dir,
        "recipe_name": _recipe_name,
        "smallest": _smallest,
        "takes_whole_weights": lambda sync_mode: sync_mode != "factors",
        "sum": lambda *values: sum(values),
        "hub_offline": _hub_offline,
        "judge_for": _judge_for,
        "engine_of": _engine_of,
        "absolute": _absolute,
        "reward_name": lambda judge, control: control or judge,
        # not the path: an adapter is published, the layout of a machine is not
        "run_name": lambda run_dir: "/".join(Path(run_dir).parts[-2:]),
        "num_cores": lambda: len(os.sched_getaffinity(0)),
    }
    for name, resolver in resolvers.items():
        OmegaConf.register_new_resolver(name, resolver, replace=True)


def _tiny_model_dir() -> str:
    from tinylora_rl.tasks.arithmetic import base_model_dir

    return str(base_model_dir())


def _judge_for(data: DictConfig, user_plugins: Sequence[str]) -> str:
    """The judge that reads what the data set's prompt asks for."""
    from tinylora_rl import plugins
    from tinylora_rl.errors import ConfigError
    from tinylora_rl.tasks import make_task

    plugins.load(list(user_plugins))
    options: Any = OmegaConf.to_container(data, resolve=True)
    try:
        return make_task(options.get("name"), options).judge
    except ConfigError:  # whoever reads the task says so
        return "strict"


def _engine_of(method: str, user_plugins: Sequence[str]) -> str:
    """verl's name of the engine that trains the method."""
    from tinylora_rl import plugins
    from tinylora_rl.methods import METHODS, known_methods

    plugins.load(list(user_plugins))
    known_methods()
    return METHODS[method].model_type if method in METHODS else method


def _absolute(user_plugins: Sequence[str]) -> Any:
    """Plugins as every worker finds them, in whatever folder it stands."""
    from tinylora_rl import plugins

    return OmegaConf.create(list(plugins.absolute(list(user_plugins))))


def _recipe_name(default: str) -> str:
    """The recipe chosen on the command line, for the names of run directory and experiment."""
    from hydra.core.hydra_config import HydraConfig

    if not HydraConfig.initialized():  # the points of a sweep, before one is started
        return default
    return str(HydraConfig.get().runtime.choices.get("recipe", default))


def _smallest(*values: int | None) -> int:
    return min(value for value in values if value is not None)  # the task always states one


def _hub_offline(model_path: str) -> str:
    """A 1 where the model is a folder: nothing needs the hub, and looking for it takes time."""
    return "1" if Path(model_path).is_dir() else os.environ.get("HF_HUB_OFFLINE", "0")
