"""The evaluation sets of SimpleRL-Zoo's and TinyLoRA's tables, each a task of one split.

All but GSM8K come from the files that SimpleRL evaluates with, at a commit: one source, the very
rows behind the published numbers. The digests were taken from these files.
"""

from __future__ import annotations

import dataclasses
from typing import ClassVar

from tinylora_rl.errors import ConfigError
from tinylora_rl.tasks import gold
from tinylora_rl.tasks.published import DataSet, Example, PublishedTask
from tinylora_rl.tasks.records import Record, WebFile
from tinylora_rl.tasks.task import Split, register_task

SIMPLERL_COMMIT = "cf1c7858bfc145a27aa733e75d930d34f0d318a6"
_SIMPLERL = f"https://raw.githubusercontent.com/hkust-nlp/simpleRL-reason/{SIMPLERL_COMMIT}"


def _math(record: Record) -> Example:
    answer = record.text("answer")
    return Example(question=record.text("problem"), worked=answer, gold=answer)


def _minerva(record: Record) -> Example:
    solution = record.text("solution")
    boxed = gold.last_boxed(solution, record.place)
    return Example(question=record.text("problem"), worked=solution, gold=boxed)


def _olympiad(record: Record) -> Example:
    answers = record.value("final_answer")
    if not isinstance(answers, list) or not all(isinstance(answer, str) for answer in answers):
        raise ConfigError(
            f"{record.place}: final_answer={answers!r} is not a list of texts; fix or drop it"
        )
    return Example(
        question=record.text("question"),
        worked=", ".join(answers),
        gold=", ".join(gold.without_delimiters(answer) for answer in answers),
        tolerance=gold.tolerance(record.value("error"), record.place),
        unordered=bool(record.value("is_multiple_answer")),
    )


def _amc(record: Record) -> Example:
    answer = record.value("answer")
    number = gold.shortest_number(answer)
    if number is None:
        raise ConfigError(
            f"{record.place}: answer={answer!r} is not a number; fix or drop that row"
        )
    return Example(question=record.text("question"), worked=str(answer), gold=number)


def _delimited(record: Record) -> Example:
    answer = record.text("answer")
    plain = gold.without_delimiters(answer)
    return Example(question=record.text("question"), worked=answer, gold=plain)


_FILES = {  # {name: (rows, digest)}
    "math500": (500, "127c95d115a218d75497eba38bd2a4e9de862a1cd2525a3fc4422c148dfb3d57"),
    "minerva_math": (272, "0d222f9c32de941ae06bc5084bbfa630318603c2adc98b488943d8c7d8f4082f"),
    "olympiadbench": (675, "39f77cd820ee6ad9ff583e99dd5a22808da23ec8922dddcac5666d1a701cb287"),
    "aime24": (30, "db9d8c9462719f50f17bcc798b1624cf87eacd35e6ad3a24c8d7171bfefda637"),
    "amc23": (40, "5c3809ad2e5d3ff65749dba8808a949e17b183a6092c4285fb1978f31ff5d940"),
    "gaokao2023en": (385, "f1cb67f39f113d7b2e2bff2babbb97ce9ca4430c6f29f149a8939a73914cc1e9"),
    "college_math": (2_818, "19c486a682a9aa7ff9d14f17ed23e7552966f06f972806548c21c052e34895c5"),
}
_READERS = {"minerva_math": _minerva, "olympiadbench": _olympiad, "amc23": _amc}
_READERS |= dict.fromkeys(("gaokao2023en", "college_math"), _delimited)  # the others: _math

# The empty golds of gaokao2023en (2 rows) stay, and are never met: its scores are out of 385.
BENCHMARKS: dict[str, DataSet] = {
    name: DataSet(
        name=name,
        data_source=name,
        split="test",
        origin=WebFile(f"{_SIMPLERL}/examples/simplelr_math_eval/data/{name}/test.jsonl"),
        files=(f"{name}.jsonl", f"eval/{name}.jsonl"),
        num_rows=num_rows,
        digest=digest,
        read=_READERS.get(name, _math),
    )
    for name, (num_rows, digest) in _FILES.items()
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Benchmark(PublishedTask):
    """Held-out rows alone.

    `path` holds `NAME.jsonl` or `eval/NAME.jsonl`; None: SimpleRL's repository at its commit.
    """

    splits: ClassVar[tuple[Split, ...]] = ("test",)
    usual_template: ClassVar[str] = "boxed"

    def data_set(self, split: Split) -> DataSet:
        return BENCHMARKS[self.name]


for _name in BENCHMARKS:
    register_task(type(_name, (Benchmark,), {"name": _name}))
