"""Writes rows to disk in the form that verl's RLHFDataset reads."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from tinylora_rl.atomic import write_bytes
from tinylora_rl.errors import ConfigError

_NULLABLE = {"tolerance": pa.float64()}


def write_parquet(rows: Sequence[Mapping[str, Any]], path: str | Path) -> Path:
    """Writes exactly `rows` to `path`, completely or not at all; returns the path.

    Nested values become lists and structs (a prompt is a list of {role, content}), which `datasets`
    gives back as the same Python objects. All rows must have the same keys, with values of the same
    types; a tolerance that no row has is stored as a float all the same, so that files can be
    joined. Missing folders are made.
    """
    path = Path(path)
    if path.suffix != ".parquet":
        # verl picks the reader by the name's ending.
        raise ConfigError(f"{path}: the name must end in .parquet; rename the output file")
    if not rows:
        raise ConfigError(f"{path}: no rows to write; check the data set and its filters")
    inferred = pa.Table.from_pylist(list(rows)).schema
    table = pa.Table.from_pylist(list(rows), schema=pa.schema([_typed(f) for f in inferred]))
    file = pa.BufferOutputStream()
    pq.write_table(table, file)
    write_bytes(path, file.getvalue().to_pybytes())
    return path


def _typed(field: pa.Field) -> pa.Field:
    """Give the fields of `_NULLABLE` their type where pyarrow saw no value to infer it from."""
    if pa.types.is_struct(field.type):
        return field.with_type(pa.struct([_typed(child) for child in field.type]))
    if pa.types.is_null(field.type):
        return field.with_type(_NULLABLE.get(field.name, field.type))
    return field
