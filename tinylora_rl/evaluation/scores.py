"""From graded responses to figures: accuracy, pass@k, majority vote, length, intervals.

Legend: N items of a benchmark, K samples of each.
Sources: pass@k unbiased as in arXiv 2107.03374 equation 1; maj@k as in arXiv 2203.11171.
"""

from __future__ import annotations

import dataclasses
import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from tinylora_rl.evaluation.intervals import Comparison, Estimate, bootstrap, compare, wilson
from tinylora_rl.evaluation.plan import BASE, Plan
from tinylora_rl.rewards import canonical


@dataclasses.dataclass(frozen=True, kw_only=True)
class JudgeScore:
    """What one judge says of one policy's responses to one benchmark, greedy or sampled.

    Attributes:
        accuracy: pass@1 of greedy responses, mean@k of sampled ones.
        pass_at_k, majority_at_k: of sampled responses, at k = K; None for greedy ones.
        against_base: None for the base itself.
    """

    accuracy: Estimate
    pass_at_k: float | None
    majority_at_k: float | None
    no_answer: float
    timed_out: float
    against_base: Comparison | None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Score:
    """One policy on one benchmark, greedy or sampled, under every judge.

    Attributes:
        response_tokens: mean length. truncated: share cut at the limit. overlong: share of
            questions that did not fit into the model's context and count as unanswered.
    """

    policy: str
    benchmark: str
    greedy: bool
    num_items: int
    num_samples: int
    response_tokens: float
    truncated: float
    overlong: float
    judges: dict[str, JudgeScore]


class _Responses:
    """The responses of one (policy, benchmark, greedy) without their texts."""

    def __init__(self) -> None:
        self.judged: dict[int, dict[int, Mapping[str, Any]]] = defaultdict(dict)
        self.tokens: list[int] = []
        self.truncated = 0
        self.overlong = 0

    def add(self, item: Mapping[str, Any]) -> None:
        self.judged[item["index"]][item["sample"]] = item["judged"]
        self.tokens.append(item["response_tokens"])
        self.truncated += item["truncated"]
        self.overlong += item["overlong"]

    def column(self, judge: str, verdict: str) -> np.ndarray:
        """(N, K) of 0.0 and 1.0: where `judge` said `verdict`."""
        return np.array(
            [
                [float(samples[k][judge]["verdict"] == verdict) for k in sorted(samples)]
                for _, samples in sorted(self.judged.items())
            ]
        )

    def majority(self, judge: str) -> float:
        votes = [
            _majority([samples[k][judge] for k in sorted(samples)])
            for samples in self.judged.values()
        ]
        return sum(votes) / len(votes)


def score(items: Iterable[Mapping[str, Any]], plan: Plan, confidence: float) -> list[Score]:
    """One score for each (benchmark, greedy, policy) of a complete evaluation, in plan order.

    Raises:
        ValueError: some response is missing.
    """
    groups: dict[tuple[str, str, bool], _Responses] = defaultdict(_Responses)
    for item in items:
        groups[item["policy"], item["benchmark"], item["greedy"]].add(item)
    scores = []
    for benchmark in plan.benchmarks:
        for greedy in (True, False):
            base = groups.get((BASE, benchmark, greedy))
            if base is None:
                continue
            for policy in plan.policies:
                found = groups.get((policy.name, benchmark, greedy))
                if found is None or found.judged.keys() != base.judged.keys():
                    raise ValueError(f"{benchmark}: responses of {policy.name} are missing")
                scores.append(
                    _score(policy.name, benchmark, greedy, found, base, plan.judges, confidence)
                )
    return scores


def _score(
    policy: str,
    benchmark: str,
    greedy: bool,
    found: _Responses,
    base: _Responses,
    judges: Iterable[str],
    confidence: float,
) -> Score:
    by_judge = {}
    for judge in judges:
        right_NK = found.column(judge, "right")
        by_judge[judge] = JudgeScore(
            accuracy=(
                wilson(right_NK[:, 0], confidence)
                if greedy
                else bootstrap(right_NK.mean(axis=1), confidence)
            ),
            pass_at_k=None if greedy else pass_at_k(right_NK, right_NK.shape[1]),
            majority_at_k=None if greedy else found.majority(judge),
            no_answer=float(found.column(judge, "no_answer").mean()),
            timed_out=float(found.column(judge, "timed_out").mean()),
            against_base=(
                None
                if policy == BASE
                else compare(right_NK, base.column(judge, "right"), confidence)
            ),
        )
    num_responses = len(found.tokens)
    return Score(
        policy=policy,
        benchmark=benchmark,
        greedy=greedy,
        num_items=len(found.judged),
        num_samples=num_responses // len(found.judged),
        response_tokens=sum(found.tokens) / num_responses,
        truncated=found.truncated / num_responses,
        overlong=found.overlong / num_responses,
        judges=by_judge,
    )


def pass_at_k(right_NK: np.ndarray, k: int) -> float:
    """The chance that at least one of k of the K samples is right, mean over items; 1 <= k <= K."""
    num_samples = right_NK.shape[1]
    chances = [
        1 - math.comb(num_samples - right, k) / math.comb(num_samples, k)
        for right in right_NK.sum(axis=1).astype(int).tolist()
    ]
    return sum(chances) / len(chances)


def _majority(samples: list[Mapping[str, Any]]) -> bool:
    """Whether the most frequent answer is right; of equally frequent ones the first drawn counts.

    Samples without an answer do not vote; without any vote the item is wrong.
    """
    answers = [
        canonical(sample["answer"]) if sample["answer"] is not None else None for sample in samples
    ]
    votes = Counter(answer for answer in answers if answer is not None)
    if not votes:
        return False
    winner = votes.most_common(1)[0][0]  # insertion order breaks ties
    return samples[answers.index(winner)]["verdict"] == "right"
