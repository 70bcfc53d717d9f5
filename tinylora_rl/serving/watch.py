"""A directory whose adapters are served: what lies there, and whether it changed."""

from __future__ import annotations

import os
from pathlib import Path

from tinylora_rl.artifact import MANIFEST
from tinylora_rl.artifact.payload import PAYLOAD
from tinylora_rl.serving.naming import adapter_dir

Stamp = tuple[tuple[int, int, int] | None, ...]
"""Inode, modification time and size of an adapter's two files; None for one that is not there."""


def look(directory: Path) -> dict[str, Stamp]:
    """{name: stamp} of every entry of `directory` in which a manifest lies, in order of the names.

    An adapter without its manifest is still being written. Names with a dot first are those of
    writers, too (`atomic.replacing_directory`).

    Raises:
        OSError: the directory cannot be read.
    """
    with os.scandir(directory) as entries:
        names = sorted(entry.name for entry in entries if not entry.name.startswith("."))
    stamps = {name: _stamp(adapter_dir(directory / name)) for name in names}
    return {name: stamp for name, stamp in stamps.items() if stamp[0] is not None}


def _stamp(directory: Path) -> Stamp:
    return tuple(_file_stamp(directory / name) for name in (MANIFEST, PAYLOAD))


def _file_stamp(path: Path) -> tuple[int, int, int] | None:
    try:
        status = path.stat()
    except OSError:  # not there, or not a folder above it
        return None
    return status.st_ino, status.st_mtime_ns, status.st_size
