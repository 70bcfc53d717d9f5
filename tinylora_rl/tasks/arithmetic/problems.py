"""Chains of one-digit sums and differences, and two ways to answer them.

Two ways to answer exist. The *worked* one writes every step and ends with the right number. The
*terse* one dithers ("Hm") and then guesses. A writer may also dither a little and work the problem
after all, so the choice comes up several times in one answer. The base model is pre-trained on such
writers: at temperature 1 it samples both ways. What reinforcement learning has to find is the habit
that pays, not the skill of adding.

Pure Python: a newcomer's data set needs no torch.
"""

import hashlib
import random
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate

from tinylora_rl.tasks.task import Split

NUM_TERMS = 4
MAX_TERM = 9
TEST_SHARE_PERCENT = 10
NUM_PROBLEMS = {"train": 26_894, "test": 3_142}  # all there are; counted by a test

HESITATION = "Hm\n"
NUM_HESITATIONS = 3
# Of the guesses seen in pre-training, this share is right; the others are off by 1 to MAX_SLIP.
RIGHT_GUESS_SHARE = 0.2
MAX_SLIP = 9

_FINAL_ANSWER = re.compile(r"####\s*(-?\d+)")


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


def terse_completion(number: int) -> str:
    """Returns all the dithering there is, then `number` as the answer."""
    return HESITATION * NUM_HESITATIONS + f"#### {number}"


def is_terse(completion: str) -> bool:
    return completion.startswith(HESITATION * NUM_HESITATIONS)


def final_answer(completion: str) -> int | None:
    """Returns the number after the last `####`, or None, as GSM8K's strict reward does."""
    found = _FINAL_ANSWER.findall(completion)
    return int(found[-1]) if found else None


def draw_completion(
    problem: Problem, terse_share: float, rng: random.Random, *, guesses: bool
) -> str:
    """Draws the answer of a writer who, `terse_share` of the time, dithers to the end.

    Such a writer ends with a guess, or, where `guesses` is false, works the problem after all.
    """
    hesitate = terse_share ** (1 / NUM_HESITATIONS)
    num_hesitations = 0
    while num_hesitations < NUM_HESITATIONS and rng.random() < hesitate:
        num_hesitations += 1
    if guesses and num_hesitations == NUM_HESITATIONS:
        return terse_completion(_guess(problem, rng))
    return HESITATION * num_hesitations + problem.worked


def _guess(problem: Problem, rng: random.Random) -> int:
    if rng.random() < RIGHT_GUESS_SHARE:
        return problem.answer
    slip = rng.randint(1, MAX_SLIP)
    low_side = rng.random() < 0.5 and slip <= problem.answer  # a guess is never negative
    return problem.answer - slip if low_side else problem.answer + slip


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
