"""GSM8K as rows of verl's format, from local files or from the Hugging Face hub."""

import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from tinylora_rl.data.errors import DataError
from tinylora_rl.data.prompts import template_named

Row = dict[str, Any]

DATA_SOURCE = "openai/gsm8k"
SPLITS = ("train", "test")
# The commit of the hub data set that public projects pin: taken from them, not checked on the hub.
REVISION = "740312add88f781978c0658806c59bc2815b9866"

_COLUMNS = ("question", "answer")
_GOLD = re.compile(r"#### (-?[0-9][0-9.,]*)\s*$")
_MEND = "point data.path at a folder holding GSM8K's train.jsonl and test.jsonl"


def rows(
    split: str,
    path: str | Path | None = None,
    template: str = "gsm8k_hash",
    *,
    revision: str = REVISION,
) -> list[Row]:
    """Return all rows of `split` ("train" 7,473 or "test" 1,319), in file order.

    With `path`, reads `<path>/<split>.jsonl` and nothing else; without, the hub's data set at
    `revision`. The gold answer is the number of the last line `#### N`, commas removed.
    Raises DataError for an unknown split or template and for data that is missing or malformed.
    """
    if split not in SPLITS:
        raise DataError(f"data.split={split}: no such split; choose from {', '.join(SPLITS)}")
    to_prompt = template_named(template)
    records = _read_hub(split, revision) if path is None else _read_local(Path(path), split)

    result = []
    for index, (place, record) in enumerate(records):
        question, answer = (_text(record, column, place) for column in _COLUMNS)
        gold = _GOLD.search(answer)
        if gold is None:
            raise DataError(f"{place}: the answer does not end in '#### N'; mend or drop that row")
        result.append(
            {
                "data_source": DATA_SOURCE,
                "prompt": to_prompt(question),
                "ability": "math",
                "reward_model": {"style": "rule", "ground_truth": gold[1].replace(",", "")},
                "extra_info": {
                    "split": split,
                    "index": index,
                    "question": question,
                    "answer": answer,
                },
            }
        )
    return result


def _read_local(directory: Path, split: str) -> Iterator[tuple[str, Any]]:
    """Yield (place for messages, parsed line) for the lines that are not blank."""
    name = f"{split}.jsonl"
    if not directory.is_dir():
        raise DataError(f"data.path={directory}: no such folder; {_MEND}")
    file = directory / name
    if not file.is_file():
        raise DataError(f"data.path={directory}: no {name} in it; {_MEND}")
    is_empty = True
    # Bytes, because text mode raises on bad UTF-8 without saying in which line.
    with file.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            is_empty = False
            place = f"data.path={directory}: {name} line {number}"
            try:
                record = json.loads(line)
            except ValueError as error:  # JSONDecodeError and UnicodeDecodeError
                raise DataError(f"{place}: not JSON ({error}); mend or drop that line") from error
            yield place, record
    if is_empty:
        raise DataError(f"data.path={directory}: no rows in {name}; {_MEND}")


def _read_hub(split: str, revision: str) -> Iterable[tuple[str, Any]]:
    import datasets

    place = f"data.path=null ({DATA_SOURCE} of the Hugging Face hub, revision {revision})"
    try:
        dataset = datasets.load_dataset(DATA_SOURCE, "main", revision=revision, split=split)
    except (OSError, ValueError, datasets.exceptions.DatasetsError) as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        raise DataError(f"{place}: not loaded ({reason}); offline, {_MEND}") from error
    return ((f"{place}: row {number}", record) for number, record in enumerate(dataset))


def _text(record: Any, column: str, place: str) -> str:
    if not isinstance(record, dict) or column not in record:
        raise DataError(f"{place}: no column {column!r}; each row needs {', '.join(_COLUMNS)}")
    value = record[column]
    if not isinstance(value, str):
        raise DataError(f"{place}: {column}={value!r} is not text; mend or drop that row")
    return value
