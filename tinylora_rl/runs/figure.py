"""`reward.png`: reward and response length over the steps of one run."""

from __future__ import annotations

from pathlib import Path

from tinylora_rl.runs.console import held_out
from tinylora_rl.runs.directory import read_metrics


def draw_reward(metrics: Path, figure: Path, title: str) -> bool:
    """`figure` shows the run in `metrics`; False, and no figure, when no step was taken yet."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    rows = read_metrics(metrics)
    trained = [row for row in rows if "critic/score/mean" in row]
    if not trained:
        return False
    steps = [row["step"] for row in trained]
    canvas, (above, below) = pyplot.subplots(
        2, 1, sharex=True, figsize=(7, 6), layout="constrained"
    )
    above.plot(
        steps,
        [row["critic/score/mean"] for row in trained],
        color="tab:blue",
        label="training reward",
    )
    for name in dict.fromkeys(name for row in rows for name in held_out(row)):
        points = [(row["step"], held_out(row)[name]) for row in rows if name in held_out(row)]
        above.plot(
            *zip(*points, strict=True),
            "s" if name.endswith("greedy") else "o",
            ls=":",
            label=f"held-out accuracy, {name}",
        )
    above.set(ylabel="reward", ylim=(0, 1), title=title)
    above.legend(loc="lower right")
    below.plot(steps, [row["response_length/mean"] for row in trained], color="tab:orange")
    below.set(xlabel="step", ylabel="response length (tokens)")
    for axes in (above, below):
        axes.grid(alpha=0.3)
    canvas.savefig(figure, dpi=120)
    pyplot.close(canvas)
    return True
