"""Rows on disk in the form verl's RLHFDataset reads."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from tinylora_rl.data.errors import DataError


def write_parquet(rows: Sequence[dict[str, Any]], path: str | Path) -> Path:
    """`path` holds exactly `rows`, or, after a crash, what it held before. Returns it as a Path.

    Nested values become lists and structs (a prompt is a list of {role, content}), which `datasets`
    gives back as the same Python objects. All rows must have the same keys, with values of the same
    types. Missing folders are made.
    """
    path = Path(path)
    if path.suffix != ".parquet":
        # verl picks the reader by the name's ending.
        raise DataError(f"{path}: the name must end in .parquet; rename the output file")
    if not rows:
        raise DataError(f"{path}: no rows to write; check the data set and its filters")
    table = pa.Table.from_pylist(list(rows))
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            pq.write_table(table, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    return path
