"""Imports a user's own Python files and modules, which register methods, tasks and judges.

    plugins=[my_judge.py]  plugins=[package.module]

Every process of a run imports them: the driver, Ray's workers and the grading processes. Give
absolute paths to processes that may have another working directory (`absolute`). A plugin runs as
the user, with all the user's rights.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import sys
import threading
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tinylora_rl.errors import ConfigError, first_line

_lock = threading.RLock()  # a module must be complete before another thread goes on without it
_loading: list[str] = []  # innermost last


def load(names: Sequence[str]) -> None:
    """Imports each plugin that this process has not imported yet, in order.

    Args:
        names: paths that end in `.py`, or names of modules.

    Raises:
        ConfigError: `plugins=NAME: reason; fix`.
    """
    for name in names:
        with _lock:
            _loading.extend(absolute([name]))
            try:
                if _is_path(name):
                    _import_file(name)
                else:
                    _import_module(name)
            finally:
                _loading.pop()


def names_of(value: Any) -> list[str]:
    """Returns the names that the configuration's `plugins` gives; ConfigError if it is no list."""
    entries = [] if value is None else [value] if isinstance(value, str) else value
    if not isinstance(entries, Sequence) or not all(isinstance(each, str) for each in entries):
        raise ConfigError(f"plugins={value}: give a list of files or modules, as [my_task.py]")
    return list(entries)


def current() -> str | None:
    """Returns the plugin that is being imported, for a registry to note; None outside of `load`."""
    return _loading[-1] if _loading else None


def absolute(names: Sequence[str]) -> list[str]:
    """Returns the names with absolute paths in place of relative ones."""
    return [str(_resolved(name)) if _is_path(name) else name for name in names]


def _is_path(name: str) -> bool:
    return name.endswith(".py")


def _resolved(name: str) -> Path:
    return Path(name).expanduser().resolve()


def _import_file(name: str) -> None:
    path = _resolved(name)
    # The same name for the same file in every process, so that its functions can be pickled.
    digest = hashlib.sha256(str(path).encode("utf-8", "surrogateescape")).hexdigest()[:12]
    module_name = f"tinylora_plugin_{path.stem}_{digest}"
    if module_name in sys.modules:
        return
    if not path.is_file():
        raise ConfigError(f"plugins={name}: {path} is no file; give the path of a Python file")
    spec = importlib.util.spec_from_file_location(module_name, path)
    assert spec is not None  # it is for a suffix that no loader knows
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[module_name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException as error:
        del sys.modules[module_name]
        if not isinstance(error, Exception | SystemExit):
            raise
        raise _failed(name, error, path) from error


def _import_module(name: str) -> None:
    try:
        importlib.import_module(name)
    except ModuleNotFoundError as error:
        if not f"{name}.".startswith(f"{error.name}."):
            raise _failed(name, error) from error
        raise ConfigError(
            f"plugins={name}: no such module; give the path of a .py file, or a module that "
            "PYTHONPATH finds"
        ) from error
    except (Exception, SystemExit) as error:
        raise _failed(name, error) from error


def _failed(name: str, error: BaseException, path: Path | None = None) -> ConfigError:
    frames = [f for f in traceback.extract_tb(error.__traceback__) if f.filename == str(path)]
    line = f" (line {frames[-1].lineno})" if frames else ""
    return ConfigError(
        f"plugins={name}: {type(error).__name__}: {first_line(error)}{line}; fix the plugin, or "
        "leave it out"
    )
