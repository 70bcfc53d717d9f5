"""Writes files and directories that are complete or absent, wherever a writer is killed."""

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
    """Reports a full file system in one line: path, bytes free, fix."""


@contextmanager
def naming_full_disk(path: Path) -> Iterator[None]:
    """Turns an error for want of space inside the block into a `DiskFullError` for `path`."""
    try:
        yield
    except OSError as error:
        if isinstance(error, DiskFullError) or error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise full_disk(path) from error


def full_disk(path: Path) -> DiskFullError:
    """Returns the error for `path`, with the bytes left on its file system."""
    return DiskFullError(
        f"{path}: no space left on the device, {free_bytes(path)} bytes free; make room and give "
        "the same command again"
    )


def free_bytes(path: Path) -> int:
    """Returns the bytes this user may still write beside `path`, which need not exist."""
    there = next(folder for folder in (path, *path.resolve().parents) if folder.exists())
    status = os.statvfs(there)
    return status.f_bavail * status.f_frsize


@contextmanager
def replacing_directory(directory: Path) -> Iterator[Path]:
    """Yields a new sibling folder, which replaces `directory` when the block ends without an error.

    An existing `directory` is moved aside first and removed afterwards; a reader sees the old one,
    the new one or, for an instant, none, but never a mixture. The leftovers of a killed writer are
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
    """Yields a new sibling folder, which becomes `directory`. It replaces nothing.

    Raises:
        ValueError: `directory` exists and is not an empty folder.
    """
    directory = Path(directory).resolve()
    if directory.exists() and not (directory.is_dir() and not any(directory.iterdir())):
        raise ValueError(f"out={directory}: exists; give a new folder")
    with replacing_directory(directory) as fresh:
        yield fresh


def write_bytes(path: Path, content: bytes) -> None:
    """Replaces the content of `path`, completely or not at all; makes missing folders.

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
    """Writes `text` in UTF-8, as `write_bytes` does."""
    write_bytes(path, text.encode())


def write_json(path: Path, value: Any) -> None:
    """Writes `value` as JSON, as `write_bytes` does."""
    write_text(path, json.dumps(value, indent=1) + "\n")


def append_line(path: Path, line: str, *, durable: bool = False) -> None:
    """Appends `line` and its end, completely or not at all.

    Args:
        durable: True to flush it to the disk, so that it survives a crash of the machine too.

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
    """Returns the JSON object in `path`; None where there is no readable file with one."""
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError):  # absent or forbidden; cut or overwritten by a damaged disk
        return None
    return content if isinstance(content, dict) else None


def sync(path: Path) -> None:
    """Flushes a file's content, or a folder's list of names, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
