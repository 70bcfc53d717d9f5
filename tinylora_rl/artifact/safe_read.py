"""Reads files of unknown origin: regular files of a bounded size, once, into memory."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from tinylora_rl.artifact.errors import ArtifactError


def read_bounded(path: Path, limit_bytes: int) -> bytes:
    """Returns the content of `path`, which is a regular file of at most `limit_bytes`.

    A link is followed, because the Hugging Face cache consists of links: what is read is checked by
    digest before it is used, and whoever publishes writes the checked bytes to new files. A pipe or
    a device behind the name is refused without being read.

    Raises:
        ArtifactError: the file is missing, is not a regular file, or is larger.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        raise ArtifactError(f"{path}: no such file") from None
    except OSError as error:
        raise ArtifactError(f"{path}: cannot be read: {error.strerror}") from None
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise ArtifactError(f"{path}: is not a regular file; nothing was read")
        if status.st_size > limit_bytes:
            raise ArtifactError(
                f"{path}: {status.st_size} bytes, at most {limit_bytes} are read; "
                "this is no file of an adapter"
            )
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            content = file.read(limit_bytes + 1)  # one more: the file may have grown since
    finally:
        os.close(descriptor)
    if len(content) > limit_bytes:
        raise ArtifactError(f"{path}: grew past {limit_bytes} bytes while it was read")
    return content
