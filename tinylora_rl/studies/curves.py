"""Arranges results as curves over the trained numbers, and runs as curves over the steps."""

from __future__ import annotations

from collections.abc import Sequence

from tinylora_rl.studies.records import RunRecord
from tinylora_rl.studies.study import Result, Study
from tinylora_rl.studies.variants import Variant


def sized_results(study: Study) -> list[Result]:
    """Returns the results of known size that are no control."""
    return [r for r in study.results if r.variant.num_parameters and r.variant.control is None]


def curves_of(results: Sequence[Result]) -> dict[str, list[Result]]:
    """Groups results, by size, into a curve for each model, algorithm, tie mode and dtype of v.

    LoRA, LoRA-XS and full fine-tuning continue their algorithm's main curve.
    """
    several = len({result.variant.model for result in results}) > 1
    found: dict[str, list[Result]] = {}
    for result in sorted(results, key=lambda result: result.variant.num_parameters or 0):
        found.setdefault(_curve_name(result.variant, several), []).append(result)
    return found


def best_at_each_size(results: Sequence[Result]) -> list[Result]:
    """Returns the results that a curve joins, where several variants have one count."""
    best: dict[int, Result] = {}
    for result in results:
        size = result.variant.num_parameters or 0
        if size not in best or result.accuracy.value > best[size].accuracy.value:
            best[size] = result
    return list(best.values())


def bytes_per_number(variants: Sequence[Variant]) -> float | None:
    """Returns the bytes of one trained number, if all variants agree on it."""
    sizes = [(one.num_bytes, one.num_parameters) for one in variants]
    ratios = {num_bytes / count for num_bytes, count in sizes if num_bytes and count}
    return ratios.pop() if len(ratios) == 1 else None


def mean_series(runs: Sequence[RunRecord], metric: str) -> list[tuple[int, float]]:
    """Returns (step, mean over runs) at the steps that all of them have."""
    series = [dict(run.series(metric)) for run in runs]
    shared = sorted(set.intersection(*(set(values) for values in series))) if series else []
    return [(step, sum(values[step] for values in series) / len(series)) for step in shared]


def _curve_name(variant: Variant, with_model: bool) -> str:
    parts = [variant.algorithm]
    if variant.kind == "tinylora":
        parts += ["structured"] if variant.adapter.get("tie_mode") == "structured" else []
        dtype = variant.adapter.get("v_dtype", "float32")
        parts += [str(dtype)] if dtype != "float32" else []
    return ", ".join(parts + ([variant.model] if with_model else []))
