"""A prompt row, from file to judge: the columns of verl's parquet files and what we add to them.

| key | written by | read by |
|---|---|---|
| `data_source` | the task; `validation_rows` adds `_greedy` | verl: names of validation metrics |
| `prompt` | the task's template | verl's rollout, `ask` |
| `ability` | the task | nobody; verl's files have it |
| `reward_model.ground_truth` | the task | the judge, `row_gold` |
| `extra_info.split`, `.index` | the task | seeds of samples, reward controls |
| `extra_info.question`, `.answer` | the task | supervised training: `answer` is worked |
| `extra_info.tolerance`, `.unordered` | the task | the judge, `row_gold` |
| `extra_info.judge` | `held_out_rows` | the reward function: this row's judge |
| `extra_info.greedy` | `validation_rows` | the agent loop: temperature 0 |
| `__rollout_n__` | `validation_rows` | verl: number of samples of this row |
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NotRequired, TypedDict

from tinylora_rl.rewards import Gold


class Message(TypedDict):
    role: str
    content: str


class RewardModel(TypedDict):
    style: str
    ground_truth: str


class ExtraInfo(TypedDict):
    """Fields that the reward function gets.

    `answer` is the worked solution, or the gold's text where a data set has none. `tolerance` is
    absolute. `unordered`: the gold holds several answers, separated by commas, in any order.
    """

    split: str
    index: int
    question: str
    answer: str
    tolerance: float | None
    unordered: bool
    judge: NotRequired[str]
    greedy: NotRequired[bool]


class Row(TypedDict):
    """A question as a run asks and grades it. All rows have the same keys: they share a file."""

    data_source: str
    prompt: list[Message]
    ability: str
    reward_model: RewardModel
    extra_info: ExtraInfo
    __rollout_n__: NotRequired[int]


def make_row(
    data_source: str,
    split: str,
    index: int,
    *,
    question: str,
    gold: str,
    prompt: list[Message] | None = None,
    worked: str | None = None,
    tolerance: float | None = None,
    unordered: bool = False,
) -> Row:
    """Returns a row; its prompt is the question, its worked answer the gold, if not given.

    `index` is distinct within (data_source, split).
    """
    return {
        "data_source": data_source,
        "prompt": [{"role": "user", "content": question}] if prompt is None else prompt,
        "ability": "math",
        "reward_model": {"style": "rule", "ground_truth": gold},
        "extra_info": {
            "split": split,
            "index": index,
            "question": question,
            "answer": gold if worked is None else worked,
            "tolerance": tolerance,
            "unordered": unordered,
        },
    }


def row_gold(row: Row) -> Gold:
    """Returns the gold answer that a judge compares with."""
    return Gold.qualified(row["reward_model"]["ground_truth"], row["extra_info"])


def ask(
    row: Row, tokenizer: Any, chat_template_kwargs: Mapping[str, Any] | None = None
) -> list[int]:
    """Returns the token ids of the row's prompt as verl's rollout builds them."""
    token_ids = tokenizer.apply_chat_template(
        row["prompt"], add_generation_prompt=True, return_dict=False, **(chat_template_kwargs or {})
    )
    return list(token_ids)
