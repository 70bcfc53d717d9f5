"""A supervised run as a person meets it: its loss in the summary, and its figure."""

from __future__ import annotations

from pathlib import Path

from tinylora_rl.runs.console import held_out
from tinylora_rl.runs.directory import read_metrics


def loss_lines(metrics: Path) -> list[str]:
    """Lines for the closing summary; none where no update was made."""
    rows = read_metrics(metrics)
    lines = []
    for label, key in (("training loss", "train/loss"), ("held-out loss", "val/loss")):
        values = [row[key] for row in rows if row.get(key) is not None]
        if values:
            ends = " -> ".join(f"{value:.4f}" for value in dict.fromkeys((values[0], values[-1])))
            lines.append(f"{label:<18}{ends}   (nats per token)")
    return ["", *lines] if lines else []


def draw_loss(metrics: Path, figure: Path, title: str) -> bool:
    """`figure` shows the run in `metrics`; False, and no figure, when no update was made yet."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    rows = read_metrics(metrics)
    losses = [(row["step"], row["train/loss"]) for row in rows if "train/loss" in row]
    if not losses:
        return False
    canvas, (above, below) = pyplot.subplots(
        2, 1, sharex=True, figsize=(7, 6), layout="constrained"
    )
    above.plot(*zip(*losses, strict=True), color="tab:blue", label="training")
    unseen = [(row["step"], row["val/loss"]) for row in rows if row.get("val/loss") is not None]
    if unseen:
        above.plot(*zip(*unseen, strict=True), "o:", color="tab:green", label="held-out")
    above.set(ylabel="cross-entropy (nats per token)", title=title)
    above.legend(loc="upper right")
    for name in dict.fromkeys(name for row in rows for name in held_out(row)):
        points = [(row["step"], held_out(row)[name]) for row in rows if name in held_out(row)]
        marker = "s" if name.endswith("greedy") else "o"
        below.plot(*zip(*points, strict=True), marker, ls=":", label=name)
    below.set(xlabel="update", ylabel="held-out accuracy", ylim=(0, 1))
    if below.get_legend_handles_labels()[0]:
        below.legend(loc="lower right")
    for axes in (above, below):
        axes.grid(alpha=0.3)
    canvas.savefig(figure, dpi=120)
    pyplot.close(canvas)
    return True
