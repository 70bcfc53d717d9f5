"""Reads a composed configuration of `train` or `sft` into an `Experiment`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from omegaconf import DictConfig, OmegaConf

from tinylora_rl import plugins
from tinylora_rl.errors import ConfigError
from tinylora_rl.methods import make_method
from tinylora_rl.settings import sections, verl_sections
from tinylora_rl.settings.checks import CHECKS
from tinylora_rl.settings.experiment import Experiment
from tinylora_rl.settings.in_workers import SyncConfig
from tinylora_rl.settings.section import base_model
from tinylora_rl.tasks import Task, make_task, task_names


def read(config: DictConfig) -> Experiment:
    """Reads and checks the configuration of `train` or `sft`.

    Raises:
        ConfigError: the first value of another type, out of range or that does not fit the others.
    """
    experiment, errors = problems(config)
    if errors:
        raise errors[0]
    assert experiment is not None
    return experiment


def problems(config: DictConfig) -> tuple[Experiment | None, list[ConfigError]]:
    """Reads a configuration and finds all that is wrong with its values, not the first alone.

    The experiment is None where some part cannot be read.
    """
    parts: dict[str, Any] = {}
    errors: list[ConfigError] = []
    for name, part in _PARTS.items():
        try:
            parts[name] = part(config)
        except ConfigError as error:
            errors.append(error)
            if name == "task":
                return None, errors  # too much of the rest follows from the data set
    partial: Any = _Partial(parts)
    for each in CHECKS:
        try:
            each(partial)
        except ConfigError as error:
            errors.append(error)
        except _UnreadError:
            continue  # a part that it compares is wrong by itself
    return (None if len(parts) < len(_PARTS) else Experiment(**parts)), errors


class _UnreadError(Exception):
    """A check asked for a part that could not be read."""


class _Partial:
    """An experiment of which some parts are missing."""

    def __init__(self, parts: dict[str, Any]) -> None:
        self._parts = parts

    def __getattr__(self, name: str) -> Any:
        if name in self._parts:
            return self._parts[name]
        if name in _PARTS:
            raise _UnreadError(name)
        return getattr(Experiment, name).fget(self)


def _plain(config: DictConfig, key: str) -> dict[str, Any]:
    node = OmegaConf.select(config, key)
    plain: Any = OmegaConf.to_container(node, resolve=True) if node is not None else {}
    return {str(name): value for name, value in plain.items()}


def _plugins(config: DictConfig) -> tuple[str, ...]:
    names = OmegaConf.select(config, "plugins") or []
    names = (names,) if isinstance(names, str) else tuple(names)
    plugins.load(names)
    return names


def _task(config: DictConfig) -> Task:
    if config.data.get("name") is None:
        raise ConfigError(
            "data.name=None: no data set is chosen; give a recipe (+recipe=arithmetic_cpu), or "
            f"data= one of {', '.join(task_names('train'))}"
        )
    return make_task(str(config.data.name), _plain(config, "data"), split="train")


_PARTS: dict[str, Callable[[DictConfig], Any]] = {
    "command": lambda config: str(config.command),
    "plugins": _plugins,  # before what they may define
    "seed": lambda config: int(config.seed),
    "task": _task,
    "base": base_model,
    "method": lambda config: make_method(str(config.method), _plain(config, "adapter")),
    "sync": lambda config: SyncConfig.from_options(_plain(config, "sync")),
    "grading": sections.Grading.read,
    "grading_limits": sections.GradingLimits.read,
    "validation": sections.Validation.read,
    "batch": sections.Batch.read,
    "hardware": verl_sections.Hardware.read,
    "actor": verl_sections.Actor.read,
    "optim": verl_sections.Optim.read,
    "rollout": verl_sections.Rollout.read,
    "ray": verl_sections.RayStart.read,
    "duration": verl_sections.Duration.read,
    "run": sections.Run.read,
    "checkpoints": sections.Checkpoints.read,
    "tracking": sections.Tracking.read,
    "engine": sections.Engine.read,
    "supervised": lambda config: (
        sections.Supervised.read(config) if config.command == "sft" else None
    ),
    "rates": lambda config: sections.CostRates(**_plain(config, f"cost.{config.trainer.device}")),
    "num_parameters": lambda config: config.cost.num_parameters,
    "tree": lambda config: config,
}
"""{field of Experiment: its reader}, in the order in which errors are found."""
