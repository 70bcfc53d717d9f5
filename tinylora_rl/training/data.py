"""Writes the rows of an experiment as the parquet files that verl reads."""

from __future__ import annotations

from tinylora_rl.settings.experiment import Experiment
from tinylora_rl.tasks import (
    RunRows,
    benchmark_tasks,
    run_rows,
    validation_rows,
    write_parquet,
)


def load_rows(experiment: Experiment) -> RunRows:
    """Loads the training rows, and the held-out rows of the task and of further benchmarks.

    Raises:
        ConfigError: rows are missing, malformed or fewer than one batch.
    """
    task, validation = experiment.task, experiment.validation
    return run_rows(
        task,
        benchmark_tasks(task, validation.benchmarks),
        least=experiment.batch.prompts,
        limit=validation.rows,
        judge=experiment.grading.judge,
    )


def write_rows(experiment: Experiment) -> RunRows:
    """Writes `data.train_files` and `data.val_files`; returns the rows.

    Raises:
        ConfigError: see `load_rows`.
    """
    rows, validation = load_rows(experiment), experiment.validation
    asked = validation_rows(
        rows.held_out, samples=validation.samples or 0, greedy=validation.greedy
    )
    write_parquet(rows.train, experiment.batch.train_file)
    write_parquet(asked, experiment.batch.validation_file)
    return rows
