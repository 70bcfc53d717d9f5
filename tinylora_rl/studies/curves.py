"""Which results make a curve over the trained numbers, and which runs one over the steps."""

from __future__ import annotations

from collections.abc import Sequence

from tinylora_rl.studies.records import RunRecord
from tinylora_rl.studies.study import Result, Study
from tinylora_rl.studies.variants import Arm


def sized_results(study: Study) -> list[Result]:
    """Those that stand on the axis: their count is known, and they are no control."""
    return [r for r in study.results if r.arm.num_parameters and r.arm.control is None]


def curves_of(results: Sequence[Result]) -> dict[str, list[Result]]:
    """{name: results by size}: a curve for each model, method, tie mode and dtype of v.

    LoRA, LoRA-XS and full fine-tuning continue their method's main curve.
    """
    several = len({result.arm.model for result in results}) > 1
    found: dict[str, list[Result]] = {}
    for result in sorted(results, key=lambda result: result.arm.num_parameters or 0):
        found.setdefault(_curve_name(result.arm, several), []).append(result)
    return found


def best_at_each_size(results: Sequence[Result]) -> list[Result]:
    """What a curve joins, where several arms have one count."""
    best: dict[int, Result] = {}
    for result in results:
        size = result.arm.num_parameters or 0
        if size not in best or result.accuracy.value > best[size].accuracy.value:
            best[size] = result
    return list(best.values())


def bytes_per_number(arms: Sequence[Arm]) -> float | None:
    """Bytes of one trained number, if all arms agree on it."""
    ratios = {
        arm.num_bytes / arm.num_parameters for arm in arms if arm.num_bytes and arm.num_parameters
    }
    return ratios.pop() if len(ratios) == 1 else None


def mean_series(runs: Sequence[RunRecord], metric: str) -> list[tuple[int, float]]:
    """(step, mean over runs) at the steps that all of them have."""
    series = [dict(run.series(metric)) for run in runs]
    shared = sorted(set.intersection(*(set(values) for values in series))) if series else []
    return [(step, sum(values[step] for values in series) / len(series)) for step in shared]


def _curve_name(arm: Arm, with_model: bool) -> str:
    parts = [arm.method]
    if arm.kind == "tinylora":
        parts += ["structured"] if arm.adapter.get("tie_mode") == "structured" else []
        dtype = arm.adapter.get("v_dtype", "float32")
        parts += [str(dtype)] if dtype != "float32" else []
    return ", ".join(parts + ([arm.model] if with_model else []))
