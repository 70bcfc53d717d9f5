"""Reports a supervised run: its loss in the closing summary, and its figure."""

from __future__ import annotations

from pathlib import Path

from tinylora_rl.runs.directory import read_metrics
from tinylora_rl.runs.figure import panels, plot_held_out, series, write_figure


def loss_lines(metrics: Path) -> list[str]:
    """Returns lines for the closing summary; none where no update was made."""
    rows = read_metrics(metrics)
    lines = []
    for label, key in (("training loss", "train/loss"), ("held-out loss", "val/loss")):
        values = [row[key] for row in rows if row.get(key) is not None]
        if values:
            ends = " -> ".join(f"{value:.4f}" for value in dict.fromkeys((values[0], values[-1])))
            lines.append(f"{label:<18}{ends}   (nats per token)")
    return ["", *lines] if lines else []


def draw_loss(metrics: Path, figure: Path, title: str) -> bool:
    """Draws the run in `metrics` to `figure`; False, and no file, before the first update."""
    rows = read_metrics(metrics)
    losses = series(rows, "train/loss")
    if not losses[0]:
        return False
    canvas, (loss, accuracy) = panels(2)
    canvas.suptitle(title)
    loss.plot(*losses, ".-", color="tab:blue", label="training")
    if (unseen := series(rows, "val/loss"))[0]:
        loss.plot(*unseen, "o:", color="tab:green", label="held-out")
    loss.set(ylabel="loss, nats per token")
    plot_held_out(accuracy, rows)
    accuracy.set(xlabel="update", ylabel="accuracy", ylim=(-0.03, 1.03))
    write_figure(canvas, figure)
    return True
