"""Sections: frozen dataclasses whose fields know their key in the configuration and its range.

Both are checked when a section is made, so that a wrong value is one line with key, value and fix.
"""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from omegaconf import DictConfig, OmegaConf

from tinylora_rl.base_model import BaseModel
from tinylora_rl.errors import ConfigError


@dataclasses.dataclass(frozen=True)
class _Key:
    path: str
    at_least: int | None
    above: float | None
    choices: Sequence[str] | None
    rl: bool


def key(
    path: str,
    *,
    at_least: int | None = None,
    above: float | None = None,
    choices: Sequence[str] | None = None,
    rl: bool = False,
    default: Any = dataclasses.MISSING,
) -> Any:
    """States the key of a field and its range.

    Args:
        path: dotted, in the composed configuration.
        at_least: smallest whole number.
        above: greatest number that is too small.
        rl: only reinforcement learning reads it.
        default: where the configuration has no such key.
    """
    metadata = {"key": _Key(path, at_least, above, choices, rl)}
    return dataclasses.field(metadata=metadata, default=default)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Section:
    """A part of the configuration.

    Raises:
        ConfigError: a value is of another type or out of range.
    """

    def __post_init__(self) -> None:
        hints = typing.get_type_hints(type(self))
        for field in dataclasses.fields(self):
            stated = field.metadata.get("key")
            if stated is not None:
                value = _checked(stated, getattr(self, field.name), hints[field.name])
                object.__setattr__(self, field.name, value)

    @classmethod
    def read(cls, config: DictConfig) -> Self:
        values = {}
        for field in dataclasses.fields(cls):
            stated = field.metadata.get("key")
            if stated is None:
                continue
            value = OmegaConf.select(config, stated.path)
            if value is None and field.default is not dataclasses.MISSING:
                continue
            values[field.name] = (
                OmegaConf.to_container(value, resolve=True) if OmegaConf.is_config(value) else value
            )
        return cls(**values)


def base_model(config: DictConfig) -> BaseModel:
    """Reads the base model that `base_model` names; nothing is downloaded."""
    revision = OmegaConf.select(config, "base_model.revision")
    options: Any = OmegaConf.select(config, "base_model.chat_template_kwargs") or {}
    return BaseModel(
        str(OmegaConf.select(config, "base_model.path")),
        None if revision is None else str(revision),
        chat_template_kwargs={str(name): value for name, value in options.items()},
    )


def whole_number(path: str, value: Any, hint: Any = int) -> Any:
    """Returns the value of the key `path`; raises ConfigError unless it is a whole number.

    Args:
        hint: `int`, or `int | None` where null is a value.
    """
    return _checked(_Key(path, at_least=0, above=None, choices=None, rl=False), value, hint)


def _checked(stated: _Key, value: Any, hint: Any) -> Any:
    """Returns `value` as the field's type, or raises ConfigError."""
    is_optional = type(None) in typing.get_args(hint)
    kind = _kind(hint)
    if value is None and is_optional:
        return None
    wanted = _wanted(stated, kind)
    or_null = ", or null" if is_optional else ""
    converted = _converted(value, kind)
    if converted is None or not _in_range(stated, converted):
        raise ConfigError(f"{stated.path}={value}: {wanted}{or_null}")
    return converted


def _kind(hint: Any) -> Any:
    """Returns the type of a hint without its `| None`."""
    if isinstance(hint, types.UnionType) or typing.get_origin(hint) is typing.Union:
        [hint] = [each for each in typing.get_args(hint) if each is not type(None)]
    return typing.get_origin(hint) or hint


def _converted(value: Any, kind: Any) -> Any:
    if kind is bool:
        return value if isinstance(value, bool) else None
    if isinstance(value, bool):
        return None
    if kind is int:
        return value if isinstance(value, int) else None
    if kind is float:
        return float(value) if isinstance(value, int | float) else None
    if kind is str:
        return None if value is None or isinstance(value, dict | list) else str(value)
    if kind is Path:
        return Path(value).expanduser() if isinstance(value, str | Path) else None
    if kind is tuple:
        if value is None:
            return ()
        entries = [value] if isinstance(value, str) else value
        return tuple(entries) if isinstance(entries, list | tuple) else None
    if kind is Mapping:
        return {} if value is None else dict(value) if isinstance(value, Mapping) else None
    return value


def _in_range(stated: _Key, value: Any) -> bool:
    if stated.choices is not None:
        return value in stated.choices
    if stated.at_least is not None:
        return bool(value >= stated.at_least)
    return stated.above is None or bool(value > stated.above)


def _wanted(stated: _Key, kind: Any) -> str:
    if stated.choices is not None:
        return f"choose from {', '.join(map(str, stated.choices))}"
    if kind is int:
        least = "" if stated.at_least is None else f" of at least {stated.at_least}"
        return f"use a whole number{least}"
    if kind is float:
        return "use a number" + ("" if stated.above is None else f" above {stated.above:g}")
    if kind is bool:
        return "use true or false"
    if kind is tuple:
        return "give a list, as [A, B]"
    if kind is Mapping:
        return "give keys and values, as {A: B}"
    return "give a text"
