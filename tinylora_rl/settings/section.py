"""Sections: frozen dataclasses whose fields know their key in the configuration and its range.

Both are checked when a section is made, so that a wrong value is one line with key, value and fix.
"""

from __future__ import annotations

import dataclasses
import math
import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from tinylora_rl.base_model import BaseModel
from tinylora_rl.errors import ConfigError, first_line


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


@contextmanager
def unresolved_as_config_error() -> Iterator[None]:
    """Turns an error of OmegaConf into a ConfigError.

    One that a function of an interpolation raised itself, such as of a user's plugin, stays.
    """
    try:
        yield
    except OmegaConfBaseException as error:
        cause: BaseException | None = error
        while cause is not None and not isinstance(cause, ConfigError):
            cause = cause.__cause__ or cause.__context__
        if cause is None:
            cause = ConfigError(f"{error.full_key}: {first_line(error)}")
        raise cause from error


@dataclasses.dataclass(frozen=True, kw_only=True)
class _BaseModel(Section):
    path: str = key("base_model.path")
    revision: str | None = key("base_model.revision")
    chat_template_kwargs: Mapping[str, Any] = key("base_model.chat_template_kwargs")


def base_model(config: DictConfig) -> BaseModel:
    """Reads the base model that `base_model` names; nothing is downloaded."""
    stated = _BaseModel.read(config)
    options = {str(name): value for name, value in stated.chat_template_kwargs.items()}
    return BaseModel(stated.path, stated.revision, chat_template_kwargs=options)


def whole_number(path: str, value: Any, hint: Any = int) -> Any:
    """Returns the value of the key `path`; raises ConfigError unless it is a whole number, as 7e9.

    Args:
        hint: `int`, or `int | None` where null is a value.
    """
    if isinstance(value, float) and value.is_integer():
        value = int(value)
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
        raise ConfigError(f"{stated.path}={_as_typed(value)}: {wanted}{or_null}")
    return converted


def _as_typed(value: Any) -> str:
    """Returns a value as a command line has it, in one line."""
    plain = {None: "null", True: "true", False: "false"}
    if value is None or isinstance(value, bool):
        return plain[value]
    return str(value).replace("\n", "\\n")


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
        return float(value) if isinstance(value, int | float) and math.isfinite(value) else None
    if kind is str:
        return None if value is None or isinstance(value, dict | list) else str(value)
    if kind is Path:
        return Path(value).expanduser() if isinstance(value, str | Path) else None
    if kind is tuple:
        if value is None:
            return ()
        entries = [value] if isinstance(value, str) else value
        is_list = isinstance(entries, list | tuple) and all(isinstance(e, str) for e in entries)
        return tuple(entries) if is_list else None
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
        least = "" if stated.at_least is None else f" of at least {stated.at_least}"
        return f"use a number{least}" + ("" if stated.above is None else f" above {stated.above:g}")
    if kind is bool:
        return "use true or false"
    if kind is tuple:
        return "give a list of texts, as [A, B]"
    if kind is Mapping:
        return "give keys and values, as {A: B}"
    return "give a text"
