"""Draws accuracy over one field of the adapter, all others equal: the paper's figures 7 and 8."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable

from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from tinylora_rl.studies.paper import FIGURE_7, FIGURE_8, FIGURES_BENCHMARK, INSTRUCT_3B
from tinylora_rl.studies.size_figure import draw_estimates, shades
from tinylora_rl.studies.study import Result, Study
from tinylora_rl.studies.variants import Variant

ValueOf = Callable[[Variant], float | None]


def draw_rank(study: Study) -> Figure | None:
    """Draws accuracy over r, a line for each setting of the rest."""
    return _draw(study, "r", lambda one: one.adapter.get("r"), FIGURE_7, "r, rank of the update")


def draw_tying(study: Study) -> Figure | None:
    """Draws accuracy over n_tie; `all` stands at the number of adapted modules."""
    return _draw(study, "n_tie", _n_tie, FIGURE_8, "n_tie, modules that share one v")


def _draw(
    study: Study, field: str, value_of: ValueOf, papers: dict[int, float], label: str
) -> Figure | None:
    families = _families(study.results, field, value_of)
    if not families:
        return None
    figure = Figure(figsize=(4.8, 3.4), layout="constrained")
    axes = figure.subplots()
    ticks: set[float] = set()
    firsts = [points[0][1].variant for points in families]
    colours = shades(first.algorithm for first in firsts)
    for first, points, colour in zip(firsts, families, colours, strict=True):
        values = [value for value, _ in points]
        ticks |= set(values)
        words = [word for word in first.label.split(" ") if not word.startswith(f"{field}=")]
        draw_estimates(
            axes,
            values,
            [result.accuracy for _, result in points],
            fmt="o-",
            capsize=3,
            color=colour,
            label=f"{first.algorithm} {' '.join(words)}",
        )
    models = {result.variant.model for result in study.results}
    if study.benchmark == FIGURES_BENCHMARK and INSTRUCT_3B in models:
        accuracies = [100 * accuracy for accuracy in papers.values()]
        axes.plot(list(papers), accuracies, "o:", color="#777777", mfc="white", label="paper, u=1")
        ticks |= set(papers)
    for base in study.untrained.values():
        axes.axhline(100 * base.value, color="#666666", ls="--", lw=1.2)
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_locator(FixedLocator(sorted(ticks)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
    axes.set(xlabel=label, ylabel="accuracy, %", title=f"{study.task}, held-out {study.held_out}")
    axes.legend(fontsize=8)
    return figure


def _families(
    results: Iterable[Result], field: str, value_of: ValueOf
) -> list[list[tuple[float, Result]]]:
    """Groups (value of the field, result) of results that are equal but for `field`."""
    equal: dict[str, list[tuple[float, Result]]] = {}
    for result in results:
        variant = result.variant
        value = value_of(variant)
        if variant.kind not in ("tinylora", "lora_xs") or value is None:
            continue
        rest = {key: item for key, item in variant.adapter.items() if key != field}
        others = [variant.algorithm, variant.model, variant.control, rest, variant.differences]
        equal.setdefault(json.dumps(others, sort_keys=True), []).append((value, result))
    return [
        sorted(points, key=lambda point: point[0])
        for points in equal.values()
        if len({value for value, _ in points}) > 1
    ]


def _n_tie(variant: Variant) -> float | None:
    n_tie = variant.adapter.get("n_tie")
    if n_tie != "all":
        return n_tie
    return next((run.size.num_modules for run in variant.runs if run.size.num_modules), None)
