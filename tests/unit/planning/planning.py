"""Configurations for planning alone: composed once for their groups, and lent with keys set."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

import yaml
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig, OmegaConf

from tests.unit.recipes.composing import as_overrides
from tinylora_rl.settings.resolvers import config_dir, register_resolvers


@contextmanager
def configured(verb: str, values: dict[str, object]) -> Iterator[DictConfig]:
    """The configuration of a point: that of its groups, with its other keys set for a while."""
    is_group = {key: (config_dir() / key.lstrip("+")).is_dir() for key in values}
    groups = as_overrides({key: value for key, value in values.items() if is_group[key]})
    config = _of_groups(verb, tuple(sorted(groups)))
    keys = {key.lstrip("+"): value for key, value in values.items() if not is_group[key]}
    before = {key: OmegaConf.select(config, key) for key in keys}
    for key, value in keys.items():
        OmegaConf.update(config, key, value)
    try:
        yield config
    finally:
        for key, value in before.items():
            OmegaConf.update(config, key, value)


def values_of(overrides: tuple[str, ...]) -> dict[str, object]:
    """`("adapter.u=1", ...)` as {key: value}."""
    pairs = (override.partition("=") for override in overrides)
    return {key: yaml.safe_load(value) for key, _, value in pairs}


@cache  # a third of a second each
def _of_groups(verb: str, groups: tuple[str, ...]) -> DictConfig:
    register_resolvers()
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(config_dir()), version_base="1.3"):
        named = [] if verb == "evaluate" else ["task.recipe=test"]  # else Hydra itself is asked
        return compose(verb, overrides=["run.dir=/nowhere", *named, *groups])
