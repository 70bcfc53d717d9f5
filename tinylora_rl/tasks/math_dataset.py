"""SimpleRL-Zoo's training splits of MATH and GSM8K (arXiv 2503.18892), by level of difficulty.

`abel` and `qwen` name the prompts that SimpleRL wrote into the files. The prompts here are made
from the question by a template, as everywhere. The held-out rows are MATH500's.
"""

from __future__ import annotations

import dataclasses
from typing import ClassVar

from tinylora_rl.errors import ConfigError
from tinylora_rl.tasks.benchmarks import BENCHMARKS
from tinylora_rl.tasks.published import DataSet, Example, PublishedTask
from tinylora_rl.tasks.records import HubFiles, Record
from tinylora_rl.tasks.task import MeanTokens, Split, register_task

DATA_SOURCE = "hkust-nlp/SimpleRL-Zoo-Data"
HARDEST = "simplelr_qwen_level3to5"
# A branch, not a pin: its one commit with data is known by its short name alone, 50ec8f0, and the
# hub takes whole ones. No digest either, for want of the files: the count is the only guard.
REVISION = "main"


def _read(record: Record) -> Example:
    question, judged = record.text("question"), record.value("reward_model")
    answer = Record(f"{record.place}: reward_model", judged).text("ground_truth")
    return Example(question=question, worked=answer, gold=answer)


def _split(split: str) -> DataSet:
    file = f"{split}/train.parquet"
    return DataSet(
        name=split,
        data_source=DATA_SOURCE,
        split=split,
        origin=HubFiles(repo=DATA_SOURCE, data_files=file, revision=REVISION, split="train"),
        files=(file, f"{split}/train.jsonl"),
        num_rows=8_523 if split == HARDEST else None,
        digest=None,
        read=_read,
    )


SPLITS: dict[str, DataSet] = {
    f"simplelr_{prompt}_{levels}": _split(f"simplelr_{prompt}_{levels}")
    for prompt in ("qwen", "abel")
    for levels in ("gsm8k_level1", "level1to4", "level3to5")
}


@register_task
@dataclasses.dataclass(frozen=True, kw_only=True)
class Math(PublishedTask):
    """A training split of SimpleRL-Zoo that has gold answers, and MATH500 to test on.

    The gold is `reward_model.ground_truth`, which SimpleRL trains against. Rows where it is empty
    are left out: a public reader of the data set reports two among the problems of level 5.

    Attributes:
        path: a folder with `SPLIT/train.parquet` or `SPLIT/train.jsonl`, and MATH500's file.
    """

    name: ClassVar[str] = "math"
    usual_template: ClassVar[str] = "boxed"
    mean_tokens: ClassVar[MeanTokens] = MeanTokens(prompt=120, response=700)

    split: str = HARDEST

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.split not in SPLITS:
            raise ConfigError(
                f"data.split={self.split}: no such split; choose from {', '.join(SPLITS)}"
            )

    def data_set(self, split: Split) -> DataSet:
        return SPLITS[self.split] if split == "train" else BENCHMARKS["math500"]

    def keeps(self, example: Example) -> bool:
        return bool(example.gold.strip())
