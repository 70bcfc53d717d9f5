"""The payload: a safetensors file with the one tensor v, written and read byte for byte.

The file's header follows from v's dtype and shape, so the reader compares it instead of parsing it:
a second tensor, other metadata, another dtype or a truncated file all differ from the only bytes
that can stand there. No torch, so that inspecting an adapter takes no second.

Format: https://github.com/huggingface/safetensors#format
"""

from __future__ import annotations

import json
import math
import struct
import sys
from array import array
from collections.abc import Sequence

PAYLOAD = "adapter.safetensors"
ITEM_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}
_SAFETENSORS_NAMES = {"float32": "F32", "bfloat16": "BF16", "float16": "F16"}


def num_bytes(dtype: str, shape: Sequence[int]) -> int:
    """Counts the bytes of the numbers alone."""
    return math.prod(shape) * ITEM_BYTES[dtype]


def encode(numbers: bytes, dtype: str, shape: Sequence[int]) -> bytes:
    """Returns the file that holds `numbers`, little-endian and row-major."""
    assert len(numbers) == num_bytes(dtype, shape), (len(numbers), dtype, shape)
    return _header(dtype, shape) + numbers


def decode(file: bytes, dtype: str, shape: Sequence[int]) -> bytes:
    """Returns the numbers in `file`, which holds v of this dtype and shape and nothing else.

    Raises:
        ValueError: it does not.
    """
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
