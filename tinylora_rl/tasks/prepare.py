"""The rows of a run: to train on, to measure on, and as the parquet files that verl reads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from tinylora_rl.atomic import write_bytes
from tinylora_rl.errors import ConfigError
from tinylora_rl.tasks.row import Row
from tinylora_rl.tasks.task import Task, make_task

_NULLABLE = {"tolerance": pa.float64()}


def training_rows(task: Task, *, least: int = 1) -> list[Row]:
    """Returns the training rows; ConfigError if they are fewer than `least`, one update's."""
    rows = task.rows("train")
    if len(rows) < least:
        raise ConfigError(
            f"data.path={_path(task)}: {len(rows)} training rows are fewer than one batch of "
            f"task.prompts_per_step={least}; give more rows or a smaller batch"
        )
    return rows


def benchmark_tasks(task: Task, names: Sequence[str]) -> list[Task]:
    """Returns the benchmarks that a run of `task` also validates on, as an evaluation asks them.

    Their files are looked for in the folder of `task`, if it may hold them, else on hub and web.
    """
    options = {"path": _path(task), "check": getattr(task, "check", True)}
    return [make_task(name, options, split="test", key="task.eval_benchmarks") for name in names]


def held_out_rows(
    task: Task,
    benchmarks: Sequence[Task] = (),
    *,
    limit: int | None = None,
    judge: str | None = None,
) -> list[Row]:
    """Returns the held-out rows of `task` and of each benchmark, the first `limit` of each.

    Every row names its judge: `judge` for `task` (None: the task's own), and for a benchmark the
    headline judge of an evaluation, so that curves and tables agree. ConfigError if they are
    missing or malformed, or two sets have one data source.
    """
    held_out = [_judged_by(task.rows("test"), judge or task.judge)]
    for benchmark in benchmarks:
        try:
            rows = benchmark.rows("test")
        except ConfigError as error:
            raise ConfigError(f"task.eval_benchmarks: {error}") from error
        held_out.append(_judged_by(rows, benchmark.headline))
    sources = [rows[0]["data_source"] for rows in held_out if rows]
    for source in sources:
        if sources.count(source) > 1:
            raise ConfigError(f"task.eval_benchmarks: {source} stands there already; leave it out")
    first = [row for rows in held_out for row in rows[:limit]]
    if not first:
        raise ConfigError(
            f"data.path={_path(task)}: no rows to validate on; set task.eval_rows to null"
        )
    return first


class RunRows(NamedTuple):
    """The rows of a run, and lines about them for its user."""

    train: list[Row]
    held_out: list[Row]
    remarks: list[str]


def run_rows(
    task: Task,
    benchmarks: Sequence[Task] = (),
    *,
    least: int = 1,
    limit: int | None = None,
    judge: str | None = None,
) -> RunRows:
    """Returns `training_rows` and `held_out_rows`, and counts the questions that are in both."""
    train = training_rows(task, least=least)
    held_out = held_out_rows(task, benchmarks, limit=limit, judge=judge)
    remarks = task.remarks()
    trained_on = {_question(row) for row in train}
    if num_shared := sum(_question(row) in trained_on for row in held_out):
        remarks.append(
            f"data.name={task.name}: {num_shared} of {len(held_out)} held-out questions are "
            "trained on, too; their accuracy says nothing about other questions"
        )
    return RunRows(train, held_out, remarks)


def validation_rows(rows: Sequence[Row], *, samples: int, greedy: bool) -> list[Row]:
    """Returns each row once to be sampled `samples` times, and once to be decoded greedily.

    `__rollout_n__` is verl's column for the number of rollouts of a row; `extra_info.greedy` is
    read by the agent loop. The greedy rows are a data source of their own, so that verl's metrics
    keep them apart.
    """
    sampled = [_rollout(row, row["data_source"], samples, greedy=False) for row in rows if samples]
    decoded = [_rollout(row, f"{row['data_source']}_greedy", 1, greedy=True) for row in rows]
    return sampled + (decoded if greedy else [])


def write_parquet(rows: Sequence[Mapping[str, Any]], path: str | Path) -> Path:
    """Writes `rows` to `path`, completely or not at all, as verl's RLHFDataset reads them.

    All rows must have the same keys, with values of the same types; a tolerance that no row has is
    stored as a float all the same, so that files can be joined. Returns `path`.
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
    """Gives the fields of `_NULLABLE` their type where pyarrow saw no value."""
    if pa.types.is_struct(field.type):
        return field.with_type(pa.struct([_typed(child) for child in field.type]))
    if pa.types.is_null(field.type):
        return field.with_type(_NULLABLE.get(field.name, field.type))
    return field


def _rollout(row: Row, data_source: str, num_rollouts: int, *, greedy: bool) -> Row:
    return {
        **row,
        "data_source": data_source,
        "extra_info": {**row["extra_info"], "greedy": greedy},
        "__rollout_n__": num_rollouts,
    }


def _judged_by(rows: Sequence[Row], judge: str) -> list[Row]:
    return [{**row, "extra_info": {**row["extra_info"], "judge": judge}} for row in rows]


def _question(row: Row) -> str:
    return " ".join(row["extra_info"]["question"].split())


def _path(task: Task) -> str | None:
    return getattr(task, "path", None) if task.shares_path else None
