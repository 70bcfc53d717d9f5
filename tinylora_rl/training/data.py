"""Writes the rows of an experiment as the parquet files that verl reads."""

from __future__ import annotations

from tinylora_rl.settings.experiment import Experiment
from tinylora_rl.tasks import (
    Row,
    benchmark_tasks,
    held_out_rows,
    training_rows,
    validation_rows,
    write_parquet,
)


def load_rows(experiment: Experiment) -> tuple[list[Row], list[Row]]:
    """Loads the training rows, and the held-out rows of the task and of further benchmarks.

    Raises:
        ConfigError: rows are missing, malformed or fewer than one batch.
    """
    task, validation = experiment.task, experiment.validation
    train = training_rows(task, least=experiment.batch.prompts)
    held_out = held_out_rows(
        task,
        benchmark_tasks(task, validation.benchmarks),
        limit=validation.rows,
        judge=experiment.grading.judge,
    )
    return train, held_out


def write_rows(experiment: Experiment) -> tuple[int, int]:
    """Writes `data.train_files` and `data.val_files`; returns their numbers of rows.

    Raises:
        ConfigError: see `load_rows`.
    """
    train, held_out = load_rows(experiment)
    validation = experiment.validation
    asked = validation_rows(held_out, samples=validation.samples or 0, greedy=validation.greedy)
    write_parquet(train, experiment.batch.train_file)
    write_parquet(asked, experiment.batch.validation_file)
    return len(train), len(held_out)
