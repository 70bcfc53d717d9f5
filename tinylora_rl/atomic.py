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
    directory = Path(directory).resolve()  # where it is a link, what it points to is replaced
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


@contextmanager
def new_directory(directory: Path) -> Iterator[Path]:
    """A fresh sibling that becomes `directory` when the block ends well; nothing is replaced.

    Raises:
        ValueError: `directory` exists and is not an empty folder.
    """
    directory = Path(directory).resolve()
    if directory.exists() and not (directory.is_dir() and not any(directory.iterdir())):
        raise ValueError(f"out={directory}: exists; give a new folder")
    try:
        with replacing_directory(directory) as fresh:
            yield fresh
    except BaseException:
        shutil.rmtree(directory.with_name(f".{directory.name}.new"), ignore_errors=True)
        raise


def write_bytes(path: Path, content: bytes) -> None:
    """`path` holds `content` completely, or what it held before; missing folders are made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # the process's own name: two writers must not share a half-written file
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with open(partial, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
    _sync(path.parent)  # the rename itself


def write_text(path: Path, text: str) -> None:
    """`write_bytes` of `text` in UTF-8."""
    write_bytes(path, text.encode())


def write_json(path: Path, value: Any) -> None:
    """`write_text` of `value` as JSON."""
    write_text(path, json.dumps(value, indent=1) + "\n")


def read_json(path: Path) -> dict[str, Any] | None:
    """The object in `path`; None where there is no readable file that holds a JSON object."""
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError):  # absent or forbidden; cut or overwritten by a damaged disk
        return None
    return content if isinstance(content, dict) else None


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
