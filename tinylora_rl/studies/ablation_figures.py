"""Accuracy over one field of the adapter, all others equal: the paper's figures 7 and 8."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable

from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from tinylora_rl.studies.paper import FIGURE_7, FIGURE_8, INSTRUCT_3B
from tinylora_rl.studies.seeds import whisker
from tinylora_rl.studies.size_figure import SHADES
from tinylora_rl.studies.study import Result, Study
from tinylora_rl.studies.variants import Arm


def draw_rank(study: Study) -> Figure | None:
    """Over r, a line for each setting of the rest."""
    return _draw(study, "r", lambda arm: arm.adapter.get("r"), FIGURE_7, "r, rank of the update")


def draw_tying(study: Study) -> Figure | None:
    """Over n_tie; `all` stands at the number of adapted modules."""
    return _draw(study, "n_tie", _n_tie, FIGURE_8, "n_tie, modules that share one v")


def _draw(
    study: Study,
    field: str,
    value_of: Callable[[Arm], float | None],
    papers: dict[int, float],
    label: str,
) -> Figure | None:
    families = _families(study.results, field, value_of)
    if not families:
        return None
    figure = Figure(figsize=(4.8, 3.4), layout="constrained")
    axes = figure.subplots()
    used: dict[str, int] = {}
    ticks: set[float] = set()
    for name, points in families.items():
        shades = SHADES.get(points[0][1].arm.method, ("#555555",))
        colour = shades[used.setdefault(points[0][1].arm.method, 0) % len(shades)]
        used[points[0][1].arm.method] += 1
        values = [value for value, _ in points]
        ticks |= set(values)
        accuracies = [result.accuracy for _, result in points]
        axes.errorbar(
            values,
            [100 * accuracy.value for accuracy in accuracies],
            yerr=[
                [100 * (accuracy.value - whisker(accuracy)[0]) for accuracy in accuracies],
                [100 * (whisker(accuracy)[1] - accuracy.value) for accuracy in accuracies],
            ],
            fmt="o-",
            capsize=3,
            elinewidth=1,
            color=colour,
            label=name,
        )
    if study.benchmark == "gsm8k" and any(r.arm.model == INSTRUCT_3B for r in study.results):
        axes.plot(
            list(papers),
            [100 * accuracy for accuracy in papers.values()],
            "o:",
            color="#777777",
            mfc="white",
            label="paper, u=1",
        )
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
    results: Iterable[Result], field: str, value_of: Callable[[Arm], float | None]
) -> dict[str, list[tuple[float, Result]]]:
    """{name: [(value of the field, result)]} of results alike but for `field`, two or more each."""
    alike: dict[str, list[tuple[float, Result]]] = {}
    for result in results:
        arm = result.arm
        value = value_of(arm)
        if arm.kind not in ("tinylora", "lora_xs") or value is None:
            continue
        rest = {key: item for key, item in arm.adapter.items() if key != field}
        identity = json.dumps(
            [arm.method, arm.model, arm.control, rest, dict(arm.differences)], sort_keys=True
        )
        alike.setdefault(identity, []).append((value, result))
    found = [sorted(points, key=lambda point: point[0]) for points in alike.values()]
    return {
        _family_name(points[0][1].arm, field): points
        for points in found
        if len({value for value, _ in points}) > 1
    }


def _family_name(arm: Arm, field: str) -> str:
    words = [word for word in arm.label.split(" ") if not word.startswith(f"{field}=")]
    return f"{arm.method} {' '.join(words)}"


def _n_tie(arm: Arm) -> float | None:
    n_tie = arm.adapter.get("n_tie")
    if n_tie != "all":
        return n_tie
    return next((run.trained.num_modules for run in arm.runs if run.trained.num_modules), None)
