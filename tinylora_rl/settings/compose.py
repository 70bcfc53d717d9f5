"""Composes a configuration in this process, as a command line would.

Also the folders of Hydra files, the functions that `configs/` may use in an interpolation, and
older spellings of keys, which are accepted with a hint. Imports neither torch nor verl.
"""

from __future__ import annotations

import importlib.util
import os
import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig, OmegaConf


def compose(
    command: str, overrides: Sequence[str] = (), *, run_dir: str = "/nowhere", recipe: str = "test"
) -> DictConfig:
    """Returns the configuration of `command` with `overrides`, unresolved.

    Args:
        command: train, sft or evaluate.
        run_dir, recipe: what Hydra fills in when a command runs.
    """
    register_resolvers()
    GlobalHydra.instance().clear()
    named = [f"run.dir={run_dir}"]
    if command != "evaluate":
        named.append(f"task.recipe={recipe}")
    current, _ = translated(overrides)
    try:
        with initialize_config_dir(str(config_dir()), version_base="1.3"):
            return hydra_compose(command, overrides=[*named, *current])
    finally:
        GlobalHydra.instance().clear()


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
        "smallest": lambda *values: min(value for value in values if value is not None),
        "takes_whole_weights": lambda sync_mode: sync_mode != "factors",
        "sum": lambda *values: sum(values),
        # where the model is a folder nothing needs the hub, and looking for it takes time
        "hub_offline": lambda model: (
            "1" if Path(model).is_dir() else os.environ.get("HF_HUB_OFFLINE", "0")
        ),
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
    """Returns the judge that reads what the data set's prompt asks for."""
    from tinylora_rl import plugins
    from tinylora_rl.errors import ConfigError
    from tinylora_rl.tasks import make_task

    plugins.load(plugins.names_of(user_plugins))
    options: Any = OmegaConf.to_container(data, resolve=True)
    try:
        return make_task(options.get("name"), options).judge
    except ConfigError:  # whoever reads the task says so
        return "strict"


def _engine_of(method: str, user_plugins: Sequence[str]) -> str:
    """Returns verl's name of the engine that trains the method."""
    from tinylora_rl import plugins
    from tinylora_rl.methods import METHODS, known_methods

    plugins.load(plugins.names_of(user_plugins))
    known_methods()
    return METHODS[method].model_type if method in METHODS else method


def _absolute(user_plugins: Sequence[str]) -> Any:
    """Plugins as every worker finds them, in whatever folder it stands."""
    from tinylora_rl import plugins

    return OmegaConf.create(list(plugins.absolute(plugins.names_of(user_plugins))))


def _recipe_name(default: str) -> str:
    """Returns the recipe on the command line, for the names of run directory and experiment."""
    from hydra.core.hydra_config import HydraConfig

    if not HydraConfig.initialized():  # the points of a sweep, before one is started
        return default
    return str(HydraConfig.get().runtime.choices.get("recipe", default))


_REWARD_KWARGS = "reward.custom_reward_function.reward_kwargs"
RENAMED = {
    "platform": "device",
    "engine": "device",
    "engine.options": "device.engine.options",
    "engine.env": "device.engine.env",
    f"{_REWARD_KWARGS}.deadline_s": "grading.deadline_s",
    f"{_REWARD_KWARGS}.memory_limit_mb": "grading.memory_limit_mb",
    f"{_REWARD_KWARGS}.num_workers": "grading.num_workers",
}
"""{old key: new key}; keys below an old one are renamed with it."""

SAME = {"adapter=tinylora_u13": "adapter=tinylora"}
"""{old override: new override} of choices that went because another said the same."""

_OVERRIDE = re.compile(r"(?P<sign>[+~]*)(?P<key>[\w./@-]+)(?P<rest>=.*)?", re.DOTALL)


def translated(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """Returns command line arguments in today's spelling, and a hint for each that changed."""
    current, hints = [], []
    for argument in arguments:
        renamed = _renamed(argument)
        current.append(renamed)
        if renamed != argument:
            hints.append(f"{argument}: is now spelled {renamed}")
    return current, hints


def current_keys(keys: Iterable[str]) -> list[str]:
    return [_renamed(key) for key in keys]


def _renamed(argument: str) -> str:
    if argument in SAME:
        return SAME[argument]
    parts = _OVERRIDE.fullmatch(argument)
    if parts is None or argument.startswith("--"):
        return argument
    key = parts["key"]
    for old in sorted(RENAMED, key=len, reverse=True):
        if key == old or (key.startswith(f"{old}.") and old not in ("platform", "engine")):
            return f"{parts['sign']}{RENAMED[old]}{key[len(old) :]}{parts['rest'] or ''}"
    return argument
