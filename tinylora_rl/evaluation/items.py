"""Keeps every graded response on disk, one JSON object a line, appended as it is graded.

A killed evaluation leaves whole lines and at most one torn at the end, which the next start cuts.
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from tinylora_rl.evaluation.plan import Key


class ItemsFile:
    """`items.jsonl` of one evaluation, open for appending."""

    def __init__(self, path: Path) -> None:
        self._path = path
        _cut_torn_line(path)
        self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)

    def done(self) -> set[Key]:
        return {key_of(item) for item in read_items(self._path)}

    def append(self, items: Iterable[Mapping[str, Any]]) -> None:
        """Appends the items, all of them or, where the disk is full or fails (OSError), none."""
        # ensure_ascii: a lone surrogate in a response is written as an escape, never refused
        lines = "".join(json.dumps(item, ensure_ascii=True) + "\n" for item in items)
        rest = memoryview(lines.encode())
        end = os.fstat(self._descriptor).st_size
        try:
            while rest:
                rest = rest[os.write(self._descriptor, rest) :]
        except OSError:
            os.ftruncate(self._descriptor, end)
            raise

    def close(self) -> None:
        os.fsync(self._descriptor)
        os.close(self._descriptor)

    def __enter__(self) -> ItemsFile:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()


def read_items(path: Path) -> Iterator[dict[str, Any]]:
    """Yields the items in `path` one at a time: together they may not fit into memory."""
    with path.open(encoding="utf-8") as file:
        for number, line in enumerate(file, start=1):
            try:
                yield json.loads(line)
            except ValueError as error:
                raise ValueError(f"{path}: line {number} is damaged: {error}") from error


def key_of(item: Mapping[str, Any]) -> Key:
    return Key(**{field.name: item[field.name] for field in dataclasses.fields(Key)})


def _cut_torn_line(path: Path) -> None:
    if not path.exists():
        return
    with path.open("rb+") as file:
        end = file.seek(0, os.SEEK_END)
        block = 1 << 16
        position = end
        while position > 0:
            start = max(0, position - block)
            file.seek(start)
            newline = file.read(position - start).rfind(b"\n")
            if newline >= 0:
                file.truncate(start + newline + 1)
                return
            position = start
        file.truncate(0)
