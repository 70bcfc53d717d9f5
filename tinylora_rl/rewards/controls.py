"""Replaces the task's reward by a control, to see how much of a gain needs the right answers.

`format_only` pays for an answer the judge's extractor finds, right or wrong: how much of a gain is
the format. `random` pays a coin toss: what GRPO does by itself to this base model. `always_wrong`
pays nothing: every advantage is 0, so the weights must not move.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

from tinylora_rl.rewards.judges import Verdict


@dataclass(frozen=True, kw_only=True)
class Sample:
    """Identifies a row by `question` and its sample by `rollout`, which is "" if unknown."""

    verdict: Verdict
    question: str
    rollout: str
    response: str


def format_only(sample: Sample, seed: int) -> float:
    """Pays 1.0 for any answer, including one that could not be graded in time."""
    return float(sample.verdict != "no_answer")


def random(sample: Sample, seed: int) -> float:
    """Pays a fair coin, a function of the seed and the sample, so that a run can be repeated.

    With `rollout`, samples with the same text get coins of their own. Without it they share one, in
    every epoch: a group of equal responses has no advantage, and what a text is paid never changes.
    """
    key = "\x1f".join((str(seed), sample.question, sample.rollout, sample.response))
    return float(hashlib.sha256(key.encode("utf-8", "surrogatepass")).digest()[0] & 1)


def always_wrong(sample: Sample, seed: int) -> float:
    return 0.0


CONTROLS: dict[str, Callable[[Sample, int], float]] = {
    "format_only": format_only,
    "random": random,
    "always_wrong": always_wrong,
}
