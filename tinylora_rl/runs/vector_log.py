"""Writes and reads `v.jsonl`: the exact v after every step, a whole run in a few kilobytes.

One line a step, on the disk before the step's checkpoint: `{"step": 3, "v": [[...], ...], "sha256":
"..."}`. Nine significant digits determine a float32; the digest is of their bytes, little-endian.

Legend: G groups, U numbers per group.
"""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tinylora_rl.atomic import append_line, write_text

Rows = list[list[float]]


class VectorLog:
    """Appends to the file at `path`, for a run that goes on after step `last_step`.

    Lines of later steps, and one torn by a kill, are removed first: every step is there once.
    """

    def __init__(self, path: Path, last_step: int) -> None:
        self._path = path
        if not path.exists():
            return
        whole = path.read_text(encoding="utf-8")
        kept = "".join(f"{line}\n" for line, row in _lines(whole) if row["step"] <= last_step)
        if kept != whole:
            write_text(path, kept)

    def append(self, step: int, v_GU: Sequence[Sequence[float]]) -> None:
        """Writes the line of `step` to the disk: finite float32 numbers; DiskFullError if full."""
        row = {
            "step": step,
            "v": [[float(f"{number:.9g}") for number in group] for group in v_GU],
            "sha256": vector_sha256(v_GU),
        }
        append_line(self._path, json.dumps(row, allow_nan=False), durable=True)


def read_vectors(path: Path) -> dict[int, Rows]:
    """Returns {step: v}, each number an exact float32. A torn last line is skipped.

    Raises:
        ValueError: a line's numbers do not match its digest.
    """
    vectors = {}
    for _, row in _lines(path.read_text(encoding="utf-8")):
        v_GU = [list(_float32(group)) for group in row["v"]]
        if vector_sha256(v_GU) != row["sha256"]:
            raise ValueError(f"{path}: the line of step {row['step']} is damaged: another sha256")
        vectors[int(row["step"])] = v_GU
    return vectors


def vector_sha256(v_GU: Sequence[Sequence[float]]) -> str:
    """Returns the digest of the bits of v."""
    return hashlib.sha256(b"".join(map(_bytes, v_GU))).hexdigest()


def _lines(text: str) -> list[tuple[str, dict[str, Any]]]:
    """Returns the complete lines, each with its object; a line torn by a kill is left out."""
    found = []
    for line in text.splitlines():
        try:
            found.append((line, json.loads(line)))
        except json.JSONDecodeError:
            continue
    return found


def _bytes(numbers: Sequence[float]) -> bytes:
    return struct.pack(f"<{len(numbers)}f", *numbers)


def _float32(numbers: Sequence[float]) -> tuple[float, ...]:
    return struct.unpack(f"<{len(numbers)}f", _bytes(numbers))
