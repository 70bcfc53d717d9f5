"""Files and directories that are complete or absent, whatever happens while they are written."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


@contextmanager
def replacing_directory(directory: Path) -> Iterator[Path]:
    """A fresh sibling to write into, which takes the place of `directory` when the block ends well.

    An existing `directory` is moved aside first and removed afterwards; a reader sees the old one,
    the new one or, for an instant, none, but never a mixture. What a killed writer left behind is
    removed by the next one.
    """
    directory = Path(directory)
    directory.parent.mkdir(parents=True, exist_ok=True)
    fresh, stale = (directory.with_name(f".{directory.name}.{state}") for state in ("new", "old"))
    if not directory.exists() and stale.exists():
        os.replace(stale, directory)  # a writer was killed between its two renames
    for leftover in (fresh, stale):
        shutil.rmtree(leftover, ignore_errors=True)
    fresh.mkdir()
    yield fresh
    for path in fresh.rglob("*"):
        _sync(path)
    _sync(fresh)
    if directory.exists():
        os.replace(directory, stale)
    os.replace(fresh, directory)
    _sync(directory.parent)
    shutil.rmtree(stale, ignore_errors=True)


def write_json(path: Path, value: Any) -> None:
    """`value` as JSON in `path`, atomically."""
    write_text(path, json.dumps(value, indent=1) + "\n")


def write_text(path: Path, text: str) -> None:
    """`path` holds `text`, or what it held before."""
    fresh = path.with_name(f".{path.name}.new")
    fresh.write_text(text, encoding="utf-8")
    _sync(fresh)
    os.replace(fresh, path)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
