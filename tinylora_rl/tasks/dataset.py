"""What makes a data set: where its records are, what they say, and how to tell it is the one."""

import hashlib
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tinylora_rl.tasks.errors import DataError
from tinylora_rl.tasks.prompts import template_named
from tinylora_rl.tasks.records import HubFiles, Record, WebFile, read_file

Row = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Problem:
    """What a record says."""

    question: str
    answer: str  # the text that the gold was read from, as published
    gold: str
    tolerance: float | None = None  # absolute
    unordered: bool = False  # gold holds several answers, separated by commas, in any order
    unit: str = ""  # of the gold, where the question asks for it


@dataclass(frozen=True, kw_only=True)
class DataSet:
    """A published data set.

    `files` are the names to look for under a local path, in that order. `num_rows` counts records;
    `digest` is `digest_of` its problems. Either is None where the published file was not at hand
    when this was written, and then not checked.
    """

    name: str
    data_source: str
    split: str
    origin: HubFiles | WebFile
    files: tuple[str, ...]
    num_rows: int | None
    digest: str | None
    read: Callable[[Record], Problem]


def load_rows(
    dataset: DataSet,
    path: str | Path | None,
    template: str,
    *,
    check: bool,
    limit: int | None = None,
) -> list[Row]:
    """Return the data set as rows of verl's format, in the order published; the first `limit`.

    With `path`, reads a file of that folder and nothing else. All rows of all data sets have the
    same keys, with values of the same types: they can share a parquet file. With `check`, raises
    DataError for rows that are not the published ones; it looks at all of them, whatever `limit`.
    """
    to_prompt = template_named(template)
    records = dataset.origin.records() if path is None else _local(dataset, Path(path))
    problems = [dataset.read(record) for record in records]
    where = f"data.path={'null' if path is None else path}: {dataset.name}"
    if not problems:
        raise DataError(f"{where}: no rows in {' or '.join(dataset.files)}; {_mend(dataset)}")
    if check:
        _check(dataset, problems, where)
    return [
        {
            "data_source": dataset.data_source,
            "prompt": to_prompt(problem.question),
            "ability": "math",
            "reward_model": {"style": "rule", "ground_truth": problem.gold},
            "extra_info": {
                "split": dataset.split,
                "index": index,
                "question": problem.question,
                "answer": problem.answer,
                "tolerance": problem.tolerance,
                "unordered": problem.unordered,
                "unit": problem.unit,
            },
        }
        for index, problem in enumerate(problems[:limit])
    ]


def digest_of(problems: Iterable[Problem]) -> str:
    """Return the sha256 over (question, gold) in order, runs of white space taken as one space."""
    digest = hashlib.sha256()
    for problem in problems:
        pair = [" ".join(problem.question.split()), " ".join(problem.gold.split())]
        digest.update(json.dumps(pair).encode() + b"\n")
    return digest.hexdigest()


def _check(dataset: DataSet, problems: list[Problem], where: str) -> None:
    found = digest_of(problems)
    counts_differ = dataset.num_rows is not None and len(problems) != dataset.num_rows
    if counts_differ or (dataset.digest is not None and found != dataset.digest):
        raise DataError(
            f"{where}: found {len(problems)} rows, digest {found[:16]}; published are "
            f"{dataset.num_rows} rows, digest {(dataset.digest or 'unknown')[:16]}; "
            f"{_mend(dataset)}, or set data.check=false to take the rows as they are"
        )


def _local(dataset: DataSet, directory: Path) -> Iterable[Record]:
    if not directory.is_dir():
        raise DataError(f"data.path={directory}: no such folder; {_mend(dataset)}")
    for name in dataset.files:
        if (directory / name).is_file():
            return read_file(directory / name, f"data.path={directory}: {name}")
    names = " or ".join(dataset.files)
    raise DataError(f"data.path={directory}: no {names} in it; {_mend(dataset)}")


def _mend(dataset: DataSet) -> str:
    return f"point data.path at a folder holding {dataset.files[0]} ({dataset.origin})"
