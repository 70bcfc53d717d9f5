"""Accuracy over the number of trained parameters: the paper's figures 1, 2 and 4."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from tinylora_rl.studies.curves import (
    best_at_each_size,
    bytes_per_number,
    curves_of,
    sized_results,
)
from tinylora_rl.studies.paper import INSTRUCT_7B, PaperPoint, all_points
from tinylora_rl.studies.seeds import whisker
from tinylora_rl.studies.study import Result, Study
from tinylora_rl.studies.trained import NAMES

COLOURS = {"GRPO": "#1f5fbf", "SFT": "#d9660a"}
SHADES = {"GRPO": ("#1f5fbf", "#0a9396", "#7048c8"), "SFT": ("#d9660a", "#b5179e", "#9a7b00")}
MARKERS: dict[str, str] = {"tinylora": "o", "lora_xs": "D", "lora": "s", "full": "^"}
FULL_OF_7B = 7.6e9  # where full fine-tuning of the paper's model stands on the axis


def draw_size_sweep(study: Study) -> Figure | None:
    """One axes of ours; the paper's points hollow in it where they are of the same model and task,
    else in a second axes beside.
    """
    sized = sized_results(study)
    if not sized:
        return None
    same = _papers_points(study, sized)
    figure = Figure(figsize=(5.6, 4.3) if same else (10.2, 4.3), layout="constrained")
    if same:
        axes = figure.subplots()
    else:
        axes, beside = figure.subplots(1, 2, width_ratios=(1, 1))
        _draw_paper_alone(beside)
    used: dict[str, int] = {}
    for name, results in curves_of(sized).items():
        method = results[0].arm.method
        shades = SHADES.get(method, ("#555555",))
        _draw_curve(axes, name, results, shades[used.setdefault(method, 0) % len(shades)])
        used[method] += 1
    _draw_untrained(axes, study)
    if same:
        _draw_paper(axes, same, _full_at(sized, same))
    _finish(axes, f"{study.task}, held-out {study.held_out}")
    _kinds_legend(axes, sized, with_paper=bool(same))
    if (per_number := bytes_per_number([result.arm for result in sized])) is not None:

        def to_bytes(numbers: Any) -> Any:
            return numbers * per_number

        def to_numbers(num_bytes: Any) -> Any:
            return num_bytes / per_number

        above = axes.secondary_xaxis("top", functions=(to_bytes, to_numbers))
        above.set_xlabel("bytes", fontsize=8)
        counts = [result.arm.num_parameters or 1 for result in sized]
        is_narrow = max(counts) < 1000 * min(counts)
        above.xaxis.set_major_locator(LogLocator(10, subs=(1, 2, 5) if is_narrow else (1,)))
        above.xaxis.set_minor_formatter(NullFormatter())
        above.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{short_count(x)}B"))
        above.tick_params(labelsize=7)
    return figure


def _papers_points(study: Study, sized: Sequence[Result]) -> list[PaperPoint]:
    """Of our models and benchmark, in tie modes and dtypes that ours have too. Figures 7 and 8,
    which vary another thing than the size, have figures of their own.
    """
    models = {result.arm.model for result in sized}
    ours = [result.arm.adapter for result in sized if result.arm.kind == "tinylora"]
    variants = {
        (adapter.get("tie_mode", "tiled"), adapter.get("v_dtype", "float32")) for adapter in ours
    }
    found = []
    for point in all_points():
        stated = dict(point.settings)
        variant = (stated.get("tie_mode", "tiled"), stated.get("v_dtype", "float32"))
        if (
            (point.model in models and point.benchmark == study.benchmark)
            and (point.mark != "others" and point.num_parameters != 0)
            and point.source not in ("figure 7", "figure 8")
            and (point.source != "figure 4" or variant in variants)
        ):
            found.append(point)
    return found


def _full_at(sized: Sequence[Result], points: Sequence[PaperPoint]) -> float:
    """Where the paper's full fine-tuning stands: at ours, or right of all there is."""
    full = [r.arm.num_parameters or 0 for r in sized if r.arm.kind == "full"]
    counts = [r.arm.num_parameters or 0 for r in sized] + [p.num_parameters or 0 for p in points]
    return float(full[0]) if full else 10.0 * max(counts)


def _draw_curve(axes: Axes, name: str, results: Sequence[Result], colour: str) -> None:
    line = best_at_each_size(results)
    axes.plot(
        [result.arm.num_parameters or 0 for result in line],
        [100 * result.accuracy.value for result in line],
        color=colour,
        label=name,
    )
    for result in results:
        accuracy = result.accuracy
        low, high = whisker(accuracy)
        size = result.arm.num_parameters or 0
        single = accuracy.method != "t"
        axes.errorbar(
            size,
            100 * accuracy.value,
            yerr=[
                [100 * (accuracy.value - low)],
                [100 * (high - accuracy.value)],
            ],
            fmt=MARKERS[result.arm.kind],
            color=colour,
            markersize=6,
            capsize=0 if single else 3,
            elinewidth=1,
            alpha=0.95,
        )[2][0].set_linestyle(":" if single else "-")


def _draw_untrained(axes: Axes, study: Study) -> None:
    for model, base in study.untrained.items():
        name = f"untrained {model}" if len(study.untrained) > 1 else "untrained"
        axes.axhline(100 * base.value, color="#666666", ls="--", lw=1.2, label=name)
        if base.method != "none":
            axes.axhspan(100 * base.low, 100 * base.high, color="#666666", alpha=0.10, lw=0)


def _draw_paper(axes: Axes, points: Sequence[PaperPoint], full_at: float) -> None:
    for method, colour in COLOURS.items():
        for source in dict.fromkeys(point.source for point in points):
            chosen = [
                point
                for point in points
                if (point.method, point.source) == (method, source)
                and (point.num_parameters or point.kind == "full")
            ]
            chosen.sort(key=lambda point: point.num_parameters or full_at)
            axes.plot(
                [point.num_parameters or full_at for point in chosen],
                [100 * point.accuracy for point in chosen],
                ls=(0, (1, 2)),
                lw=0.9,
                color=colour,
                alpha=0.7,
            )
            for point in chosen:
                axes.plot(
                    point.num_parameters or full_at,
                    100 * point.accuracy,
                    MARKERS.get(point.kind, "o"),
                    mfc="white",
                    mec=colour,
                    markersize=5.5,
                )


def _draw_paper_alone(axes: Axes) -> None:
    points = [
        point
        for point in all_points()
        if point.source in ("figure 1", "figure 2") and point.model == INSTRUCT_7B
    ]
    _draw_paper(axes, [point for point in points if point.num_parameters != 0], FULL_OF_7B)
    untrained = next(point for point in points if point.num_parameters == 0)
    axes.axhline(100 * untrained.accuracy, color="#666666", ls="--", lw=1.2, label="untrained")
    for method, colour in COLOURS.items():
        axes.plot([], [], "o", ls=":", mfc="white", color=colour, label=method)
    _finish(axes, "Paper: Qwen2.5-7B-Instruct on GSM8K (read off fig. 1, 2)")
    _legend_below(axes, 3)


def _finish(axes: Axes, title: str) -> None:
    axes.set_xscale("log")
    axes.set(xlabel="trained numbers", ylabel="accuracy, %", title=title)
    axes.xaxis.set_major_locator(LogLocator(10, numticks=12))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: short_count(x)))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.margins(x=0.06, y=0.10)


def short_count(value: float) -> str:
    """`10`, `10k`, `1M`, `1G`."""
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:g}{unit}"
    return f"{value:g}"


def _kinds_legend(axes: Axes, results: Sequence[Result], *, with_paper: bool) -> None:
    for kind in dict.fromkeys(result.arm.kind for result in results):
        axes.plot([], [], MARKERS[kind], color="#777777", label=NAMES[kind])
    if with_paper:
        axes.plot([], [], "o", mfc="white", mec="#777777", label="paper")
    _legend_below(axes, 4)


def _legend_below(axes: Axes, columns: int) -> None:
    axes.legend(
        fontsize=8, loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=columns, borderaxespad=0
    )
