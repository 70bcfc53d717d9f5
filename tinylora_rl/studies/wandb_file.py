"""A W&B run directory read back from its own file, without network, account or server.

`run-<id>.wandb` is a LevelDB log (https://github.com/google/leveldb/blob/main/doc/log_format.md)
with a header of its own; each record is a protocol buffer whose definition wandb ships. wandb 0.31
has no reader of it in Python; the format has not changed since 2020, and the header says so.
"""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tinylora_rl.errors import ConfigError
from tinylora_rl.studies.records import (
    RunRecord,
    State,
    logged_parameters,
    state_by_steps,
)
from tinylora_rl.studies.trained import trained_numbers

HEADER = struct.Struct("<4sHB")
IDENTITY = (b":W&B", 0xBEE1, 0)
CHUNK = struct.Struct("<IHB")  # checksum, bytes, kind
FULL, FIRST, MIDDLE, LAST = 1, 2, 3, 4
BLOCK_BYTES = 1 << 15


def find_wandb_file(path: Path) -> Path | None:
    """The `.wandb` file that `path` is, or the one in the W&B run directory that it is."""
    if path.is_file():
        return path if path.suffix == ".wandb" else None
    return next(iter(sorted(path.glob("run-*.wandb"))), None)


def read_wandb_file(path: Path, name: str | None = None) -> RunRecord:
    """The run in the `.wandb` file `path`: configuration and history, as verl logged them.

    A file that ends in the middle of a record, as a killed run's does, counts up to there.

    Raises:
        ConfigError: not such a file, a checksum that does not hold, or no configuration in it.
        ImportError: wandb is not installed.
    """
    from google.protobuf.message import DecodeError
    from wandb.proto.wandb_internal_pb2 import Record  # type: ignore[attr-defined]

    config: dict[str, Any] = {}
    steps: dict[int, dict[str, Any]] = {}
    state: State | None = None
    for content in _records(path):
        record = Record()
        try:
            record.ParseFromString(content)
        except DecodeError as error:
            raise ConfigError(
                f"{path}: a record that wandb does not know ({error}); read it with the wandb "
                "that wrote it, or upgrade"
            ) from error
        kind = record.WhichOneof("record_type")
        if kind == "run":
            _update(config, record.run.config.update)
        elif kind == "config":
            _update(config, record.config.update)
        elif kind == "history":
            row = {_key(item): json.loads(item.value_json) for item in record.history.item}
            step = int(row.pop("_step", record.history.step.num))
            steps.setdefault(step, {"step": step}).update(row)
        elif kind == "exit":
            state = "finished" if record.exit.exit_code == 0 else "failed"
    config.pop("_wandb", None)
    if not config:
        raise ConfigError(f"{path}: no configuration in it; give a run that verl logged")
    metrics = [steps[step] for step in sorted(steps)]
    trained, _ = trained_numbers(config, None, logged_parameters(metrics))
    return RunRecord(
        name=name or path.stem,
        source=str(path),
        config=config,
        metrics=metrics,
        state=state or state_by_steps(config, metrics),
        trained=trained,
    )


def _update(config: dict[str, Any], items: Any) -> None:
    for item in items:
        node = config
        *parents, last = list(item.nested_key) or [item.key]
        for parent in parents:
            node = node.setdefault(parent, {})
        node[last] = json.loads(item.value_json)


def _key(item: Any) -> str:
    return str(item.key or ".".join(item.nested_key))


def _records(path: Path) -> Iterator[bytes]:
    content = path.read_bytes()
    if len(content) < HEADER.size or HEADER.unpack_from(content) != IDENTITY:
        raise ConfigError(f"{path}: no W&B log of version 0; give a run-<id>.wandb")
    position, parts = HEADER.size, b""
    while position < len(content):
        left_in_block = BLOCK_BYTES - position % BLOCK_BYTES
        if left_in_block < CHUNK.size:  # zeros up to the next block
            position += left_in_block
            continue
        if position + CHUNK.size > len(content):
            return
        checksum, size, kind = CHUNK.unpack_from(content, position)
        position += CHUNK.size
        data = content[position : position + size]
        if len(data) < size or (checksum, size, kind) == (0, 0, 0):
            return
        if zlib.crc32(bytes([kind]) + data) != checksum:
            raise ConfigError(f"{path} byte {position}: checksum differs; take another copy")
        position += size
        parts = data if kind in (FULL, FIRST) else parts + data
        if kind in (FULL, LAST):
            yield parts
