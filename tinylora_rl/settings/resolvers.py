"""What `configs/` may ask for in an interpolation. Imports neither torch nor verl."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf


def config_dir() -> Path:
    """The folder of our Hydra files: inside an installed package, beside it in a checkout."""
    package = Path(__file__).parents[1]
    installed = package / "configs"
    return installed if installed.is_dir() else package.parent / "configs"


def verl_config_dir() -> Path:
    """The folder of verl's Hydra configuration, found without importing verl.

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
    """`${...}` of the configuration resolve; call before Hydra composes."""
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


def _judge_for(template: str | None) -> str:
    """The judge that reads what the template asks for; the embedded task is like GSM8K."""
    from tinylora_rl.tasks import TEMPLATES

    return TEMPLATES[template].judge if template in TEMPLATES else "strict"


def _recipe_name(default: str) -> str:
    """The recipe chosen on the command line, for the names of run directory and experiment."""
    from hydra.core.hydra_config import HydraConfig

    return str(HydraConfig.get().runtime.choices.get("recipe", default))


def _smallest(*values: int | None) -> int:
    return min(value for value in values if value is not None)  # the task always states one


def _hub_offline(model_path: str) -> str:
    """A 1 where the model is a folder: nothing needs the hub, and looking for it takes time."""
    return "1" if Path(model_path).is_dir() else os.environ.get("HF_HUB_OFFLINE", "0")
