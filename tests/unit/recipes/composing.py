"""Recipes and sweep points as the commands compose them, without starting anything."""

import copy
from collections.abc import Iterable
from functools import cache

import yaml
from omegaconf import DictConfig, OmegaConf

from tinylora_rl.settings.compose import compose, config_dir
from tinylora_rl.sweeps.points import expand, load_study, recipes_dir

RECIPES = sorted(path.stem for path in (config_dir() / "recipe").glob("*.yaml"))
ON_CPU = ("device=cpu", "model=tiny")
SWEEPS = sorted(
    (str(path.relative_to(recipes_dir())), command)
    for path in recipes_dir().glob("*/*.yaml")
    if path.parent.name != "sync_rounding"  # of a default, no study of the paper's
    for command in yaml.safe_load(path.read_text())
)

LEARNING_RATE = "actor_rollout_ref.actor.optim.lr"
Values = dict[str, object]


def composed(*overrides: str, command: str = "train") -> DictConfig:
    """Returns a copy of the configuration of a command line, unresolved."""
    return copy.deepcopy(_composed(overrides, command))


@cache  # half a second each
def _composed(overrides: tuple[str, ...], command: str) -> DictConfig:
    return compose(command, overrides)


@cache
def points(sweep: str, command: str) -> list[Values]:
    """Returns every point of a sweep file as {key as written: value}."""
    return [
        dict(_parsed(override) for override in point)
        for point in expand(load_study(str(recipes_dir() / sweep), command))
    ]


def as_overrides(values: Values) -> list[str]:
    return [f"{key}={_written(value)}" for key, value in values.items()]


def without(values: Values, keys: Iterable[str]) -> Values:
    return {key: value for key, value in values.items() if key not in keys}


def _parsed(override: str) -> tuple[str, object]:
    key, _, value = override.partition("=")
    parsed = OmegaConf.to_container(OmegaConf.from_dotlist([f"value={value}"]))
    return key, parsed["value"]


def _written(value: object) -> str:
    if isinstance(value, list):
        return f"[{','.join(map(str, value))}]"
    if value is None or isinstance(value, bool):
        return str(value).lower().replace("none", "null")
    return str(value)
