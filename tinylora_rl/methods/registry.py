"""The known methods by name."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any, TypeVar

from tinylora_rl.errors import ConfigError
from tinylora_rl.methods.base import Method

METHODS: dict[str, type[Method]] = {}
"""{the value of `method`: its class}, filled as the files of the methods are imported."""

M = TypeVar("M", bound=type[Method])


def register_method(method: M) -> M:
    """Makes a subclass of `Method` known under its `name`; used as a decorator."""
    METHODS[method.name] = method
    return method


def make_method(name: str, options: Mapping[str, Any]) -> Method:
    """Builds the method `name` from the configuration's node `adapter`.

    Raises:
        ConfigError: there is no such method, or an option is wrong.
    """
    if name not in known_methods():
        raise ConfigError(f"method={name}: choose from {', '.join(known_methods())}")
    return METHODS[name].from_options(options)


def known_methods() -> list[str]:
    """Imports the files of our own methods and returns the names of all."""
    for ours in ("full", "lora", "tinylora"):
        import_module(f"tinylora_rl.methods.{ours}")
    return sorted(METHODS)


def method_of_run(config: Mapping[str, Any]) -> Method:
    """Builds the method that a finished run's `config.yaml` states.

    Raises:
        ConfigError: there is no such method any more, or an option is wrong.
    """
    return make_method(name_of_run(config), config.get("adapter") or {})


def name_of_run(config: Mapping[str, Any]) -> str:
    """Returns the name of the method that a finished run's `config.yaml` states, known or not.

    In configurations from before the key `method` the node `adapter` decides.
    """
    options = config.get("adapter") or {}
    name = config.get("method")
    if name is None:
        name = "full" if not options else "tinylora" if "u" in options else "lora"
    return str(name)
