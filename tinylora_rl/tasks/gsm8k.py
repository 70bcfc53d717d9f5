"""GSM8K: grade school word problems (Cobbe et al., arXiv 2110.14168), to train and to test on."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

from tinylora_rl.tasks import gold
from tinylora_rl.tasks.published import DataSet, Example, PublishedTask
from tinylora_rl.tasks.records import HubFiles, Record
from tinylora_rl.tasks.task import MeanTokens, Split, register_task

DATA_SOURCE = "openai/gsm8k"
# The commit of the hub data set that public projects pin: taken from them, not checked on the hub.
REVISION = "740312add88f781978c0658806c59bc2815b9866"


def _read(record: Record) -> Example:
    question, worked = record.text("question"), record.text("answer")
    return Example(question=question, worked=worked, gold=gold.after_hashes(worked, record.place))


_FILES = {  # {split: (rows, digest)}
    "train": (7_473, "7082b13ae70a3b54935643409a0dc32fdab7e71d8c7cb9fe796e9f4dbdb6c613"),
    "test": (1_319, "78a0c875a4f9579ab3f94223da10fba88ee39faad5465cc4011990e80acabd6b"),
}
SPLITS: dict[str, DataSet] = {
    split: DataSet(
        name="gsm8k",
        data_source=DATA_SOURCE,
        split=split,
        origin=HubFiles(repo=DATA_SOURCE, config="main", revision=REVISION, split=split),
        files=(f"{split}.jsonl", f"gsm8k/{split}.jsonl"),
        num_rows=num_rows,
        digest=digest,
        read=_read,
    )
    for split, (num_rows, digest) in _FILES.items()
}


@register_task
@dataclasses.dataclass(frozen=True, kw_only=True)
class Gsm8k(PublishedTask):
    """7,473 training and 1,319 test rows.

    `path` holds `SPLIT.jsonl` or `gsm8k/SPLIT.jsonl`; None: the hub's data set at `REVISION`.
    """

    name: ClassVar[str] = "gsm8k"
    usual_template: ClassVar[str] = "gsm8k_hash"
    mean_tokens: ClassVar[MeanTokens] = MeanTokens(prompt=110, response=300)

    def data_set(self, split: Split) -> DataSet:
        return SPLITS[split]
