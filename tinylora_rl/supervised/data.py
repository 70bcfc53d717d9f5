"""Turns worked answers into token ids, checked before a supervised run starts.

A sequence is the prompt exactly as the rollout of reinforcement learning gets it, then the worked
answer, then the token that ends a turn. The loss counts the last two.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable
from typing import Any

from tinylora_rl.errors import ConfigError
from tinylora_rl.rewards import JUDGES, judge
from tinylora_rl.settings.experiment import Experiment
from tinylora_rl.tasks import Row, row_gold, write_parquet

CALCULATOR_MARK = re.compile(r"<<[^<>]*>>")
MAX_WRONG_SHARE = 0.01  # of the worked answers; more, and the data set is not what the prompt wants


@dataclasses.dataclass(frozen=True, kw_only=True)
class SupervisedData:
    """The prepared files, counted.

    Attributes:
        num_train, num_val: sequences in the two parquet files; no second one where num_val is 0.
        num_wrong, num_long: training rows left out: the worked answer is not right under the run's
            judge, or prompt or answer exceed the task's lengths.
        held_out: the rows that the accuracy is measured on, as `train` validates on them.
    """

    num_train: int
    num_val: int
    num_wrong: int
    num_long: int
    held_out: list[Row]
    remarks: list[str]


def prepare_data(experiment: Experiment) -> SupervisedData:
    """Writes `data.train_files` and, where held-out rows have worked answers, `data.val_files`.

    Columns: `prompt` and `target` (text, for a reader), `prompt_ids` and `target_ids`. Raises
    ConfigError: no rows, no worked answers, or fewer sequences than one batch.
    """
    train, held_out, remarks = experiment.rows()
    # a benchmark of another source has golds, but nobody worked it in this data set's words
    own = [row for row in held_out if row["data_source"] == train[0]["data_source"]]
    right = _right(experiment, train)
    if len(train) - len(right) > MAX_WRONG_SHARE * len(train):
        raise ConfigError(
            f"data.name={experiment.task.name}: {len(right)} of {len(train)} worked answers are "
            f"right under task.judge={experiment.grading.judge}; the data set holds no worked "
            "answers, or not in the form that data.template asks for"
        )
    fitting = _sequences(experiment, right)
    if len(fitting) < experiment.update_rows:
        raise ConfigError(
            f"sft.batch_size={experiment.update_rows}: only {len(fitting)} sequences fit into the "
            "task's lengths; use a smaller batch, or raise task.max_response_tokens"
        )
    write_parquet(fitting, experiment.batch.train_file)
    validation = _sequences(experiment, _right(experiment, own))
    if validation:
        write_parquet(validation, experiment.batch.validation_file)
    return SupervisedData(
        num_train=len(fitting),
        num_val=len(validation),
        num_wrong=len(train) - len(right),
        num_long=len(right) - len(fitting),
        held_out=held_out,
        remarks=remarks,
    )


def prompt_ids(experiment: Experiment, row: Row) -> list[int] | None:
    """Returns the row's prompt as verl's rollout builds it; None where it exceeds the limit."""
    token_ids = experiment.base.ask(row["prompt"])
    return token_ids if len(token_ids) <= experiment.batch.max_prompt_tokens else None


def worked_answer(row: Row, *, keep_calculator_marks: bool) -> str:
    """Returns the text that the row's data set gives as its solution."""
    answer = row["extra_info"]["answer"]
    return answer if keep_calculator_marks else CALCULATOR_MARK.sub("", answer)


def _answer(experiment: Experiment, row: Row) -> str:
    sft = experiment.supervised
    return worked_answer(row, keep_calculator_marks=bool(sft and sft.keep_calculator_marks))


def _right(experiment: Experiment, rows: Iterable[Row]) -> list[Row]:
    """Returns the rows whose worked answer the run's own judge would reward.

    By exact match, which is a symbolic judge's first question too: a solution states its gold.
    """
    judge_name = experiment.grading.judge
    reader = JUDGES[judge_name].extractor or judge_name  # a user's own judge is asked itself
    return [
        row
        for row in rows
        if judge(reader, _answer(experiment, row), row_gold(row)).verdict == "right"
    ]


def _sequences(experiment: Experiment, rows: Iterable[Row]) -> list[dict[str, Any]]:
    """Tokenises the rows that fit; others are left out: a cut answer has no end."""
    tokenizer = experiment.base.tokenizer
    sequences = []
    for row in rows:
        target = _answer(experiment, row)
        target_ids = [*tokenizer.encode(target, add_special_tokens=False), tokenizer.eos_token_id]
        prompt = prompt_ids(experiment, row)
        if prompt is not None and len(target_ids) <= experiment.batch.max_response_tokens:
            sequences.append(
                {
                    "prompt": tokenizer.decode(prompt),
                    "target": target,
                    "prompt_ids": prompt,
                    "target_ids": target_ids,
                }
            )
    return sequences
