"""Counts the questions behind a held-out accuracy, for its interval."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from tinylora_rl.runs.directory import RunDirectory, held_out


def count_questions(run: RunDirectory) -> dict[str, int]:
    """Returns {name as `held_out` has it: questions}; empty where the run kept nothing to count.

    `train` keeps the rows that it validates on, each decoding under a data source of its own; `sft`
    the graded responses.
    """
    graded = sorted(run.samples.glob("*.items.jsonl"), key=lambda file: (len(file.name), file.name))
    if graded:
        return _by_name(_of_responses(graded[-1]))
    parquet = run.data / "test.parquet"
    return _by_name(_of_rows(parquet)) if parquet.is_file() else {}


def _of_responses(path: Path) -> Counter[str]:
    indices = set()
    for line in path.read_bytes().split(b"\n")[:-1]:  # without the torn end of a killed run
        item = json.loads(line)
        indices.add((item["benchmark"] + ("_greedy" if item["greedy"] else ""), item["index"]))
    return Counter(source for source, _ in indices)


def _of_rows(path: Path) -> Counter[str]:
    from pyarrow import parquet

    with parquet.ParquetFile(path) as file:
        if "data_source" not in file.schema_arrow.names:
            return Counter()
        return Counter(file.read(columns=["data_source"])["data_source"].to_pylist())


def _by_name(counts: Mapping[str, int]) -> dict[str, int]:
    # held_out knows how the metrics of these sources are named
    row = {f"val-core/{source}/acc/mean@1": count for source, count in counts.items()}
    return {name: int(count) for name, count in held_out(row).items()}
