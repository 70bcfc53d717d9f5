"""Holds the numbers of arXiv 2602.04118v1 that ours are compared with, each with its origin.

| mark | meaning |
|---|---|
| `stated` | printed in the paper |
| `read off` | from a figure, by eye: good to about half a point |
| `others` | other people's public runs |

The paper takes the "untrained" and "full" rows of table 2 from SimpleRL-Zoo; its 7B row is the base
model, not Instruct. Compare ours with an untrained model measured in the same harness.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal

Settings = tuple[tuple[str, str | int], ...]
Mark = Literal["stated", "read off", "others"]

INSTRUCT_3B, INSTRUCT_7B = "Qwen2.5-3B-Instruct", "Qwen2.5-7B-Instruct"
MATH_7B = "Qwen2.5-Math-7B"
BENCHMARKS = ("gsm8k", "math500", "minerva_math", "olympiadbench", "aime24", "amc23", "mean")


@dataclasses.dataclass(frozen=True, kw_only=True)
class PaperPoint:
    """One accuracy of the paper, in 0..1.

    Attributes:
        kind: as `size.Kind`, or `untrained`.
        num_parameters: 0 untrained; None full fine-tuning, or not stated.
        settings: u, n_tie, r, tie_mode, v_dtype, judge, where the source states them.
    """

    source: str
    mark: Mark
    model: str
    algorithm: Literal["GRPO", "SFT"]
    kind: Literal["untrained", "tinylora", "lora", "full"]
    num_parameters: int | None
    benchmark: str
    accuracy: float
    settings: Settings = ()


# Table 2: per cent on BENCHMARKS; None is full fine-tuning, 0 the untrained model.
TABLE_2: dict[str, dict[int | None, tuple[float, ...]]] = {
    INSTRUCT_3B: {
        0: (76.0, 55.0, 18.5, 21.3, 2.1, 23.4, 32.7),
        16: (80.9, 64.0, 19.9, 23.0, 3.0, 31.5, 37.1),
        63: (85.3, 64.1, 20.1, 26.6, 7.3, 36.0, 39.9),
        252: (85.4, 66.4, 28.3, 29.3, 13.3, 47.5, 45.0),
        504: (86.1, 66.6, 28.7, 30.8, 16.7, 47.5, 46.1),
        8_064: (87.2, 67.8, 28.3, 30.7, 10.0, 47.5, 45.2),
        129_024: (86.7, 67.8, 29.4, 32.3, 10.0, 55.0, 46.9),
        None: (87.0, 69.0, 31.7, 33.1, 15.0, 52.2, 48.0),
    },
    INSTRUCT_7B: {
        0: (88.2, 64.6, 25.7, 30.1, 3.3, 30.0, 40.3),
        13: (91.8, 74.6, 27.1, 36.3, 16.0, 54.5, 50.1),
        49: (91.5, 74.2, 26.6, 37.2, 12.6, 55.5, 49.6),
        196: (92.2, 76.6, 37.1, 38.8, 16.7, 57.5, 53.2),
        392: (92.2, 77.0, 35.7, 40.1, 16.7, 65.0, 54.4),
        6_272: (91.9, 78.0, 37.5, 41.0, 16.7, 57.5, 53.8),
        100_352: (92.8, 78.0, 37.1, 43.3, 16.7, 60.0, 54.6),
        None: (91.7, 78.2, 38.6, 40.4, 20.0, 62.5, 55.2),
    },
    MATH_7B: {
        0: (65.5, 63.6, 12.5, 25.8, 13.3, 42.5, 37.2),
        196: (72.5, 62.0, 26.5, 31.4, 20.0, 50.0, 43.7),
        392: (86.0, 74.8, 31.6, 37.9, 26.7, 60.0, 52.8),
        6_272: (87.0, 77.4, 28.7, 40.0, 16.7, 67.5, 52.9),
        100_352: (87.0, 78.6, 32.7, 39.0, 30.0, 62.5, 55.0),
        None: (90.2, 80.2, 37.5, 39.0, 40.0, 70.0, 59.5),
    },
}

# Table 2's counts as (u, n_tie), tiled: inferred from u * ceil(modules / n_tie), which all fit.
TABLE_2_SIZES: dict[int, dict[int, tuple[int, int]]] = {
    252: {
        16: (1, 16), 63: (1, 4), 252: (1, 1), 504: (2, 1), 8_064: (32, 1), 129_024: (512, 1)
    },
    196: {
        13: (1, 16), 49: (1, 4), 196: (1, 1), 392: (2, 1), 6_272: (32, 1), 100_352: (512, 1)
    },
}  # fmt: skip
NUM_MODULES = {INSTRUCT_3B: 252, INSTRUCT_7B: 196, MATH_7B: 196}

FIGURES_BENCHMARK = "gsm8k"  # of all figures

# Figures 1 and 2: Qwen2.5-7B-Instruct. 0 is untrained, None full fine-tuning.
FIGURE_1: dict[int | None, float] = {
    0: 0.756, 1: 0.799, 2: 0.843, 4: 0.854, 7: 0.844, 13: 0.907, 25: 0.923, 49: 0.930, 98: 0.936,
    196: 0.949, 1_600: 0.954, 12_500: 0.961, 102_000: 0.963, 803_000: 0.966, None: 0.970,
}  # fmt: skip
FIGURE_1_LORA = {2_523_136: 0.972, 81_000_000: 0.963}
FIGURE_2 = {1: 0.824, 25: 0.826, 196: 0.838, 12_500: 0.882, 803_000: 0.915}
FIGURE_2_LORA = {2_523_136: 0.982}

# Figure 4: Qwen2.5-3B-Instruct, (tie_mode, v_dtype).
FIGURE_4: dict[tuple[str, str], dict[int, float]] = {
    ("tiled", "float32"): {8: 0.692, 16: 0.743, 32: 0.809, 63: 0.830, 126: 0.837, 252: 0.851},
    ("tiled", "bfloat16"): {8: 0.663, 16: 0.709, 32: 0.770, 63: 0.807, 126: 0.817, 252: 0.836},
    ("structured", "float32"): {
        14: 0.686, 21: 0.720, 35: 0.762, 63: 0.798, 126: 0.829, 252: 0.840
    },
}  # fmt: skip
FIGURE_7 = {1: 0.795, 2: 0.821, 4: 0.807, 16: 0.777, 64: 0.745}  # r: 3B, u=1
FIGURE_8 = {1: 0.789, 8: 0.735, 64: 0.618, 512: 0.589}  # n_tie: 3B, u=1

LEARNING_RATES = (1e-7, 5e-7, 1e-6, 5e-6, 1e-5, 1e-4, 2e-4)
NUM_SEEDS = 3
ROLLOUT_PROBS_DIFF = (0.0021, 0.0031)  # figure 5, from step 0 on

PAPERS_ADAPTER: dict[str, str | int] = {"r": 2, "tie_mode": "tiled", "v_dtype": "float32"}
COUNT_TOLERANCE = 0.02  # figures name sizes to two or three digits


def all_points() -> list[PaperPoint]:
    """Returns every accuracy above, and those of other people's runs."""
    points = []
    for model, rows in TABLE_2.items():
        for count, row in rows.items():
            u_tie = TABLE_2_SIZES[NUM_MODULES[model]].get(count or 0)
            settings: Settings = (("u", u_tie[0]), ("n_tie", u_tie[1])) if u_tie else ()
            for benchmark, value in zip(BENCHMARKS, row, strict=True):
                points += _curve(
                    "table 2", {count: value / 100}, settings,
                    mark="stated", model=model, benchmark=benchmark,
                )  # fmt: skip
    points += _curve("figure 1", FIGURE_1, model=INSTRUCT_7B)
    points += _curve("figure 1", FIGURE_1_LORA, model=INSTRUCT_7B, kind="lora")
    points += _curve("figure 2", FIGURE_2, model=INSTRUCT_7B, algorithm="SFT")
    points += _curve("figure 2", FIGURE_2_LORA, model=INSTRUCT_7B, algorithm="SFT", kind="lora")
    for (tie_mode, v_dtype), curve in FIGURE_4.items():
        points += _curve("figure 4", curve, (("tie_mode", tie_mode), ("v_dtype", v_dtype)))
    for r, accuracy in FIGURE_7.items():
        points += _curve("figure 7", {None: accuracy}, (("u", 1), ("r", r)), kind="tinylora")
    for n_tie, accuracy in FIGURE_8.items():
        count = -(-NUM_MODULES[INSTRUCT_3B] // n_tie)
        points += _curve("figure 8", {count: accuracy}, (("u", 1), ("n_tie", n_tie)))
    # Untrained models under two extractors, and 13 numbers shared by all modules, 3 seeds.
    for model, count, accuracy, settings in (
        (INSTRUCT_7B, 0, 0.756, (("judge", "strict"),)),
        (INSTRUCT_7B, 0, 0.897, (("judge", "flexible"),)),
        (INSTRUCT_3B, 0, 0.696, (("judge", "strict"),)),
        (INSTRUCT_3B, 0, 0.854, (("judge", "flexible"),)),
        (INSTRUCT_7B, 13, 0.909, (("u", 13), ("n_tie", "all"), ("judge", "flexible"))),
    ):
        points += _curve("public runs", {count: accuracy}, settings, mark="others", model=model)
    return points


def matching_points(
    *,
    model: str,
    benchmark: str,
    algorithm: str,
    kind: str,
    num_parameters: int | None,
    adapter: Mapping[str, Any],
) -> tuple[PaperPoint, ...]:
    """Returns the paper's points of the same model, benchmark, algorithm and size, and of the same
    r, tie mode and dtype of v where the source states them.
    """
    wanted = "tinylora" if kind == "lora_xs" else kind
    return tuple(
        point
        for point in all_points()
        if (point.model, point.benchmark, point.algorithm, point.kind)
        == (model, benchmark, algorithm, wanted)
        and point.mark != "others"
        and (kind == "full" or _same_count(point.num_parameters, num_parameters))
        and all(
            adapter.get(key, PAPERS_ADAPTER[key]) == value
            for key, value in point.settings
            if key in PAPERS_ADAPTER
        )
    )


def _same_count(papers: int | None, ours: int | None) -> bool:
    if papers is None or ours is None:
        return False
    return abs(papers - ours) <= COUNT_TOLERANCE * papers


def _curve(
    source: str,
    accuracies: Mapping[Any, float],
    settings: Settings = (),
    *,
    mark: Mark = "read off",
    model: str = INSTRUCT_3B,
    algorithm: Literal["GRPO", "SFT"] = "GRPO",
    kind: Literal["tinylora", "lora"] | None = None,
    benchmark: str = FIGURES_BENCHMARK,
) -> list[PaperPoint]:
    """Returns {number of parameters: accuracy} as points; None is full fine-tuning, 0 untrained."""
    return [
        PaperPoint(
            source=source,
            mark=mark,
            model=model,
            algorithm=algorithm,
            kind=kind or ("full" if count is None else "tinylora" if count else "untrained"),
            num_parameters=count,
            benchmark=benchmark,
            accuracy=accuracy,
            settings=settings,
        )
        for count, accuracy in accuracies.items()
    ]
