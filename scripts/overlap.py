r"""Report which test questions are in GSM8K's training set or in another test set, as Markdown.

    python scripts/overlap.py DATA_DIR [--math-split simplelr_qwen_level3to5]

DATA_DIR holds the local files that the tasks read. With `--math-split`, also compares that training
split of SimpleRL-Zoo, which DATA_DIR must hold.

Questions are compared as tokens: lower-case words, numbers and the signs that carry a formula
(+ - * / = < > ^ _ |). White space, punctuation, `$`, braces and LaTeX's spacing and sizing commands
make no difference, nor do Unicode's compatibility forms, `\dfrac` for `\frac`, 1,200 for 1200.

- exact: the same tokens.
- near: at least `THRESHOLD` (one half) of the distinct 8-grams of the test question's tokens are in
  one training question. Questions of fewer than 8 tokens can only be exact.
"""

import argparse
import re
import sys
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Sequence
from itertools import combinations, product
from pathlib import Path
from typing import NamedTuple

from tinylora_rl.errors import ConfigError
from tinylora_rl.tasks import Row, make_task
from tinylora_rl.tasks.benchmarks import BENCHMARKS
from tinylora_rl.tasks.math_dataset import SPLITS

Tokens = tuple[str, ...]

NGRAM = 8
THRESHOLD = 0.5
MAX_QUESTION_CHARS = 160

_SPACING = re.compile(
    r"\\(?:[,;:!> ]|q?quad(?![a-zA-Z])|(?:left|right|displaystyle)(?![a-zA-Z]))|~"
)
_FRACTION = re.compile(r"\\[dt]frac(?![a-zA-Z])")
_THOUSANDS = re.compile(r"(?<=\d),(?=\d{3}(?!\d))")
_HYPHEN = re.compile(r"(?<=[^\W\d_])-(?=[^\W\d_]{2})")  # four-digit, not x-y
_TOKEN = re.compile(r"\d+(?:\.\d+)?|[^\W\d_]+|[-+*/=<>^_|]")


class Pair(NamedTuple):
    """A test question and the training question most like it; indices into the rows given."""

    share: float  # of the test question's 8-grams; 1 for exact pairs
    test_index: int
    test_question: str
    train_index: int
    train_question: str


class Overlap(NamedTuple):
    """Test questions that a training set has, each in one pair: exact with its first copy."""

    exact: list[Pair]
    near: list[Pair]


class Index(NamedTuple):
    """Training questions, their first position by tokens, their positions by 8-gram."""

    questions: list[str]
    first: dict[Tokens, int]
    holders: dict[Tokens, list[int]]


def index_of(rows: Sequence[Row]) -> Index:
    """Returns the index of the questions of `rows`."""
    index = Index([row["extra_info"]["question"] for row in rows], {}, defaultdict(list))
    for position, question in enumerate(index.questions):
        tokens = tokenize(question)
        index.first.setdefault(tokens, position)
        for ngram in _ngrams(tokens):
            index.holders[ngram].append(position)
    return index


def overlap(train: Index, test_rows: Sequence[Row]) -> Overlap:
    """Returns the test rows whose question is among the training questions (the module's rule)."""
    exact, near = [], []
    for test_index, row in enumerate(test_rows):
        question = row["extra_info"]["question"]
        tokens = tokenize(question)
        if tokens and tokens in train.first:
            found = train.first[tokens]
            exact.append(Pair(1.0, test_index, question, found, train.questions[found]))
            continue
        ngrams = _ngrams(tokens)
        shared = Counter(holder for ngram in ngrams for holder in train.holders.get(ngram, ()))
        if not shared:
            continue
        found, num_shared = min(shared.items(), key=lambda item: (-item[1], item[0]))
        share = num_shared / len(ngrams)
        if share >= THRESHOLD:
            near.append(Pair(share, test_index, question, found, train.questions[found]))
    return Overlap(exact, near)


def tokenize(question: str) -> Tokens:
    """Returns the part of a question that is compared; see the module."""
    text = unicodedata.normalize("NFKC", question).replace("\N{MINUS SIGN}", "-")
    text = _FRACTION.sub(r"\\frac", _SPACING.sub(" ", text))
    text = _HYPHEN.sub(" ", _THOUSANDS.sub("", text))
    return tuple(_TOKEN.findall(text.casefold()))


def _ngrams(tokens: Tokens) -> set[Tokens]:
    return {tokens[start : start + NGRAM] for start in range(len(tokens) - NGRAM + 1)}


def main() -> int:
    """Prints the report; 1 if the data are missing."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data_dir", type=Path)
    parser.add_argument("--math-split", choices=SPLITS)
    arguments = parser.parse_args()
    path = {"path": arguments.data_dir}
    try:
        train = {"gsm8k train": make_task("gsm8k", path).rows("train")}
        if split := arguments.math_split:
            train[split] = make_task("math", {**path, "split": split}).rows("train")
        test = {name: make_task(name, path).rows("test") for name in ("gsm8k", *BENCHMARKS)}
    except ConfigError as error:
        print(error, file=sys.stderr)
        return 1
    print(report(train, test))
    return 0


def report(train: dict[str, list[Row]], test: dict[str, list[Row]]) -> str:
    """Returns a table of counts, training sets first, then test sets by pairs, and all pairs."""
    pairs = [*product(train, test), *combinations(test, 2)]
    indices = {name: index_of(rows) for name, rows in (train | test).items()}
    found = {(one, other): overlap(indices[one], test[other]) for one, other in pairs}
    lines = [
        "# Overlap between data sets",
        "",
        f"Test questions that are also in the other set: with the same tokens (exact), or with at "
        f"least {THRESHOLD:.0%} of their {NGRAM}-grams in one of its questions (near).",
        "",
        "| also in | test set | questions | exact | near |",
        "|---|---|---:|---:|---:|",
    ]
    for (one, other), (exact, near) in found.items():
        if one in train or exact or near:
            counts = f"{len(test[other])} | {len(exact)} | {len(near)}"
            lines.append(f"| {one} | {other} | {counts} |")
    lines += ["", "Pairs of test sets that are not listed share nothing."]
    for (one, other), (exact, near) in found.items():
        if exact or near:
            lines += ["", f"## {other} in {one}", ""]
            lines += ["| share | row | question | also in row | question |"]
            lines += ["|---:|---:|---|---:|---|"]
        for pair in sorted([*exact, *near], key=lambda pair: -pair.share):
            lines.append(
                f"| {pair.share:.2f} | {pair.test_index} | {_cell(pair.test_question)} "
                f"| {pair.train_index} | {_cell(pair.train_question)} |"
            )
    return "\n".join(lines)


def _cell(question: str) -> str:
    text = " ".join(question.split())
    if len(text) > MAX_QUESTION_CHARS:
        text = text[:MAX_QUESTION_CHARS] + " ..."
    return text.replace("|", r"\|")


if __name__ == "__main__":
    sys.exit(main())
