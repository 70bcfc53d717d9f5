"""Writes the paper's figures from a study: `NAME.png` and `NAME.svg` of each that the runs give.

| name | the paper's figure | drawn when |
|---|---|---|
| `size_sweep` | 1, 2 and 4: accuracy over trained numbers | always |
| `learning_rates` | none: accuracy over the rates tried | some size has two rates |
| `training_curves` | 5: reward, length, difference of probabilities | there are GRPO runs |
| `rank` | 7 | variants differ in r alone |
| `tying` | 8 | variants differ in n_tie alone |
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from matplotlib import rc_context
from matplotlib.figure import Figure

from tinylora_rl.studies.ablation_figures import draw_rank, draw_tying
from tinylora_rl.studies.curve_figures import draw_learning_rates, draw_training_curves
from tinylora_rl.studies.size_figure import draw_size_sweep
from tinylora_rl.studies.study import Study

STYLE: Any = {
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#888888",
    "axes.labelcolor": "#333333",
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "xtick.color": "#555555",
    "ytick.color": "#555555",
    "axes.grid": True,
    "grid.color": "#e6e6e6",
    "grid.linewidth": 0.7,
    "axes.axisbelow": True,
    "legend.frameon": False,
    "lines.linewidth": 1.8,
    "svg.fonttype": "none",
    "svg.hashsalt": "tinylora",  # the same study gives the same bytes
}
DPI = 160

FIGURES: dict[str, Callable[[Study], Figure | None]] = {
    "size_sweep": draw_size_sweep,
    "learning_rates": draw_learning_rates,
    "training_curves": draw_training_curves,
    "rank": draw_rank,
    "tying": draw_tying,
}


def write_figures(study: Study, directory: Path) -> list[Path]:
    """Writes every figure that `study` gives to `directory`, as PNG and SVG."""
    directory.mkdir(parents=True, exist_ok=True)
    written = []
    for name, draw in FIGURES.items():
        with rc_context(STYLE):
            figure = draw(study)
            if figure is None:
                continue
            for suffix, metadata in (("png", {}), ("svg", {"Date": None})):
                path = directory / f"{name}.{suffix}"
                figure.savefig(path, dpi=DPI, metadata=metadata, facecolor="white")
                written.append(path)
    return written
