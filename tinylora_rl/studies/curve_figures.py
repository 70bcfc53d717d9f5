"""Draws metrics over the steps, the paper's figure 5, and accuracy over the learning rates."""

from __future__ import annotations

from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from tinylora_rl.studies.curves import mean_series
from tinylora_rl.studies.study import Result, Study

PANELS = (
    ("critic/score/mean", "training reward"),
    ("response_length/mean", "response length, tokens"),
    ("training/rollout_probs_diff_mean", "sampler - actor, mean |dp|"),
)


def draw_training_curves(study: Study) -> Figure | None:
    """Draws reward, length and mismatch of the GRPO results: thin a seed, thick their mean."""
    results = [result for result in study.results if result.variant.algorithm == "GRPO"]
    if not results:
        return None
    figure = Figure(figsize=(10.2, 3.3), layout="constrained")
    colours = _colours(len(results))
    for axes, (metric, label) in zip(figure.subplots(1, len(PANELS)), PANELS, strict=True):
        for result, colour in zip(results, colours, strict=True):
            for run in result.runs:
                points = run.series(metric)
                if points and len(result.runs) > 1:
                    axes.plot(*zip(*points, strict=True), color=colour, lw=0.7, alpha=0.45)
            if points := mean_series(result.runs, metric):
                axes.plot(*zip(*points, strict=True), color=colour, label=result.variant.name)
        axes.set(xlabel="step", title=label)
        axes.margins(x=0.02)
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True, steps=[1, 2, 5, 10]))
        if metric == PANELS[0][0]:
            axes.set_ylim(0, 1.02)
        else:
            axes.set_ylim(bottom=0)
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4, fontsize=8)
    return figure


def draw_learning_rates(study: Study) -> Figure | None:
    """Draws a small axes a size: runs as points, means joined, a ring at the chosen rate."""
    results = [result for result in study.results if len(result.choice.means) > 1]
    if not results:
        return None
    columns = min(4, len(results))
    rows = -(-len(results) // columns)
    figure = Figure(figsize=(2.55 * columns, 2.3 * rows + 0.3), layout="constrained")
    grid = figure.subplots(rows, columns, sharey=True, squeeze=False)
    for axes in grid.flat[len(results) :]:
        axes.set_visible(False)
    for axes, result in zip(grid.flat, results, strict=False):
        _draw_rates(axes, result, study.held_out)
        if (base := study.untrained.get(result.variant.model)) is not None:
            axes.axhline(100 * base.value, color="#666666", ls="--", lw=1)
    for row in grid:
        row[0].set_ylabel("accuracy, %")
    figure.supxlabel("learning rate", fontsize=9)
    return figure


def _draw_rates(axes: Axes, result: Result, held_out: str) -> None:
    colour = "#1f5fbf" if result.variant.algorithm == "GRPO" else "#d9660a"
    for run in result.variant.runs:
        accuracy = run.last_accuracy(held_out)
        axes.plot(run.learning_rate or 0.0, 100 * accuracy, ".", color=colour, alpha=0.45)
    means = result.choice.means
    axes.plot(list(means), [100 * mean for mean in means.values()], color=colour, lw=1.4)
    chosen = result.choice.learning_rate
    axes.plot(chosen, 100 * means[chosen], "o", mfc="none", mec=colour, markersize=10)
    axes.set_xscale("log")
    axes.set_title(result.variant.name, fontsize=8)
    axes.tick_params(labelsize=7)


def _colours(count: int) -> list[tuple[float, ...]]:
    """Returns colours from dark to light, without the lightest yellow."""
    return [colormaps["viridis"](0.85 * index / max(count - 1, 1)) for index in range(count)]
