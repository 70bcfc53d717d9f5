"""Files and directories that are complete or absent, whatever happens while they are written."""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


class DiskFullError(OSError):
    """A file system has no room left. One line: path, bytes free, mend."""


@contextmanager
def naming_full_disk(path: Path) -> Iterator[None]:
    """Inside, an error for want of space becomes a `DiskFullError` that names `path`."""
    try:
        yield
    except OSError as error:
        if isinstance(error, DiskFullError) or error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise full_disk(path) from error


def full_disk(path: Path) -> DiskFullError:
    """The error that names `path` and how little room is left beside it."""
    return DiskFullError(
        f"{path}: no space left on the device, {free_bytes(path)} bytes free; make room and give "
        "the same command again"
    )


def free_bytes(path: Path) -> int:
    """What this user may still write to the file system of `path`, which need not exist."""
    there = next(folder for folder in (path, *path.resolve().parents) if folder.exists())
    status = os.statvfs(there)
    return status.f_bavail * status.f_frsize


@contextmanager
def replacing_directory(directory: Path) -> Iterator[Path]:
    """A fresh sibling to write into, which takes the place of `directory` when the block ends well.

    An existing `directory` is moved aside first and removed afterwards; a reader sees the old one,
    the new one or, for an instant, none, but never a mixture. What a killed writer left behind is
    removed by the next one; a writer that fails leaves nothing.

    Raises:
        DiskFullError: there was no room for what the block wrote.
    """
    directory = Path(directory).resolve()  # where it is a link, what it points to is replaced
    directory.parent.mkdir(parents=True, exist_ok=True)
    fresh, stale = (directory.with_name(f".{directory.name}.{state}") for state in ("new", "old"))
    if not directory.exists() and stale.exists():
        os.replace(stale, directory)  # a writer was killed between its two renames
    for leftover in (fresh, stale):
        shutil.rmtree(leftover, ignore_errors=True)
    try:
        with naming_full_disk(directory):
            fresh.mkdir()
            yield fresh
            for path in fresh.rglob("*"):
                sync(path)
            sync(fresh)
    except BaseException:
        shutil.rmtree(fresh, ignore_errors=True)
        raise
    if directory.exists():
        os.replace(directory, stale)
    os.replace(fresh, directory)
    sync(directory.parent)
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
    with replacing_directory(directory) as fresh:
        yield fresh


def write_bytes(path: Path, content: bytes) -> None:
    """`path` holds `content` completely, or what it held before; missing folders are made.

    Raises:
        DiskFullError: there was no room for it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # the process's own name: two writers must not share a half-written file
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with naming_full_disk(path), open(partial, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
    sync(path.parent)  # the rename itself


def write_text(path: Path, text: str) -> None:
    """`write_bytes` of `text` in UTF-8."""
    write_bytes(path, text.encode())


def write_json(path: Path, value: Any) -> None:
    """`write_text` of `value` as JSON."""
    write_text(path, json.dumps(value, indent=1) + "\n")


def append_line(path: Path, line: str, *, durable: bool = False) -> None:
    """`path` has `line`, ended, as its last, or is as it was.

    Args:
        durable: whether the line shall survive the machine, and not just this process.

    Raises:
        DiskFullError: there was no room for it.
    """
    content = f"{line}\n".encode()
    with naming_full_disk(path):
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        try:
            size = os.fstat(descriptor).st_size
            try:
                # one write of one line: a killed writer leaves at most the last one torn
                if os.write(descriptor, content) < len(content):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            except OSError:
                os.ftruncate(descriptor, size)
                raise
            if durable:
                os.fsync(descriptor)
        finally:
            os.close(descriptor)
    if durable and not size:
        sync(path.parent)  # the file is new


def read_json(path: Path) -> dict[str, Any] | None:
    """The object in `path`; None where there is no readable file that holds a JSON object."""
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError):  # absent or forbidden; cut or overwritten by a damaged disk
        return None
    return content if isinstance(content, dict) else None


def sync(path: Path) -> None:
    """What the file holds, or which names the folder has, survives the machine."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
