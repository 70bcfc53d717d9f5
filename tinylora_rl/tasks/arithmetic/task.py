"""The embedded task: generated chains of one-digit sums, answer after `####` as in GSM8K.

How the embedded base model learned to answer them: `scripts/embedded_model/completions.py`.
"""

import dataclasses
import hashlib
import random
from collections.abc import Iterator
from itertools import accumulate
from pathlib import Path
from typing import ClassVar

from tinylora_rl.errors import ConfigError
from tinylora_rl.tasks.row import Row, make_row
from tinylora_rl.tasks.task import MeanTokens, Split, Task, register_task

NUM_TERMS = 4
MAX_TERM = 9
TEST_SHARE_PERCENT = 10
NUM_PROBLEMS = {"train": 26_894, "test": 3_142}  # all there are; counted by a test


@dataclasses.dataclass(frozen=True, kw_only=True)
class Problem:
    """A chain of additions and subtractions of one-digit numbers; no running total is negative."""

    terms: tuple[int, ...]  # signed: 7+8-3+5 is (7, 8, -3, 5)

    @property
    def totals(self) -> tuple[int, ...]:
        """Returns the running total after each term; the last one is the answer."""
        return tuple(accumulate(self.terms))

    @property
    def answer(self) -> int:
        return sum(self.terms)

    @property
    def question(self) -> str:
        first, *others = self.terms
        return f"What is {first}{''.join(f'{term:+d}' for term in others)}?"

    @property
    def worked(self) -> str:
        """Returns the completion with each step on a line: `7+8=15`, ..., `12+5=17`, `#### 17`."""
        steps = zip(self.totals, self.terms[1:], self.totals[1:], strict=False)
        lines = [f"{before}{term:+d}={after}" for before, term, after in steps]
        return "\n".join([*lines, f"#### {self.answer}"])

    @property
    def split(self) -> Split:
        """Returns the split that the problem belongs to.

        A hash of the signed terms in sorted order: reordering a held-out problem never gives a
        training problem. SHA-256, because Python's `hash` of a string changes between processes.
        """
        key = ",".join(str(term) for term in sorted(self.terms))
        digest = hashlib.sha256(key.encode("ascii")).digest()
        return "test" if int.from_bytes(digest[:8], "big") % 100 < TEST_SHARE_PERCENT else "train"


def stream(split: Split, seed: int) -> Iterator[Problem]:
    """Yields problems of one split without end; a seed gives the same ones on every machine."""
    _check_split(split)
    rng = random.Random(f"arithmetic/{split}/{seed}")
    while True:
        first, *others = (rng.randint(1, MAX_TERM) for _ in range(NUM_TERMS))
        problem = Problem(terms=(first, *(term * rng.choice((1, -1)) for term in others)))
        if min(problem.totals) >= 0 and problem.split == split:
            yield problem


def _check_split(split: str) -> None:
    if split not in NUM_PROBLEMS:
        raise ValueError(f"split must be 'train' or 'test', got {split!r}")


def sample_problems(split: Split, num_problems: int, seed: int) -> list[Problem]:
    """Returns different problems of one split. A longer list starts with the shorter one."""
    _check_split(split)
    if not 0 <= num_problems <= NUM_PROBLEMS[split]:
        raise ValueError(
            f"num_problems must be 0 to {NUM_PROBLEMS[split]} for {split!r}, got {num_problems}"
        )
    chosen: dict[Problem, None] = {}
    problems = stream(split, seed)
    while len(chosen) < num_problems:
        chosen[next(problems)] = None
    return list(chosen)


HELD_OUT_SEED = 42
"""The held-out problems are the same whatever a run trains on."""


def base_model_dir() -> Path:
    """Returns the folder that scripts/build_arithmetic_model.py wrote: a Qwen2 of 0.6 M numbers."""
    return Path(__file__).parent / "base_model"


@register_task
@dataclasses.dataclass(frozen=True, kw_only=True)
class Arithmetic(Task):
    """Different problems, the question alone as the prompt.

    The splits are disjoint, and both from the pre-training of the embedded model, whatever the
    seed.

    Attributes:
        path: a folder with the files of benchmarks measured besides; nothing here is read from it.
        seed: of the training problems.
    """

    name: ClassVar[str] = "arithmetic"
    judge: ClassVar[str] = "strict"  # type: ignore[misc]  # a constant, not a property
    mean_tokens: ClassVar[MeanTokens] = MeanTokens(prompt=16, response=24)

    path: str | None = None
    check: bool = True
    train_rows: int = 2048
    test_rows: int = 256
    seed: int = HELD_OUT_SEED

    def __post_init__(self) -> None:
        for key, split in (("train_rows", "train"), ("test_rows", "test")):
            value, most = getattr(self, key), NUM_PROBLEMS[split]
            if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= most:
                raise ConfigError(f"data.{key}={value}: use a whole number of 0 to {most}")

    def rows(self, split: Split, limit: int | None = None) -> list[Row]:
        """Returns so many rows as `train_rows` or `test_rows` says, or `limit`, if given."""
        self.check_split(split)
        num_rows = self.num_rows(split) if limit is None else limit
        return rows(split, num_rows, self.seed if split == "train" else HELD_OUT_SEED)

    def num_rows(self, split: Split) -> int:
        return self.train_rows if split == "train" else self.test_rows


def rows(split: Split, num_rows: int, seed: int) -> list[Row]:
    """Returns rows of different problems of one split; ValueError if there are fewer."""
    return [
        make_row(
            "arithmetic",
            split,
            index,
            question=problem.question,
            gold=str(problem.answer),
            worked=problem.worked,
        )
        for index, problem in enumerate(sample_problems(split, num_rows, seed))
    ]
