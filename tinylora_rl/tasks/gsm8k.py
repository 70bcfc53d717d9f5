"""GSM8K: grade school word problems (Cobbe et al., arXiv 2110.14168), to train and to test on."""

from pathlib import Path

from tinylora_rl.tasks import gold
from tinylora_rl.tasks.dataset import DataSet, Problem, Row, load_rows
from tinylora_rl.tasks.errors import DataError
from tinylora_rl.tasks.records import HubFiles, Record

DATA_SOURCE = "openai/gsm8k"
# The commit of the hub data set that public projects pin: taken from them, not checked on the hub.
REVISION = "740312add88f781978c0658806c59bc2815b9866"


def _read(record: Record) -> Problem:
    question, answer = record.text("question"), record.text("answer")
    return Problem(question=question, answer=answer, gold=gold.after_hashes(answer, record.place))


def _split(split: str, num_rows: int, digest: str) -> DataSet:
    return DataSet(
        name="gsm8k",
        data_source=DATA_SOURCE,
        split=split,
        origin=HubFiles(repo=DATA_SOURCE, config="main", revision=REVISION, split=split),
        files=(f"{split}.jsonl", f"gsm8k/{split}.jsonl"),
        num_rows=num_rows,
        digest=digest,
        read=_read,
    )


SPLITS: dict[str, DataSet] = {
    "train": _split(
        "train", 7_473, "7082b13ae70a3b54935643409a0dc32fdab7e71d8c7cb9fe796e9f4dbdb6c613"
    ),
    "test": _split(
        "test", 1_319, "78a0c875a4f9579ab3f94223da10fba88ee39faad5465cc4011990e80acabd6b"
    ),
}


def rows(
    split: str,
    path: str | Path | None = None,
    template: str = "gsm8k_hash",
    *,
    check: bool = True,
) -> list[Row]:
    """Return all rows of `split` ("train" 7,473 or "test" 1,319), in file order.

    With `path`, reads `<path>/<split>.jsonl` or `<path>/gsm8k/<split>.jsonl` and nothing else;
    without, the hub's data set at `REVISION`. `check` is `load_rows`'s.
    Raises DataError for an unknown split or template and for data that is missing, malformed or,
    with `check`, not GSM8K's.
    """
    if split not in SPLITS:
        raise DataError(f"data.split={split}: no such split; choose from {', '.join(SPLITS)}")
    return load_rows(SPLITS[split], path, template, check=check)
