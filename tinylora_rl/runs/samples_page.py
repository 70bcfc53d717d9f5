"""Writes `samples.html`: responses and their verdicts in one file for a browser.

The page is static and self-contained: style, script and records are inside, it loads nothing over
the network, and a Content-Security-Policy in it forbids that. A record is one response:

| key | value |
|---|---|
| `benchmark`, `policy` | names; the others are compared with the policy `base` at first |
| `index` | of the question in its benchmark, number or text; one card per benchmark and index |
| `question`, `response` | text, shown as it is: whitespace kept, nothing interpreted |
| `judged` | {judge: {"verdict": one of VERDICTS, "answer": what it extracted, or null}} |
| `sample`, `greedy`, `gold`, `response_tokens`, `truncated`, `step` | each may be absent or null |
"""

from __future__ import annotations

import html
import json
from collections.abc import Iterable, Iterator, Mapping
from importlib import resources
from pathlib import Path
from typing import Any

from tinylora_rl.atomic import write_text

VERDICTS = ("right", "wrong", "no_answer", "timed_out")
_TEXT = ("benchmark", "policy", "question", "response")
_REQUIRED = (*_TEXT, "index", "judged")
_OPTIONAL = ("sample", "greedy", "gold", "response_tokens", "truncated", "step")
_COLUMNS = {"input", "output", "gts", "score", "step"}  # of verl's dump, always
# Columns that are no judge, or `acc`, which is always one
_NO_JUDGE = _COLUMNS | {"uid", "reward", "acc", "num_turns", "grade_s", "no_answer", "timed_out"}
_NO_JUDGE |= {"greedy", "truncated", "response_tokens"}


def write_samples_page(records: Iterable[Mapping[str, Any]], path: Path, *, title: str) -> Path:
    """Writes a page of `records` to `path`, completely or not at all.

    Responses are hostile text: no record can end the element it is embedded in, and the page shows
    them as text nodes only. Unknown keys are left out. Returns `path`.

    Raises:
        ValueError: a record without a required key, with an unknown verdict or a NaN.
    """
    shown = [_checked(number, record) for number, record in enumerate(records)]
    template = resources.files(__package__).joinpath("samples_page.html").read_text("utf-8")
    before, after = template.split("{{records}}")
    heading = html.escape(title).encode("ascii", "xmlcharrefreplace").decode()
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, before.replace("{{title}}", heading) + _embedded(shown) + after)
    return path


def records_from_validation(
    source: Path, *, benchmark: str = "validation", policy: str = "adapter"
) -> list[dict[str, Any]]:
    """Reads a run's `samples/`, or one `<step>.jsonl` of it, into records of a page.

    verl writes one line a response, sorted by random ids. A question is a distinct pair of prompt
    and ground truth, numbered in the order of the file, so that it keeps its index over the steps.
    Judges are `acc` (`score` where there is none) and every column of zeros and ones. The dump
    lacks extracted answers and data source. Of a verdict 0 it has `no_answer`, which is about
    `acc`, and `timed_out`, which may be about any of the judges.

    Raises:
        ValueError: no `<step>.jsonl`, or a line of it that verl did not write. A torn last line,
            which a killed run leaves, is skipped.
    """
    source = Path(source)
    files = [source]
    if source.is_dir():
        files = sorted(source.glob("*.jsonl"), key=lambda file: (len(file.stem), file.stem))
    if not files or not files[0].is_file():
        raise ValueError(
            f"samples={source}: no <step>.jsonl; point it at the samples folder of a run that "
            "was validated"
        )
    rows = [row for file in files for row in _rows(file)]
    judges = _judge_columns(rows)
    indices: dict[tuple[str, str], int] = {}
    num_samples: dict[tuple[int, int], int] = {}
    records = []
    for row in rows:
        index = indices.setdefault((row["input"], str(row["gts"])), len(indices))
        sample = num_samples.get((row["step"], index), 0)
        num_samples[row["step"], index] = sample + 1
        records.append(
            {
                "benchmark": benchmark,
                "policy": policy,
                "step": row["step"],
                "index": index,
                "sample": sample,
                "greedy": _flag(row.get("greedy")),
                "question": row["input"],
                "gold": row["gts"],
                "response": row["output"],
                "response_tokens": row.get("response_tokens"),
                "truncated": _flag(row.get("truncated")),
                "judged": {
                    judge: {"verdict": verdict, "answer": None}
                    for judge, verdict in _verdicts(row, judges)
                },
            }
        )
    return records


def _checked(number: int, record: Mapping[str, Any]) -> dict[str, Any]:
    for key in _REQUIRED:
        if key not in record:
            raise ValueError(f"record={number}: no key {key!r}; give {', '.join(_REQUIRED)}")
    for key in _TEXT:
        if not isinstance(record[key], str):
            raise ValueError(f"record={number}: {key}={record[key]!r} is not text; give a str")
    for judge, judgement in record["judged"].items():
        if judgement["verdict"] not in VERDICTS:
            raise ValueError(
                f"record={number}: {judge}={judgement['verdict']!r}: no such verdict; "
                f"choose from {', '.join(VERDICTS)}"
            )
    return {key: record[key] for key in (*_REQUIRED, *_OPTIONAL) if key in record}


def _embedded(records: list[dict[str, Any]]) -> str:
    """Returns JSON for the inside of a script element.

    ASCII escapes cover lone surrogates and U+2028; without `<` there is neither `</script>` nor
    `<!--`, so an HTML parser leaves the element only at its own end.
    """
    text = json.dumps(records, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def _rows(file: Path) -> Iterator[dict[str, Any]]:
    # Not str.splitlines: verl writes U+2028 and its like unescaped, inside a line.
    *lines, torn = file.read_bytes().split(b"\n")
    for number, line in enumerate(lines, start=1):
        try:
            row = json.loads(line)
        except ValueError as error:
            raise _no_dump(file, number, f"not JSON ({error})") from error
        if not isinstance(row, dict) or not row.keys() >= _COLUMNS:
            raise _no_dump(file, number, f"not an object with {', '.join(sorted(_COLUMNS))}")
        yield row
    if torn and not lines:
        raise _no_dump(file, 1, "no end of line")


def _no_dump(file: Path, number: int, problem: str) -> ValueError:
    return ValueError(
        f"samples={file} line {number}: {problem}; give a file that verl's validation wrote"
    )


def _judge_columns(rows: list[dict[str, Any]]) -> list[str]:
    """Returns the columns that hold zeros and ones alone, in the order of the dump."""
    columns = dict.fromkeys(key for row in rows for key in row if key not in _NO_JUDGE)
    for row in rows:
        for key in [key for key in columns if row.get(key) not in (0, 1, None)]:
            del columns[key]
    return list(columns)


def _verdicts(row: Mapping[str, Any], judges: list[str]) -> Iterator[tuple[str, str]]:
    lost = "timed_out" if row.get("timed_out") else "wrong"
    main = "score" if row.get("acc") is None else "acc"
    if row[main] == 1:
        yield main, "right"
    else:
        yield main, "no_answer" if row.get("no_answer") else lost
    for judge in judges:
        if row.get(judge) is not None:
            yield judge, "right" if row[judge] else lost


def _flag(value: float | None) -> bool | None:
    return None if value is None else bool(value)
