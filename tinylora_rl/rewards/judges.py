r"""The judges: what a response is worth against a gold answer, under a name a recipe can choose.

A judge is an extractor and a grader. `strict`, `flexible` and `boxed` grade by exact match after
normalisation (`normalise`); `flexible_symbolic` and `boxed_symbolic` also take answers that
math-verify proves equal (`symbolic`). There is no `strict_symbolic`: what `strict` reads is a
number, and numbers are compared exactly already.
"""

from dataclasses import dataclass
from typing import Literal

from tinylora_rl.rewards.extract import EXTRACTORS
from tinylora_rl.rewards.normalise import MAX_ANSWER_CHARS, exact_match

__all__ = ["JUDGES", "MAX_ANSWER_CHARS", "Gold", "Judge", "Judged", "Verdict"]
__all__ += ["is_symbolic", "judge", "judge_named"]

Verdict = Literal["right", "wrong", "no_answer", "timed_out"]


@dataclass(frozen=True, kw_only=True)
class Gold:
    """What a benchmark says is right."""

    answer: str
    tolerance: float | None = None  # absolute; only where the benchmark states one
    unordered: bool = False  # several answers, separated by commas, in any order

    def __post_init__(self) -> None:
        if self.tolerance is not None and not 0 <= self.tolerance < float("inf"):
            raise ValueError(
                f"tolerance={self.tolerance!r}: not a finite number >= 0; mend the gold"
            )


@dataclass(frozen=True, kw_only=True)
class Judged:
    """A verdict and the answer it was given for, as extracted; None where there was none.

    `judge` never says `timed_out`: that is for a caller that ended the process it ran in.
    """

    verdict: Verdict
    answer: str | None


@dataclass(frozen=True, kw_only=True)
class Judge:
    """Where the answer is looked for, and how it is compared."""

    extractor: str
    grader: Literal["exact", "symbolic"]


JUDGES: dict[str, Judge] = {
    **{name: Judge(extractor=name, grader="exact") for name in EXTRACTORS},
    "flexible_symbolic": Judge(extractor="flexible", grader="symbolic"),
    "boxed_symbolic": Judge(extractor="boxed", grader="symbolic"),
}


def judge_named(name: str) -> Judge:
    """Return the judge of that name; ValueError with the choices if there is none."""
    if name not in JUDGES:
        raise ValueError(f"judge={name!r}: no such judge; choose from {', '.join(JUDGES)}")
    return JUDGES[name]


def is_symbolic(name: str) -> bool:
    """True when the judge may take long or crash, so that it needs a process that can be ended."""
    return judge_named(name).grader == "symbolic"


def judge(name: str, response: str, gold: Gold) -> Judged:
    """Return the verdict on a response: a function of its arguments alone.

    An exact judge takes milliseconds on any input. A symbolic one may take for ever, or end the
    process by recursion or memory: run it where it can be ended. Answers longer than
    `MAX_ANSWER_CHARS` are compared as text only.
    """
    chosen = judge_named(name)
    answer = EXTRACTORS[chosen.extractor](response)
    if answer is None or not answer.strip():
        return Judged(verdict="no_answer", answer=None)
    right = exact_match(answer, gold.answer, gold.tolerance, gold.unordered)
    if not right and chosen.grader == "symbolic":
        from tinylora_rl.rewards.symbolic import equivalent  # imports sympy: a second

        right = equivalent(answer, gold.answer, gold.tolerance, gold.unordered)
    return Judged(verdict="right" if right else "wrong", answer=answer)
