"""Chains of one-digit sums and differences.

How the embedded base model learned to answer them: `scripts/embedded_model/completions.py`.
"""

import hashlib
import random
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate

from tinylora_rl.tasks.task import Split

NUM_TERMS = 4
MAX_TERM = 9
TEST_SHARE_PERCENT = 10
NUM_PROBLEMS = {"train": 26_894, "test": 3_142}  # all there are; counted by a test


@dataclass(frozen=True, kw_only=True)
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
