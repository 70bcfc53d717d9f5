"""The evaluation sets of SimpleRL-Zoo's and TinyLoRA's tables, as rows of verl's format.

All but GSM8K come from the files that SimpleRL evaluates with, at a commit: one source, the very
rows behind the published numbers. The digests were taken from these files.
"""

from collections.abc import Callable
from pathlib import Path

from tinylora_rl.tasks import gold, gsm8k
from tinylora_rl.tasks.dataset import DataSet, Problem, Row, load_rows
from tinylora_rl.tasks.errors import DataError
from tinylora_rl.tasks.records import Record, WebFile

SIMPLERL_COMMIT = "cf1c7858bfc145a27aa733e75d930d34f0d318a6"
_SIMPLERL = f"https://raw.githubusercontent.com/hkust-nlp/simpleRL-reason/{SIMPLERL_COMMIT}"


def _math(record: Record) -> Problem:
    answer = record.text("answer")
    return Problem(question=record.text("problem"), answer=answer, gold=answer)


def _minerva(record: Record) -> Problem:
    solution = record.text("solution")
    return Problem(
        question=record.text("problem"),
        answer=solution,
        gold=gold.last_boxed(solution, record.place),
    )


def _olympiad(record: Record) -> Problem:
    answers = record.value("final_answer")
    if not isinstance(answers, list) or not all(isinstance(answer, str) for answer in answers):
        raise DataError(
            f"{record.place}: final_answer={answers!r} is not a list of texts; mend or drop it"
        )
    return Problem(
        question=record.text("question"),
        answer=", ".join(answers),
        gold=", ".join(gold.without_delimiters(answer) for answer in answers),
        tolerance=gold.tolerance(record.value("error"), record.place),
        unordered=bool(record.value("is_multiple_answer")),
        unit=record.value("unit") or "",
    )


def _amc(record: Record) -> Problem:
    answer = record.value("answer")
    if isinstance(answer, bool) or not isinstance(answer, int | float):
        raise DataError(f"{record.place}: answer={answer!r} is not a number; mend or drop that row")
    return Problem(
        question=record.text("question"), answer=str(answer), gold=gold.shortest_number(answer)
    )


def _delimited(record: Record) -> Problem:
    answer = record.text("answer")
    return Problem(
        question=record.text("question"), answer=answer, gold=gold.without_delimiters(answer)
    )


def _simplerl(
    name: str, num_rows: int, digest: str, read: Callable[[Record], Problem]
) -> tuple[str, DataSet]:
    return name, DataSet(
        name=name,
        data_source=name,
        split="test",
        origin=WebFile(f"{_SIMPLERL}/examples/simplelr_math_eval/data/{name}/test.jsonl"),
        files=(f"{name}.jsonl", f"eval/{name}.jsonl"),
        num_rows=num_rows,
        digest=digest,
        read=read,
    )


# The empty golds of gaokao2023en (2 rows) stay, and are never met: its scores are out of 385.
BENCHMARKS: dict[str, DataSet] = dict(
    [
        ("gsm8k", gsm8k.SPLITS["test"]),
        _simplerl(
            "math500",
            500,
            "127c95d115a218d75497eba38bd2a4e9de862a1cd2525a3fc4422c148dfb3d57",
            _math,
        ),
        _simplerl(
            "minerva_math",
            272,
            "0d222f9c32de941ae06bc5084bbfa630318603c2adc98b488943d8c7d8f4082f",
            _minerva,
        ),
        _simplerl(
            "olympiadbench",
            675,
            "39f77cd820ee6ad9ff583e99dd5a22808da23ec8922dddcac5666d1a701cb287",
            _olympiad,
        ),
        _simplerl(
            "aime24", 30, "db9d8c9462719f50f17bcc798b1624cf87eacd35e6ad3a24c8d7171bfefda637", _math
        ),
        _simplerl(
            "amc23", 40, "5c3809ad2e5d3ff65749dba8808a949e17b183a6092c4285fb1978f31ff5d940", _amc
        ),
        _simplerl(
            "gaokao2023en",
            385,
            "f1cb67f39f113d7b2e2bff2babbb97ce9ca4430c6f29f149a8939a73914cc1e9",
            _delimited,
        ),
        _simplerl(
            "college_math",
            2_818,
            "19c486a682a9aa7ff9d14f17ed23e7552966f06f972806548c21c052e34895c5",
            _delimited,
        ),
    ]
)


def rows(
    name: str,
    path: str | Path | None = None,
    template: str = "boxed",
    *,
    limit: int | None = None,
    check: bool = True,
) -> list[Row]:
    """Return the rows of the benchmark `name`, in file order; the first `limit` if given.

    With `path`, reads `<path>/<name>.jsonl` or `<path>/eval/<name>.jsonl` (GSM8K: `test.jsonl` or
    `gsm8k/test.jsonl`) and nothing else; without, the web. `data_source` is the name, but GSM8K's
    `openai/gsm8k`. `check` is `load_rows`'s.
    Raises DataError for an unknown name or template and for data that is missing, malformed or,
    with `check`, not the benchmark's.
    """
    if name not in BENCHMARKS:
        raise DataError(
            f"data.benchmark={name}: no such benchmark; choose from {', '.join(BENCHMARKS)}"
        )
    return load_rows(BENCHMARKS[name], path, template, check=check, limit=limit)
