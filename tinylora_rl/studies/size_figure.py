"""Draws accuracy over the number of trained parameters: the paper's figures 1, 2 and 4."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from tinylora_rl.evaluation.intervals import Estimate
from tinylora_rl.studies.curves import (
    best_at_each_size,
    bytes_per_number,
    curves_of,
    sized_results,
)
from tinylora_rl.studies.paper import INSTRUCT_7B, PaperPoint, all_points
from tinylora_rl.studies.seeds import whisker
from tinylora_rl.studies.size import NAMES
from tinylora_rl.studies.study import Result, Study

SHADES = {"GRPO": ("#1f5fbf", "#0a9396", "#7048c8"), "SFT": ("#d9660a", "#b5179e", "#9a7b00")}
MARKERS: dict[str, str] = {"tinylora": "o", "lora_xs": "D", "lora": "s", "full": "^"}
FULL_OF_7B = 7.6e9  # the axis position of full fine-tuning of the paper's model
NARROW = 1000  # an axis over less has room for labels at 2 and 5


def draw_size_sweep(study: Study) -> Figure | None:
    """Draws our results with the paper's points of the same model and task as hollow marks; without
    such points the paper's figures 1 and 2 stand in a second axes.
    """
    sized = sized_results(study)
    if not sized:
        return None
    points = _papers_points(study, sized)
    figure = Figure(figsize=(5.6, 4.3) if points else (10.2, 4.3), layout="constrained")
    axes = figure.add_subplot(1, 1 if points else 2, 1)
    curves = curves_of(sized)
    colours = shades(results[0].variant.algorithm for results in curves.values())
    for (name, results), colour in zip(curves.items(), colours, strict=True):
        _draw_curve(axes, name, results, colour)
    _draw_untrained(axes, study)
    for kind in dict.fromkeys(result.variant.kind for result in sized):
        axes.plot([], [], MARKERS.get(kind, "P"), color="#777777", label=NAMES.get(kind, kind))
    if points:
        _draw_paper(axes, points, _full_at(sized, points))
        axes.plot([], [], "o", mfc="white", mec="#777777", label="paper")
    else:
        _draw_paper_alone(figure.add_subplot(1, 2, 2))
    _finish(axes, f"{study.task}, held-out {study.held_out}", 4)
    if (per_number := bytes_per_number([result.variant for result in sized])) is not None:
        _add_bytes(axes, per_number)
    return figure


def shades(algorithms: Iterable[str]) -> Iterator[str]:
    """Yields a colour for each: a hue an algorithm, further shades for its further curves."""
    used: Counter[str] = Counter()
    for algorithm in algorithms:
        choices = SHADES.get(algorithm, ("#555555",))
        yield choices[used[algorithm] % len(choices)]
        used[algorithm] += 1


def draw_estimates(
    axes: Axes, at: Sequence[float], estimates: Sequence[Estimate], **style: Any
) -> Any:
    """Draws accuracies in per cent with their intervals."""
    values = [100 * estimate.value for estimate in estimates]
    ends = [[100 * end for end in whisker(estimate)] for estimate in estimates]
    below = [value - low for value, (low, _) in zip(values, ends, strict=True)]
    above = [high - value for value, (_, high) in zip(values, ends, strict=True)]
    return axes.errorbar(at, values, yerr=[below, above], elinewidth=1, **style)


def _papers_points(study: Study, sized: Sequence[Result]) -> list[PaperPoint]:
    """Returns the points of our models and benchmark, in tie modes and dtypes that ours have too.

    Figures 7 and 8 vary rank and tying, not the size, and have figures of their own.
    """

    def of(settings: Any) -> tuple[str, str]:
        return settings.get("tie_mode", "tiled"), settings.get("v_dtype", "float32")

    models = {result.variant.model for result in sized}
    ours = {of(r.variant.adapter) for r in sized if r.variant.kind == "tinylora"}
    return [
        point
        for point in all_points()
        if (point.model in models and point.benchmark == study.benchmark)
        and (point.mark != "others" and point.num_parameters != 0)
        and point.source not in ("figure 7", "figure 8")
        and (point.source != "figure 4" or of(dict(point.settings)) in ours)
    ]


def _full_at(sized: Sequence[Result], points: Sequence[PaperPoint]) -> float:
    """Returns the axis position of the paper's full fine-tuning: ours, or right of all others."""
    full = [r.variant.num_parameters or 0 for r in sized if r.variant.kind == "full"]
    ours = [r.variant.num_parameters or 0 for r in sized]
    return float(full[0]) if full else 10.0 * max(ours + [p.num_parameters or 0 for p in points])


def _draw_curve(axes: Axes, name: str, results: Sequence[Result], colour: str) -> None:
    line = best_at_each_size(results)
    axes.plot(
        [result.variant.num_parameters or 0 for result in line],
        [100 * result.accuracy.value for result in line],
        color=colour,
        label=name,
    )
    for result in results:
        over_seeds = result.accuracy.method == "t"
        _, _, (bars,) = draw_estimates(
            axes,
            [result.variant.num_parameters or 0],
            [result.accuracy],
            fmt=MARKERS.get(result.variant.kind, "P"),
            color=colour,
            capsize=3 if over_seeds else 0,
            alpha=0.95,
        )
        bars.set_linestyle("-" if over_seeds else ":")


def _draw_untrained(axes: Axes, study: Study) -> None:
    for model, base in study.untrained.items():
        name = f"untrained {model}" if len(study.untrained) > 1 else "untrained"
        axes.axhline(100 * base.value, color="#666666", ls="--", lw=1.2, label=name)
        if base.method != "none":
            axes.axhspan(100 * base.low, 100 * base.high, color="#666666", alpha=0.10, lw=0)


def _draw_paper(axes: Axes, points: Sequence[PaperPoint], full_at: float) -> None:
    curves: dict[tuple[str, str], list[PaperPoint]] = {}
    for point in points:
        if point.num_parameters or point.kind == "full":
            curves.setdefault((point.algorithm, point.source), []).append(point)
    for (algorithm, _), curve in curves.items():
        colour = SHADES[algorithm][0]
        curve.sort(key=lambda point: point.num_parameters or full_at)
        at = [point.num_parameters or full_at for point in curve]
        values = [100 * point.accuracy for point in curve]
        axes.plot(at, values, ls=(0, (1, 2)), lw=0.9, color=colour, alpha=0.7)
        for x, y, point in zip(at, values, curve, strict=True):
            axes.plot(x, y, MARKERS[point.kind], mfc="white", mec=colour, markersize=5.5)


def _draw_paper_alone(axes: Axes) -> None:
    points = [
        point
        for point in all_points()
        if point.source in ("figure 1", "figure 2") and point.model == INSTRUCT_7B
    ]
    _draw_paper(axes, points, FULL_OF_7B)
    untrained = next(point for point in points if point.kind == "untrained")
    axes.axhline(100 * untrained.accuracy, color="#666666", ls="--", lw=1.2, label="untrained")
    for algorithm, (colour, *_) in SHADES.items():
        axes.plot([], [], "o", ls=":", mfc="white", color=colour, label=algorithm)
    _finish(axes, "Paper: Qwen2.5-7B-Instruct on GSM8K (read off fig. 1, 2)", 3)


def _finish(axes: Axes, title: str, columns: int) -> None:
    axes.set_xscale("log")
    axes.set(xlabel="trained numbers", ylabel="accuracy, %", title=title)
    axes.xaxis.set_major_locator(LogLocator(10, numticks=12))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: _short(x)))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.margins(x=0.06, y=0.10)
    axes.legend(
        fontsize=8, loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=columns, borderaxespad=0
    )


def _add_bytes(axes: Axes, per_number: float) -> None:
    low, high = axes.get_xlim()
    to_bytes: Any = lambda numbers: numbers * per_number  # noqa: E731  # matplotlib's type is wide
    to_numbers: Any = lambda size: size / per_number  # noqa: E731
    above = axes.secondary_xaxis("top", functions=(to_bytes, to_numbers))
    above.set_xlabel("bytes", fontsize=8)
    above.xaxis.set_major_locator(LogLocator(10, subs=(1, 2, 5) if high < NARROW * low else (1,)))
    above.xaxis.set_minor_formatter(NullFormatter())
    above.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{_short(x)}B"))
    above.tick_params(labelsize=7)


def _short(value: float) -> str:
    """Formats `10`, `10k`, `1M`, `1G`."""
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:g}{unit}"
    return f"{value:g}"
