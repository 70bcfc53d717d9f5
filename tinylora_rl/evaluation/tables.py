"""Writes scores as Markdown and as JSON."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from tinylora_rl.evaluation.intervals import Estimate
from tinylora_rl.evaluation.plan import BASE, EvaluationPlan
from tinylora_rl.evaluation.scores import Score


def to_json(scores: Iterable[Score], plan: EvaluationPlan, confidence: float) -> dict[str, Any]:
    """Returns the plan and every score in plain values."""
    return {
        "plan": plan.to_dict(),
        "confidence": confidence,
        "scores": [dataclasses.asdict(score) for score in scores],
    }


def to_markdown(scores: Sequence[Score], plan: EvaluationPlan, confidence: float) -> str:
    """Renders the headline table, then each benchmark under all judges."""
    sampling = plan.sampling
    lines = [
        "# Evaluation",
        "",
        f"Base model `{plan.model}`, weights {plan.weights}, seed {sampling.seed}, responses of at "
        f"most {sampling.max_response_tokens} tokens. Accuracies in per cent with "
        f"{confidence:.0%} intervals: Wilson for greedy decoding and votes, bootstrap over items "
        "for means and pass@k, Bonett and Price for greedy differences.",
        "",
    ]
    for greedy in (True, False):
        chosen = [score for score in scores if score.greedy is greedy]
        if chosen:
            lines += _headline(chosen, plan, greedy)
    for benchmark in plan.benchmarks:
        lines += _details([s for s in scores if s.benchmark == benchmark], plan, benchmark)
    return "\n".join(lines) + "\n"


def _headline(scores: Sequence[Score], plan: EvaluationPlan, greedy: bool) -> list[str]:
    benchmarks = list(plan.benchmarks)
    title = "Greedy, pass@1" if greedy else f"Sampled, mean@{scores[0].num_samples}"
    found = {(score.policy, score.benchmark): score for score in scores}
    judges = [f"{name} ({plan.headline[name]})" for name in benchmarks]
    rows = []
    for policy in plan.policies:
        cells, values = [], []
        for name in benchmarks:
            judged = found[policy.name, name].judges[plan.headline[name]]
            values.append(judged.accuracy.value)
            cells.append(_interval(judged.accuracy) + _significance(judged.against_base))
        rows.append([policy.name, *cells, f"{100 * sum(values) / len(values):.1f}"])
    return [
        f"## {title}",
        "",
        *_table(["policy", *judges, "mean"], rows),
        "",
        "`*` p < .05 and `**` p < .01 against the base on the same items, two-sided, not corrected "
        "for the number of comparisons.",
        "",
    ]


def _details(scores: Sequence[Score], plan: EvaluationPlan, benchmark: str) -> list[str]:
    header = ["policy", "decoding", "judge", "accuracy", "pass@k", "maj@k", "no answer"]
    header += ["timed out", "vs base", "better / worse", "p"]
    rows = []
    for score in scores:
        for name in plan.judges:
            judged = score.judges[name]
            versus = judged.against_base
            rows.append(
                [
                    score.policy,
                    "greedy" if score.greedy else f"{score.num_samples} samples",
                    name,
                    _interval(judged.accuracy),
                    _interval(judged.pass_at_k),
                    _interval(judged.majority_at_k),
                    _percent(judged.no_answer),
                    _percent(judged.timed_out),
                    _interval(versus.difference, sign=True) if versus else "",
                    f"{versus.num_better} / {versus.num_worse}" if versus else "",
                    f"{versus.p_value:.2g}" if versus else "",
                ]
            )
    lengths = [
        [
            score.policy,
            "greedy" if score.greedy else f"{score.num_samples} samples",
            f"{score.response_tokens:.1f}",
            _percent(score.truncated),
            _percent(score.overlong),
        ]
        for score in scores
    ]
    length_header = ["policy", "decoding", "response tokens", "truncated", "prompt too long"]
    return [
        f"## {benchmark}, {scores[0].num_items} items",
        "",
        *_table(header, rows),
        "",
        *_table(length_header, lengths),
        "",
    ]


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    return [
        "| " + " | ".join(header) + " |",
        "|" + "---|" * len(header),
        *("| " + " | ".join(row) + " |" for row in rows),
    ]


def _percent(share: float) -> str:
    return f"{100 * share:.1f}"


def _interval(estimate: Estimate | None, sign: bool = False) -> str:
    if estimate is None:
        return ""
    form = "+.1f" if sign else ".1f"
    value, low, high = (100 * x for x in (estimate.value, estimate.low, estimate.high))
    return f"{value:{form}} [{low:{form}}, {high:{form}}]"


def _significance(versus: Any) -> str:
    if versus is None or versus.p_value >= 0.05:
        return ""
    return " **" if versus.p_value < 0.01 else " *"


def console_lines(scores: Sequence[Score], plan: EvaluationPlan) -> list[str]:
    """Returns one line for each policy and benchmark, for the end of a run."""
    base: Mapping[tuple[str, bool], Score] = {
        (score.benchmark, score.greedy): score for score in scores if score.policy == BASE
    }
    lines = []
    for score in scores:
        judge = plan.headline[score.benchmark]
        judged = score.judges[judge]
        line = (
            f"{score.benchmark:<15}{'greedy' if score.greedy else f'mean@{score.num_samples}':<9}"
            f"{score.policy:<20}{judge} {_interval(judged.accuracy)}"
        )
        if judged.against_base is not None:
            before = base[score.benchmark, score.greedy].judges[judge].accuracy.value
            line += f"   base {100 * before:.1f}, p {judged.against_base.p_value:.2g}"
        lines.append(line)
    return lines
