"""The points of a sweep, and the folder of each: a function of its overrides, in any order.

A study is `recipes/<study>/sweep.yaml`, which maps a command to blocks. A block maps keys of the
command line to a value or a list of values; its points are the product of its keys, and a sweep is
the union of its blocks. Keys that change together are one key with commas, and lists its values:

    train:
      - +recipe: math_qwen7b
        adapter.u, adapter.n_tie: [[1, 16], [1, 4], [2, 1]]
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import itertools
import re
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import yaml
from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException

from tinylora_rl.errors import ConfigError
from tinylora_rl.settings.compose import config_dir, translated

Point = tuple[str, ...]

RECIPE = "recipe"
# Every other key is spelt out: a short form that two keys shared would give two points one folder.
SHORT_KEYS = {
    "actor_rollout_ref.actor.optim.lr": "lr",
    "adapter.u": "u",
    "adapter.n_tie": "n_tie",
    "adapter.r": "r",
}
PLAIN_KEY = re.compile(r"[A-Za-z0-9.]+(_[A-Za-z0-9.]+)*")
PLAIN_VALUE = re.compile(r"[A-Za-z0-9.+-]+(_[A-Za-z0-9.+-]+)*")
MAX_NAME_LENGTH = 160  # file systems take 255 bytes
DIGEST_LENGTH = 8


def expand(
    blocks: Iterable[Block],
    command_line: Sequence[str] = (),
    config_loader: ConfigLoader | None = None,
) -> list[Point]:
    """Returns the points of `blocks`, each with `command_line`, which may sweep itself.

    A key of the command line takes the place of the same key in every block. Equal points are one.
    Without blocks, the command line alone is swept.

    Args:
        config_loader: needed where the command line sweeps a whole group (`recipe=glob(*)`).

    Raises:
        ConfigError: an override that does not parse, or `run.dir`, which every point has its own.
    """
    given = [_given(_parsed(override, config_loader)) for override in command_line]
    replaced = {key for axis in given for key in map(_bare, axis.keys)}
    if "run.dir" in replaced:
        raise ConfigError("run.dir: each point of a sweep has its own; use hydra.sweep.dir")
    points: dict[str, Point] = {}
    older: dict[str, None] = {}
    for block in list(blocks) or [()]:
        axes = [*(_without(axis, replaced) for axis in block), *given]
        for choice in itertools.product(*(axis.choices for axis in axes)):
            point = tuple(
                key if key.startswith("~") and not value else f"{key}={value}"
                for axis, values in zip(axes, choice, strict=True)
                for key, value in zip(axis.keys, values, strict=True)
            )
            current, hints = translated(point)
            older.update(dict.fromkeys(hints))
            points.setdefault(point_name(current), tuple(current))
    for hint in older:
        print(f"hint: {hint}", file=sys.stderr)
    return list(points.values())


def point_name(point: Iterable[str], *, without_recipe: bool = False) -> str:
    """Names a point's folder, `<recipe>__lr-0.0001__seed-0__u-1`, for any order of overrides.

    Two different sets of overrides have different names: what a name cannot hold, or has no room
    for, is there as a digest. The name needs no quotes in a shell or an override.
    """
    values = {_bare(override.key_or_group): _value(override) for override in map(_parsed, point)}
    values.pop("run.dir", None)
    recipe = values.pop(RECIPE, None)
    settings = sorted(
        ((SHORT_KEYS.get(key, key), value) for key, value in values.items()),
        key=lambda setting: ("." in setting[0], setting),  # what tells points apart comes first
    )
    parts = [f"{_plain(key, PLAIN_KEY)}-{_plain(value)}" for key, value in settings]
    if recipe is not None and not without_recipe:
        parts.insert(0, _plain(recipe))
    name = "__".join(parts) or "defaults"
    if len(name) <= MAX_NAME_LENGTH:
        return name
    return f"{name[: MAX_NAME_LENGTH - DIGEST_LENGTH - 2].rstrip('_')}__{_digest(name)}"


def short_names(names: Sequence[str]) -> list[str]:
    """Returns `names` less the settings that all of them share."""
    shared = set.intersection(*(set(name.split("__")) for name in names)) if names[1:] else set()
    return [
        "__".join(part for part in name.split("__") if part not in shared) or name for name in names
    ]


def recipe_of(point: Iterable[str]) -> str | None:
    for override in map(_parsed, point):
        if _bare(override.key_or_group) == RECIPE:
            return _value(override)
    return None


def run_dir_of(point: Iterable[str]) -> Path:
    overrides = {override.key_or_group: override for override in map(_parsed, point)}
    return Path(str(overrides["run.dir"].value()))


def quoted(value: str) -> str:
    """Quotes `value` as an override's value, whatever characters are in it."""
    escaped = re.sub(r"(\\+)(?='|$)", r"\1\1", value).replace("'", "\\'")
    return f"'{escaped}'"


@functools.lru_cache(maxsize=4096)  # the points of a sweep say the same few things again and again
def _parsed(override: str, config_loader: ConfigLoader | None = None) -> Override:
    try:
        return OverridesParser.create(config_loader=config_loader).parse_override(override)
    except HydraException as error:
        problem = str(error).strip().splitlines()[0]
        raise ConfigError(f"sweep: {problem}; write it as on the command line") from error


def _given(override: Override) -> Axis:
    """Makes an override an axis; a key that is deleted (`~key`) has no value."""
    text = override.input_line or ""
    key = text.partition("=")[0]
    if not override.is_sweep_override():
        return Axis((key,), ((text.partition("=")[2],),))
    if not override.is_discrete_sweep():
        raise ConfigError(f"{text}: an interval has no points; list its values")
    return Axis((key,), tuple((value,) for value in override.sweep_string_iterator()))


def _without(axis: Axis, keys: set[str]) -> Axis:
    """Returns `axis` less `keys`, each of what remains of its choices once."""
    kept = [index for index, key in enumerate(axis.keys) if _bare(key) not in keys]
    choices = (tuple(choice[index] for index in kept) for choice in axis.choices)
    return Axis(tuple(axis.keys[index] for index in kept), tuple(dict.fromkeys(choices)))


def _bare(key: str) -> str:
    return key.lstrip("+~").partition("@")[0]


def _value(override: Override) -> str:
    """Returns one spelling of each value: 1e-4 and 0.0001 are the same point."""
    if override.is_delete():
        return "~"
    value: Any = override.value()
    if isinstance(value, str):  # YAML reads 1e-4 as a text, Hydra 1.e-4
        return value
    if value is None or isinstance(value, bool):
        return str(value).lower().replace("none", "null")
    if isinstance(value, float):
        return repr(value)
    return str(override.get_value_element_as_str())


def _plain(text: str, form: re.Pattern[str] = PLAIN_VALUE) -> str:
    """Returns `text` where it is plain; else what is plain of it, and a digest of all."""
    if form.fullmatch(text):
        return text
    kept = re.sub(r"[^A-Za-z0-9.+]+", "-", text).strip("-")[-40:]
    return f"{kept}-{_digest(text)}".lstrip("-")


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:DIGEST_LENGTH]


@dataclasses.dataclass(frozen=True)
class Axis:
    """Keys that change together, and their values: one tuple, a value for each key, a choice."""

    keys: tuple[str, ...]
    choices: tuple[tuple[str, ...], ...]


Block = tuple[Axis, ...]


def recipes_dir() -> Path:
    return config_dir().parent / "recipes"


def study_path(study: str) -> Path:
    """Returns the file that `sweep=STUDY` names: under `recipes/`, or a path to a YAML file.

    Raises:
        ConfigError: there is no such study or file.
    """
    if study.endswith((".yaml", ".yml")):
        path = Path(study).expanduser().resolve()
        if not path.is_file():
            raise ConfigError(f"sweep={study}: no such file; give a study's name, or its path")
        return path
    path = recipes_dir() / study / "sweep.yaml"
    if not path.is_file():
        found = ", ".join(sorted(file.parent.name for file in recipes_dir().glob("*/sweep.yaml")))
        raise ConfigError(f"sweep={study}: no such study; choose from {found or '(none)'}")
    return path


def study_name(study: str) -> str:
    """Names a study for folders: that of `recipes/x/sweep.yaml` and of `x` is x."""
    path = study_path(study)
    return path.parent.name if path.stem == "sweep" else path.stem


def load_study(study: str, command: str) -> list[Block]:
    """Reads the blocks that `study` has for `command`.

    Raises:
        ConfigError: no such study, none for this command, or not the format.
    """
    path = study_path(study)
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        problem = " ".join(str(error).split())
        raise ConfigError(f"sweep={study}: {path} is no YAML ({problem:.120}); fix it") from error
    if not isinstance(content, dict):
        raise ConfigError(f"sweep={study}: {path} is no mapping; write `train:` and its blocks")
    if command not in content:
        raise ConfigError(
            f"sweep={study}: nothing to {command}; start it as "
            + " or ".join(f"python -m tinylora_rl.{other}" for other in content)
        )
    blocks = content[command]
    if not isinstance(blocks, list) or not blocks:
        raise ConfigError(f"sweep={study}: {path} {command}={blocks!r} is no list of blocks")
    return [_block(study, number, block) for number, block in enumerate(blocks, start=1)]


def _block(study: str, number: int, block: Any) -> Block:
    where = f"sweep={study} block {number}"
    if not isinstance(block, dict) or not block:
        raise ConfigError(f"{where}: {block!r} is no mapping; write `key: value` lines")
    axes = tuple(_axis(where, str(key), value) for key, value in block.items())
    keys = [key.lstrip("+") for axis in axes for key in axis.keys]
    for key in keys:
        if keys.count(key) > 1:
            raise ConfigError(f"{where}: {key} stands there twice; leave one")
    return axes


def _axis(where: str, key: str, value: Any) -> Axis:
    keys = tuple(part.strip() for part in key.split(","))
    values = value if isinstance(value, list) else [value]
    if not values:
        raise ConfigError(f"{where}: {key} has no values; give one, or leave it out")
    if len(keys) == 1:
        return Axis(keys, tuple((_text(where, key, value),) for value in values))
    for value in values:
        if not isinstance(value, list) or len(value) != len(keys):
            raise ConfigError(f"{where}: {key}: {value!r} is no list of {len(keys)} values")
    return Axis(keys, tuple(tuple(_text(where, key, part) for part in value) for value in values))


def _text(where: str, key: str, value: Any) -> str:
    """Writes a YAML value as the command line has it."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str | int | float):
        return str(value)
    raise ConfigError(f"{where}: {key}={value!r}: a list or mapping is one value only as a text")
