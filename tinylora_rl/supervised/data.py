"""Worked answers as token ids: what a supervised run trains on, checked before it starts.

A sequence is the prompt exactly as the rollout of reinforcement learning gets it, chat template and
generation prompt included, then the worked answer, then the token that ends a turn. The loss counts
the last two. So the model learns to write what a rollout would have had to write, and to stop.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from tinylora_rl.errors import ConfigError
from tinylora_rl.rewards import JUDGES, judge
from tinylora_rl.tasks import Row, ask, row_gold, write_parquet
from tinylora_rl.tasks.prepare import Rows, load_datasets

CALCULATOR_MARK = re.compile(r"<<[^<>]*>>")
MAX_WRONG_SHARE = 0.01  # of the worked answers; more, and the data set is not what the prompt wants


@dataclasses.dataclass(frozen=True, kw_only=True)
class Supervised:
    """What was prepared.

    Attributes:
        num_train, num_val: sequences in the two parquet files; there is no second one where num_val
            is 0.
        num_wrong, num_long: training rows left out, because the worked answer is not right under
            the run's judge, or prompt or answer exceed the task's lengths.
        held_out: the rows that the accuracy is measured on, as `train` validates on them.
    """

    num_train: int
    num_val: int
    num_wrong: int
    num_long: int
    held_out: Rows


def prepare_supervised(config: DictConfig, tokenizer: Any) -> Supervised:
    """`data.train_files` and, where held-out rows have worked answers, `data.val_files` exist.

    Columns: `prompt` and `target` (text, for a reader), `prompt_ids` and `target_ids`.

    Raises:
        ConfigError: no rows, no worked answers, or fewer sequences than one batch.
    """
    train, held_out = load_datasets(config)
    # a benchmark of another source has golds, but nobody worked it in this data set's words
    own = [row for row in held_out if row["data_source"] == train[0]["data_source"]]
    right = _right(config, train)
    if len(train) - len(right) > MAX_WRONG_SHARE * len(train):
        raise ConfigError(
            f"data.name={config.data.name}: {len(right)} of {len(train)} worked answers are right "
            f"under task.judge={config.task.judge}; the data set holds no worked answers, or not "
            "in the form that data.template asks for"
        )
    fitting = _sequences(config, tokenizer, right)
    if len(fitting) < config.sft.batch_size:
        raise ConfigError(
            f"sft.batch_size={config.sft.batch_size}: only {len(fitting)} sequences fit into the "
            "task's lengths; use a smaller batch, or raise task.max_response_tokens"
        )
    write_parquet(fitting, Path(config.data.train_files))
    validation = _sequences(config, tokenizer, _right(config, own))
    if validation:
        write_parquet(validation, Path(config.data.val_files))
    return Supervised(
        num_train=len(fitting),
        num_val=len(validation),
        num_wrong=len(train) - len(right),
        num_long=len(right) - len(fitting),
        held_out=held_out,
    )


def prompt_ids(config: DictConfig, tokenizer: Any, row: Row) -> list[int] | None:
    """The row's prompt as verl's rollout builds it; None where it exceeds the task's length."""
    token_ids = ask(row, tokenizer, _template_options(config))
    return token_ids if len(token_ids) <= config.data.max_prompt_length else None


def worked_answer(row: Row, *, keep_calculator_marks: bool) -> str:
    """The text that the row's data set gives as its solution."""
    answer = row["extra_info"]["answer"]
    return answer if keep_calculator_marks else CALCULATOR_MARK.sub("", answer)


def _template_options(config: DictConfig) -> dict[str, Any]:
    options: Any = config.data.get("apply_chat_template_kwargs")
    return {str(key): value for key, value in options.items()} if options else {}


def _right(config: DictConfig, rows: Rows) -> Rows:
    """Rows whose worked answer the run's own judge would reward.

    By exact match, which is a symbolic judge's first question too: a solution states its gold.
    """
    reader = JUDGES[config.task.judge].extractor
    keep = config.sft.keep_calculator_marks
    return [
        row
        for row in rows
        if judge(reader, worked_answer(row, keep_calculator_marks=keep), row_gold(row)).verdict
        == "right"
    ]


def _sequences(config: DictConfig, tokenizer: Any, rows: Iterable[Row]) -> list[dict[str, Any]]:
    """The rows that fit, tokenised. What does not fit is left out: a cut answer has no end."""
    sequences = []
    for row in rows:
        target = worked_answer(row, keep_calculator_marks=config.sft.keep_calculator_marks)
        target_ids = [
            *tokenizer.encode(target, add_special_tokens=False),
            tokenizer.eos_token_id,
        ]
        prompt = prompt_ids(config, tokenizer, row)
        if prompt is not None and len(target_ids) <= config.data.max_response_length:
            sequences.append(
                {
                    "prompt": tokenizer.decode(prompt),
                    "target": target,
                    "prompt_ids": prompt,
                    "target_ids": target_ids,
                }
            )
    return sequences
