"""Draws `reward.png`: reward, sampled lengths and shares over the steps of one run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tinylora_rl.runs.directory import held_out, read_metrics

Rows = Sequence[Mapping[str, Any]]

SHARES = {
    "response_length/clip_ratio": ("responses cut at the limit", "tab:red"),
    "group/zero_std_frac": ("prompts whose samples all have one reward", "tab:gray"),
}


def draw_reward(metrics: Path, figure: Path, title: str) -> bool:
    """Draws the run in `metrics` to `figure`; False, and no file, before the first step."""
    rows = read_metrics(metrics)
    rewards = series(rows, "critic/score/mean")
    if not rewards[0]:
        return False
    canvas, (reward, length, shares) = panels(3)
    canvas.suptitle(title)
    reward.plot(*rewards, ".-", color="tab:blue", label="training, sampled")
    plot_held_out(reward, rows)
    reward.set(ylabel="reward, accuracy", ylim=(-0.03, 1.03))
    steps, lengths = series(rows, "response_length/mean")
    length.plot(steps, lengths, ".-", color="tab:purple", label="mean")
    ends = [series(rows, f"response_length/{end}")[1] for end in ("min", "max")]
    if all(len(values) == len(steps) for values in ends):
        length.fill_between(
            steps, *ends, color="tab:purple", alpha=0.12, lw=0, label="shortest to longest"
        )
    length.set(ylabel="response length, tokens")
    length.set_ylim(bottom=0)
    for key, (label, colour) in SHARES.items():
        if (points := series(rows, key))[0]:
            shares.plot(*points, ".-", color=colour, label=label)
    shares.set(xlabel="step", ylabel="share", ylim=(-0.03, 1.03))
    write_figure(canvas, figure)
    return True


def panels(count: int) -> tuple[Any, Any]:
    """Returns a figure with `count` axes above each other over the same steps."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    return pyplot.subplots(
        count, 1, sharex=True, figsize=(7, 0.6 + 2.5 * count), layout="constrained"
    )


def series(rows: Rows, key: str) -> tuple[list[int], list[float]]:
    """Returns the steps at which `key` was logged, and its values."""
    found = [row for row in rows if row.get(key) is not None]
    return [row["step"] for row in found], [row[key] for row in found]


def plot_held_out(axes: Any, rows: Rows) -> None:
    """Plots every held-out accuracy of `rows`."""
    for name in dict.fromkeys(name for row in rows for name in held_out(row)):
        points = [(row["step"], held_out(row)[name]) for row in rows if name in held_out(row)]
        marker, colour = ("s", "tab:green") if name.endswith("greedy") else ("o", "tab:orange")
        several = " " in name  # benchmark and decoding: as many colours as there are benchmarks
        axes.plot(
            *zip(*points, strict=True),
            marker,
            ls=":",
            color=None if several else colour,
            label=f"held-out, {name}",
        )


def write_figure(canvas: Any, figure: Path) -> None:
    """Writes `canvas` to `figure`: whole steps as ticks, legends above the curves."""
    from matplotlib import pyplot
    from matplotlib.ticker import MaxNLocator

    for axes in canvas.axes:
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
        if axes.get_legend_handles_labels()[0]:
            axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=3, frameon=False, fontsize=9)
    canvas.axes[-1].xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))
    canvas.savefig(figure, dpi=120)
    pyplot.close(canvas)
