"""Computes accuracy, pass@k, majority vote, lengths and intervals from graded responses.

Legend: N items of a benchmark, K samples of each.
Sources: pass@k unbiased as in arXiv 2107.03374 equation 1; maj@k as in arXiv 2203.11171.
"""

from __future__ import annotations

import dataclasses
import math
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from tinylora_rl.evaluation.intervals import Comparison, Estimate, bootstrap, compare, wilson
from tinylora_rl.evaluation.plan import BASE, EvaluationPlan
from tinylora_rl.rewards import exact_match


@dataclasses.dataclass(frozen=True, kw_only=True)
class JudgeScore:
    """The verdicts of one judge on one policy's responses to one benchmark, greedy or sampled.

    Attributes:
        accuracy: pass@1 of greedy responses, mean@k of sampled ones.
        pass_at_k, majority_at_k: of sampled responses, at k = K. Answers equal by exact match vote
            together, and count as most of them were judged; responses without an extracted answer,
            and those that timed out, do not vote.
        against_base: None for the base itself.
    """

    accuracy: Estimate
    pass_at_k: Estimate | None
    majority_at_k: Estimate | None
    no_answer: float
    timed_out: float
    against_base: Comparison | None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Score:
    """One policy on one benchmark, greedy or sampled, under every judge.

    Attributes:
        response_tokens: mean length.
        truncated, overlong: shares: cut at the limit; of questions that did not fit into the
            model's context and count as unanswered.
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
        """Returns (N, K) of 0.0 and 1.0: 1.0 where `judge` gave `verdict`."""
        return np.array(
            [
                [float(samples[k][judge]["verdict"] == verdict) for k in sorted(samples)]
                for _, samples in sorted(self.judged.items())
            ]
        )

    def majority(self, judge: str) -> np.ndarray:
        """Returns (N,) of 0.0 and 1.0: 1.0 where the majority's answer is right."""
        return np.array(
            [
                float(_majority([samples[k][judge] for k in sorted(samples)]))
                for _, samples in sorted(self.judged.items())
            ]
        )


def score(
    items: Iterable[Mapping[str, Any]], plan: EvaluationPlan, confidence: float
) -> list[Score]:
    """Scores each (benchmark, greedy, policy) of a complete evaluation, in plan order.

    Raises:
        ValueError: some response is missing.
    """
    groups: dict[tuple[str, str, bool], _Responses] = defaultdict(_Responses)
    for item in items:
        groups[item["policy"], item["benchmark"], item["greedy"]].add(item)
    decodings = {True: int(plan.sampling.greedy), False: plan.sampling.num_samples}
    scores = []
    for benchmark in plan.benchmarks:
        for greedy, num_samples in decodings.items():
            if not num_samples:
                continue
            base = groups[BASE, benchmark, greedy]
            for policy in plan.policies:
                found = groups[policy.name, benchmark, greedy]
                wanted = dict.fromkeys(base.judged, num_samples)
                have = {index: len(samples) for index, samples in found.judged.items()}
                if not wanted or have != wanted:
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
            pass_at_k=(
                None if greedy else bootstrap(pass_at_k(right_NK, right_NK.shape[1]), confidence)
            ),
            majority_at_k=None if greedy else wilson(found.majority(judge), confidence),
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


def pass_at_k(right_NK: np.ndarray, k: int) -> np.ndarray:
    """Returns (N,) chances that one of k of an item's K samples is right; 1 <= k <= K."""
    num_samples = right_NK.shape[1]
    return np.array(
        [
            1 - math.comb(num_samples - right, k) / math.comb(num_samples, k)
            for right in right_NK.sum(axis=1).astype(int).tolist()
        ]
    )


def _majority(samples: list[Mapping[str, Any]]) -> bool:
    """Judges the most frequent answer, of equally frequent ones the first; wrong without a vote."""
    groups: list[list[Mapping[str, Any]]] = []
    for sample in samples:
        answer = sample["answer"]
        if answer is None:
            continue
        same = (group for group in groups if exact_match(answer, group[0]["answer"]))
        group = next(same, None)
        if group is None:
            groups.append([sample])
        else:
            group.append(sample)
    if not groups:
        return False
    winner = max(groups, key=len)  # the first of the largest
    return 2 * sum(sample["verdict"] == "right" for sample in winner) > len(winner)
