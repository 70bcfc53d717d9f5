"""Lays out evaluations like the paper's table 2: a row a policy, a column a benchmark."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from tinylora_rl.studies.evaluations import BenchmarkScore, Evaluation
from tinylora_rl.studies.paper import BENCHMARKS, TABLE_2
from tinylora_rl.studies.records import RunRecord


def benchmark_tables(
    evaluations: Sequence[Evaluation], runs: Sequence[RunRecord] = ()
) -> Iterator[list[str]]:
    """Yields a Markdown section for each evaluation and decoding, the paper's rows below ours.

    An evaluation names its adapters by digest; the sizes come from `runs`.

    The mean is ours over the columns shown. The paper's last column is its own mean, over six.
    """
    sizes = {run.digest: run.size.num_parameters for run in runs if run.digest} | {"": 0}
    for evaluation in evaluations:
        for decoding in ("greedy", "sampled"):
            scores = [score for score in evaluation.scores if score.decoding == decoding]
            if scores:
                yield _section(evaluation, decoding, scores, sizes)


def _section(
    evaluation: Evaluation,
    decoding: str,
    scores: Sequence[BenchmarkScore],
    sizes: Mapping[str, int | None],
) -> list[str]:
    shown = list(dict.fromkeys(score.benchmark for score in scores))
    judges = {score.benchmark: score.judge for score in scores}
    found = {(score.policy, score.benchmark): score for score in scores}
    policies = {score.policy: sizes.get(score.digest) for score in scores}
    header = ["policy", "numbers", *(f"{name} ({judges[name]})" for name in shown), "mean"]
    lines = [
        f"## {evaluation.name}: {evaluation.model}, {decoding}",
        "",
        "| " + " | ".join(header) + " |",
        "|---|---:|" + "---|" * (len(shown) + 1),
    ]
    for policy, count in policies.items():
        row = [found[policy, name] for name in shown]
        mean = sum(score.accuracy.value for score in row) / len(row)
        cells = [policy, "?" if count is None else f"{count:,}", *map(_cell, row)]
        lines.append("| " + " | ".join([*cells, f"{100 * mean:.1f}"]) + " |")
    for papers_count, values in TABLE_2.get(evaluation.model, {}).items():
        by_name = dict(zip(BENCHMARKS, values, strict=True))
        cells = ["paper", "all" if papers_count is None else f"{papers_count:,}"]
        cells += [f"{by_name[name]:.1f}" if name in by_name else "" for name in shown]
        lines.append("| " + " | ".join([*cells, f"{by_name['mean']:.1f}"]) + " |")
    confidence = f"{evaluation.confidence:.0%}"
    lines += [
        "",
        f"Per cent, {confidence} intervals of the questions; `*` p < .05 to the base.",
    ]
    return lines


def _cell(score: BenchmarkScore) -> str:
    value, low, high = (
        100 * x for x in (score.accuracy.value, score.accuracy.low, score.accuracy.high)
    )
    star = " *" if score.p_value is not None and score.p_value < 0.05 else ""
    return f"{value:.1f} [{low:.1f}, {high:.1f}]{star}"
