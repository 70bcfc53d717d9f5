"""Report which test questions are in GSM8K's training set or in another test set, as Markdown.

    python scripts/overlap.py DATA_DIR [--math-split simplelr_qwen_level3to5]

DATA_DIR holds the local files that `tinylora_rl.tasks.benchmarks` reads. With `--math-split`, also
compares that training split of SimpleRL-Zoo, which DATA_DIR must hold.
"""

import argparse
import sys
from itertools import combinations
from pathlib import Path

from tinylora_rl.tasks import DataError, Row, benchmarks, gsm8k, math_dataset
from tinylora_rl.tasks.overlap import NGRAM, THRESHOLD, Index, Overlap, overlap

MAX_QUESTION_CHARS = 160


def main() -> int:
    """Print the report; 1 where the data cannot be had."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data_dir", type=Path)
    parser.add_argument("--math-split", choices=math_dataset.SPLITS)
    arguments = parser.parse_args()
    try:
        train = {"gsm8k train": gsm8k.rows("train", arguments.data_dir)}
        if arguments.math_split:
            train[arguments.math_split] = math_dataset.rows(
                arguments.math_split, arguments.data_dir
            )
        test = {name: benchmarks.rows(name, arguments.data_dir) for name in benchmarks.BENCHMARKS}
    except DataError as error:
        print(error, file=sys.stderr)
        return 1
    print(report(train, test))
    return 0


def report(train: dict[str, list[Row]], test: dict[str, list[Row]]) -> str:
    """Return a table of counts, training sets first, then test sets by pairs, and the questions."""
    found = {}
    for held, rows in train.items():
        index = Index(rows)
        found |= {(held, asked): index.overlap(test[asked]) for asked in test}
    for held, asked in combinations(test, 2):
        found[held, asked] = overlap(test[held], test[asked])
    lines = [
        "# Overlap between data sets",
        "",
        f"Test questions that are also in the other set: with the same tokens (exact), or with at "
        f"least {THRESHOLD:.0%} of their {NGRAM}-grams in one of its questions (near).",
        "",
        "| held by | test set | questions | exact | near |",
        "|---|---|---:|---:|---:|",
    ]
    for (held, asked), result in found.items():
        if held in train or result.exact or result.near:
            lines.append(
                f"| {held} | {asked} | {result.num_test} | {len(result.exact)} "
                f"| {len(result.near)} |"
            )
    lines += ["", "Pairs of test sets that are not listed share nothing."]
    for (held, asked), result in found.items():
        lines += _pairs(held, asked, result)
    return "\n".join(lines)


def _pairs(held: str, asked: str, result: Overlap) -> list[str]:
    pairs = [*result.exact, *result.near]
    if not pairs:
        return []
    lines = ["", f"## {asked} in {held}", "", "| share | row | question | held in row | question |"]
    lines.append("|---:|---:|---|---:|---|")
    for pair in sorted(pairs, key=lambda pair: -pair.share):
        lines.append(
            f"| {pair.share:.2f} | {pair.test_index} | {_cell(pair.test_question)} "
            f"| {pair.train_index} | {_cell(pair.train_question)} |"
        )
    return lines


def _cell(question: str) -> str:
    text = " ".join(question.split())
    if len(text) > MAX_QUESTION_CHARS:
        text = text[:MAX_QUESTION_CHARS] + " ..."
    return text.replace("|", r"\|")


if __name__ == "__main__":
    sys.exit(main())
