"""The two files of an adapter: their names, bounded reads of them, v byte for byte. No torch.

The payload is a safetensors file with v alone. Its header follows from v's dtype and shape, so the
reader compares it instead of parsing it: a second tensor, other metadata, another dtype or a
truncated file all differ from the only bytes that can stand there.

Format: https://github.com/huggingface/safetensors#format
"""

from __future__ import annotations

import json
import math
import os
import re
import stat
import struct
import sys
from array import array
from collections.abc import Sequence
from pathlib import Path

MANIFEST = "manifest.json"
PAYLOAD = "adapter.safetensors"
ITEM_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}
_SAFETENSORS_NAMES = {"float32": "F32", "bfloat16": "BF16", "float16": "F16"}
IN_RUN = "adapter"
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
NAME_RULE = "letters, digits, '.', '_' and '-', at most 100, a letter or digit first"
"""Names are shown, requested by clients, and become names of files."""


class ArtifactError(ValueError):
    """Refuses an adapter directory. The message is one line: the file or field, the fix."""


def adapter_dir(directory: str | Path) -> Path:
    """Returns `directory`, or the newest adapter in it where it is a run directory."""
    directory = Path(directory)
    inside = directory / IN_RUN
    return inside if not (directory / MANIFEST).exists() and inside.is_dir() else directory


def default_name(directory: Path) -> str:
    """Returns the name of an adapter without one: its run's, or its own directory's."""
    directory = directory.resolve()
    return (directory.parent if directory.name == IN_RUN else directory).name


def read_bounded(path: Path, limit_bytes: int) -> bytes:
    """Returns the content of `path`, which is a regular file of at most `limit_bytes`.

    A link is followed, because the Hugging Face cache consists of links: what is read is checked by
    digest before it is used. A pipe or a device is refused without being read, by ArtifactError.
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


def num_bytes(dtype: str, shape: Sequence[int]) -> int:
    """Counts the bytes of the numbers alone."""
    return math.prod(shape) * ITEM_BYTES[dtype]


def encode(numbers: bytes, dtype: str, shape: Sequence[int]) -> bytes:
    """Returns the file that holds `numbers`, little-endian and row-major."""
    assert len(numbers) == num_bytes(dtype, shape), (len(numbers), dtype, shape)
    return _header(dtype, shape) + numbers


def decode(file: bytes, dtype: str, shape: Sequence[int]) -> bytes:
    """Returns the numbers in `file`; ValueError unless it holds v of this shape alone."""
    header = _header(dtype, shape)
    wanted = len(header) + num_bytes(dtype, shape)
    if len(file) != wanted:
        raise ValueError(f"{len(file)} bytes, v of {dtype} {list(shape)} alone takes {wanted}")
    if not file.startswith(header):
        raise ValueError(f"does not hold v of {dtype} {list(shape)} and nothing else")
    return file[len(header) :]


def values(numbers: bytes, dtype: str) -> list[float]:
    """Returns `numbers` one by one, exactly."""
    if dtype == "float16":
        return list(struct.unpack(f"<{len(numbers) // 2}e", numbers))
    if dtype == "bfloat16":  # the upper half of a float32
        halves = (numbers[at : at + 2] for at in range(0, len(numbers), 2))
        numbers = b"".join(b"\0\0" + half for half in halves)
    floats = array("f", numbers)
    if sys.byteorder == "big":
        floats.byteswap()
    return floats.tolist()


def _header(dtype: str, shape: Sequence[int]) -> bytes:
    entry = {
        "dtype": _SAFETENSORS_NAMES[dtype],
        "shape": list(shape),
        "data_offsets": [0, num_bytes(dtype, shape)],
    }
    text = json.dumps({"v": entry}, separators=(",", ":")).encode("ascii")
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text
