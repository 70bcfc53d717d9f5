"""The rows of a run, as the parquet files that verl reads."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from omegaconf import DictConfig

from tinylora_rl.errors import ConfigError
from tinylora_rl.tasks import (
    arithmetic,
    benchmarks,
    gsm8k,
    math_dataset,
    template_named,
    usual_template,
    write_parquet,
)

Rows = list[dict[str, Any]]
DATA_SETS = ("arithmetic", "gsm8k", "math")


def prepare_datasets(config: DictConfig) -> tuple[int, int]:
    """`data.train_files` and `data.val_files` exist; returns their numbers of rows.

    Raises:
        ConfigError: see `load_datasets`.
    """
    train, test = load_datasets(config)
    validation = evaluation_rows(
        test, samples=config.task.eval_samples, greedy=config.task.eval_greedy
    )
    write_parquet(train, Path(config.data.train_files))
    write_parquet(validation, Path(config.data.val_files))
    return len(train), len(test)


def load_datasets(config: DictConfig) -> tuple[Rows, Rows]:
    """The training rows, and the held-out rows of the data set and of `task.eval_benchmarks`.

    Raises:
        ConfigError: no rows, or fewer than one batch.
    """
    train, test = _load(config.data, "train"), _load(config.data, "test")
    held_out = [_judged_by(test, config.task.judge)]
    held_out += [_asked_as_usual(config.data, name) for name in config.task.eval_benchmarks]
    sources = [rows[0]["data_source"] for rows in held_out if rows]
    for source in sources:
        if sources.count(source) > 1:
            raise ConfigError(f"task.eval_benchmarks: {source} stands there already; leave it out")
    test = [row for rows in held_out for row in rows[: config.task.eval_rows]]
    batch = config.data.train_batch_size
    if len(train) < batch:
        raise ConfigError(
            f"data.path={config.data.path}: {len(train)} training rows are fewer than one batch of "
            f"task.prompts_per_step={batch}; give more rows or a smaller batch"
        )
    if not test:
        raise ConfigError(
            f"data.path={config.data.path}: no rows to validate on; set task.eval_rows to null"
        )
    return train, test


def evaluation_rows(rows: Rows, *, samples: int, greedy: bool) -> Rows:
    """Each row once to be sampled `samples` times, and once to be decoded greedily.

    `__rollout_n__` is verl's column for the number of rollouts of a row; `extra_info.greedy` is
    read by the agent loop. The greedy rows are a data source of their own, so that verl's metrics
    tell them apart.
    """
    sampled = [_row(row, row["data_source"], samples, greedy=False) for row in rows if samples]
    decoded = [_row(row, f"{row['data_source']}_greedy", 1, greedy=True) for row in rows if greedy]
    return sampled + decoded


def _row(
    row: dict[str, Any], data_source: str, num_rollouts: int, *, greedy: bool
) -> dict[str, Any]:
    extra_info = {**row["extra_info"], "greedy": greedy}
    return {
        **row,
        "data_source": data_source,
        "extra_info": extra_info,
        "__rollout_n__": num_rollouts,
    }


def _load(data: DictConfig, split: Literal["train", "test"]) -> Rows:
    if data.name == "math" and split == "test":
        return _benchmark(data, "math500", data.template)
    try:
        if data.name == "gsm8k":
            return gsm8k.rows(split, data.path, data.template, check=data.check)
        if data.name == "math":
            return math_dataset.rows(data.split, data.path, data.template, check=data.check)
        if data.name == "arithmetic":
            # one split is disjoint from the other, and both from pre-training, whatever the seed
            seed = data.seed if split == "train" else arithmetic.HELD_OUT_SEED
            return arithmetic.rows(split, data[f"{split}_rows"], seed=seed)
    except ValueError as error:
        raise ConfigError(str(error)) from error
    raise AssertionError(data.name)  # refused by check_config


def _asked_as_usual(data: DictConfig, name: str) -> Rows:
    """A benchmark as an evaluation asks and grades it, so that curves and tables agree."""
    template = usual_template(name)
    return _judged_by(_benchmark(data, name, template), template_named(template).headline)


def _benchmark(data: DictConfig, name: str, template: str) -> Rows:
    try:
        return benchmarks.rows(name, data.path, template, check=data.check)
    except ValueError as error:
        raise ConfigError(f"task.eval_benchmarks: {error}") from error


def _judged_by(rows: Rows, judge: str) -> Rows:
    """`extra_info.judge` tells the reward function whose verdict is these rows' accuracy."""
    return [{**row, "extra_info": {**row["extra_info"], "judge": judge}} for row in rows]
