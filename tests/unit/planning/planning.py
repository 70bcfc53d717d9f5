"""Settings for planning alone: composed once for their groups, and copied with keys set."""

import copy
from functools import cache

import yaml
from omegaconf import DictConfig, OmegaConf

from tests.unit.recipes.composing import as_overrides
from tinylora_rl.settings.compose import compose, config_dir
from tinylora_rl.settings.experiment import Experiment, read


def configured(command: str, values: dict[str, object]) -> DictConfig:
    """The configuration of a point: that of its groups, with its other keys set."""
    is_group = {key: (config_dir() / key.lstrip("+")).is_dir() for key in values}
    groups = as_overrides({key: value for key, value in values.items() if is_group[key]})
    config = copy.deepcopy(_of_groups(command, tuple(sorted(groups))))
    for key, value in values.items():
        if not is_group[key]:
            OmegaConf.update(config, key.lstrip("+"), value)
    return config


def experiment(command: str, values: dict[str, object]) -> Experiment:
    return read(configured(command, values))


def values_of(overrides: tuple[str, ...]) -> dict[str, object]:
    """`("adapter.u=1", ...)` as {key: value}."""
    pairs = (override.partition("=") for override in overrides)
    return {key: yaml.safe_load(value) for key, _, value in pairs}


@cache  # a third of a second each
def _of_groups(command: str, groups: tuple[str, ...]) -> DictConfig:
    return compose(command, groups)
