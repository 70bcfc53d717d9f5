"""SimpleRL-Zoo's training splits of MATH and GSM8K (arXiv 2503.18892), by level of difficulty.

`abel` and `qwen` name the prompts that SimpleRL wrote into the files. The prompts here are made
from the question by a template, as everywhere.
"""

from pathlib import Path

from tinylora_rl.tasks.dataset import DataSet, Problem, Row, load_rows
from tinylora_rl.tasks.errors import DataError
from tinylora_rl.tasks.records import HubFiles, Record

DATA_SOURCE = "hkust-nlp/SimpleRL-Zoo-Data"
HARDEST = "simplelr_qwen_level3to5"
# A branch, not a pin: its one commit with data is known by its short name alone, 50ec8f0, and the
# hub takes whole ones. No digest either, for want of the files: the count is the only guard.
REVISION = "main"
_NUM_ROWS = {HARDEST: 8_523}


def _read(record: Record) -> Problem:
    question, judged = record.text("question"), record.value("reward_model")
    answer = Record(f"{record.place}: reward_model", judged).text("ground_truth")
    return Problem(question=question, answer=answer, gold=answer)


def _split(split: str) -> DataSet:
    file = f"{split}/train.parquet"
    return DataSet(
        name=split,
        data_source=DATA_SOURCE,
        split=split,
        origin=HubFiles(repo=DATA_SOURCE, data_files=file, revision=REVISION, split="train"),
        files=(file, f"{split}/train.jsonl"),
        num_rows=_NUM_ROWS.get(split),
        digest=None,
        read=_read,
    )


SPLITS: dict[str, DataSet] = {
    f"simplelr_{prompt}_{levels}": _split(f"simplelr_{prompt}_{levels}")
    for prompt in ("qwen", "abel")
    for levels in ("gsm8k_level1", "level1to4", "level3to5")
}


def rows(
    split: str = HARDEST,
    path: str | Path | None = None,
    template: str = "boxed",
    *,
    check: bool = True,
) -> list[Row]:
    """Return the training rows of a split that have a gold answer, in file order.

    With `path`, reads `<path>/<split>/train.parquet` or `train.jsonl` and nothing else; without,
    the hub's file. The gold is `reward_model.ground_truth`, which SimpleRL trains against. Rows
    where it is empty are left out, since no response could be right: a public reader of the data
    set reports two among the problems of level 5. `extra_info.index` counts them all the same.
    Raises DataError for an unknown split or template and for data that is missing, malformed or,
    with `check`, not of the published number of rows (known for the hardest split alone, 8,523).
    """
    if split not in SPLITS:
        raise DataError(f"data.split={split}: no such split; choose from {', '.join(SPLITS)}")
    loaded = load_rows(SPLITS[split], path, template, check=check)
    return [row for row in loaded if row["reward_model"]["ground_truth"].strip()]
