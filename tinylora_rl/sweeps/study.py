"""`recipes/<study>/sweep.yaml`: the points of a study.

The file maps a command to blocks. A block maps keys of the command line to a value or a list of
values; its points are the product of its keys, and a sweep is the union of its blocks. Keys that
change together are one key with commas, and its values are lists:

    train:
      - +recipe: math_qwen7b
        adapter.u, adapter.n_tie: [[1, 16], [1, 4], [2, 1]]
        seed: [0, 1, 2]
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import yaml

from tinylora_rl.errors import ConfigError
from tinylora_rl.settings.resolvers import config_dir


@dataclasses.dataclass(frozen=True)
class Axis:
    """Keys that change together, and their values: one tuple, a value for each key, a choice."""

    keys: tuple[str, ...]
    choices: tuple[tuple[str, ...], ...]


Block = tuple[Axis, ...]


def recipes_dir() -> Path:
    """The folder of the studies, beside the folder of our Hydra files."""
    return config_dir().parent / "recipes"


def study_path(study: str) -> Path:
    """The file that `sweep=STUDY` names: a study under `recipes/`, or a path to a YAML file.

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
    """Returns the name of a study for folders: of `recipes/x/sweep.yaml` and of `x` it is x."""
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
