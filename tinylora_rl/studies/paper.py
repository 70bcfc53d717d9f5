"""The numbers of arXiv 2602.04118v1 that ours are put beside, each with how it is known.

| mark | meaning |
|---|---|
| `stated` | printed in the paper |
| `read off` | from a figure, by eye: good to about half a point |
| `inferred` | follows from what is printed |
| `others` | other people's public runs |

Where the paper's "untrained" and "full" rows of table 2 come from: SimpleRL-Zoo; its 7B row is the
base model, not Instruct. Compare ours with an untrained model measured in the same harness.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal

Mark = Literal["stated", "read off", "inferred", "others"]

INSTRUCT_3B, INSTRUCT_7B, MATH_7B = (
    "Qwen2.5-3B-Instruct",
    "Qwen2.5-7B-Instruct",
    "Qwen2.5-Math-7B",
)
BENCHMARKS = ("gsm8k", "math500", "minerva_math", "olympiadbench", "aime24", "amc23", "mean")


@dataclasses.dataclass(frozen=True, kw_only=True)
class PaperPoint:
    """One accuracy of the paper, in 0..1.

    Attributes:
        kind: as `trained.Kind`, or `untrained`.
        num_parameters: 0 untrained; None full fine-tuning, or not told.
        settings: u, n_tie, r, tie_mode, v_dtype, judge, where the source tells them.
    """

    source: str
    mark: Mark
    model: str
    method: Literal["GRPO", "SFT"]
    kind: Literal["untrained", "tinylora", "lora", "full"]
    num_parameters: int | None
    benchmark: str
    accuracy: float
    settings: tuple[tuple[str, str | int], ...] = ()


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

# Figures 1 and 2: Qwen2.5-7B-Instruct on GSM8K. 0 is untrained, None full fine-tuning.
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
# Share of dW that survives rounding to bfloat16, by |v|; a 3584 x 3584 matrix.
SURVIVAL = {1e-4: 0.01, 1e-3: 0.13, 3e-3: 0.39, 1e-2: 0.88, 3e-2: 0.99}

LORA_R1 = {
    "Qwen2.5-0.5B": 549_888,
    "Qwen2.5-1.5B": 1_154_048,
    "Qwen2.5-3B": 1_870_848,
    "Qwen2.5-7B": 2_523_136,
    "Llama-3.2-3B": 1_519_616,
    "Llama-3.1-8B": 2_621_440,
    "Qwen3-8B": 2_727_936,
}
PAPERS_ADAPTER: dict[str, str | int] = {"r": 2, "tie_mode": "tiled", "v_dtype": "float32"}
COUNT_TOLERANCE = 0.02  # figures name sizes to two or three digits


def all_points() -> tuple[PaperPoint, ...]:
    """Every accuracy above, and those of other people's runs."""
    return (*_table_2(), *_figures_1_and_2(), *_figure_4(), *_figures_7_and_8(), *_others())


def papers_numbers(
    *,
    model: str,
    benchmark: str,
    method: str,
    kind: str,
    num_parameters: int | None,
    adapter: Mapping[str, Any],
) -> tuple[PaperPoint, ...]:
    """The paper's points of one row of ours: of the same model, benchmark, method and size, and
    where the source tells them of the same r, tie mode and dtype of v.
    """
    wanted = "tinylora" if kind == "lora_xs" else kind
    return tuple(
        point
        for point in all_points()
        if (point.model, point.benchmark, point.method, point.kind)
        == (model, benchmark, method, wanted)
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


def _table_2() -> list[PaperPoint]:
    points = []
    for model, rows in TABLE_2.items():
        sizes = TABLE_2_SIZES[NUM_MODULES[model]]
        for count, row in rows.items():
            u_tie = sizes.get(count) if count is not None else None
            points += [
                PaperPoint(
                    source="table 2",
                    mark="stated",
                    model=model,
                    method="GRPO",
                    kind=_kind(count),
                    num_parameters=count,
                    benchmark=benchmark,
                    accuracy=value / 100,
                    settings=(("u", u_tie[0]), ("n_tie", u_tie[1])) if u_tie else (),
                )
                for benchmark, value in zip(BENCHMARKS, row, strict=True)
            ]
    return points


def _figures_1_and_2() -> list[PaperPoint]:
    curves: list[tuple[str, Literal["GRPO", "SFT"], dict, bool]] = [
        ("figure 1", "GRPO", FIGURE_1, False),
        ("figure 1", "GRPO", FIGURE_1_LORA, True),
        ("figure 2", "SFT", FIGURE_2, False),
        ("figure 2", "SFT", FIGURE_2_LORA, True),
    ]
    return [
        PaperPoint(
            source=source,
            mark="read off",
            model=INSTRUCT_7B,
            method=method,
            kind="lora" if is_lora else _kind(count),
            num_parameters=count,
            benchmark="gsm8k",
            accuracy=accuracy,
        )
        for source, method, curve, is_lora in curves
        for count, accuracy in curve.items()
    ]


def _figure_4() -> list[PaperPoint]:
    return [
        _of_3b("figure 4", count, accuracy, (("tie_mode", tie_mode), ("v_dtype", v_dtype)))
        for (tie_mode, v_dtype), curve in FIGURE_4.items()
        for count, accuracy in curve.items()
    ]


def _figures_7_and_8() -> list[PaperPoint]:
    modules = NUM_MODULES[INSTRUCT_3B]
    by_rank = [
        _of_3b("figure 7", None, accuracy, (("u", 1), ("r", r))) for r, accuracy in FIGURE_7.items()
    ]
    by_tie = [
        _of_3b("figure 8", -(-modules // n_tie), accuracy, (("u", 1), ("n_tie", n_tie)))
        for n_tie, accuracy in FIGURE_8.items()
    ]
    return by_rank + by_tie


def _of_3b(
    source: str, count: int | None, accuracy: float, settings: tuple[tuple[str, str | int], ...]
) -> PaperPoint:
    return PaperPoint(
        source=source,
        mark="read off",
        model=INSTRUCT_3B,
        method="GRPO",
        kind="tinylora",
        num_parameters=count,
        benchmark="gsm8k",
        accuracy=accuracy,
        settings=settings,
    )


def _others() -> list[PaperPoint]:
    """Untrained models under two extractors, and 13 numbers shared by all modules, 3 seeds."""
    found: list[tuple[str, int, float, tuple[tuple[str, str | int], ...]]] = [
        (INSTRUCT_7B, 0, 0.756, (("judge", "strict"),)),
        (INSTRUCT_7B, 0, 0.897, (("judge", "flexible"),)),
        (INSTRUCT_3B, 0, 0.696, (("judge", "strict"),)),
        (INSTRUCT_3B, 0, 0.854, (("judge", "flexible"),)),
        (INSTRUCT_7B, 13, 0.909, (("u", 13), ("n_tie", "all"), ("judge", "flexible"))),
    ]
    return [
        PaperPoint(
            source="public runs",
            mark="others",
            model=model,
            method="GRPO",
            kind=_kind(count),
            num_parameters=count,
            benchmark="gsm8k",
            accuracy=accuracy,
            settings=settings,
        )
        for model, count, accuracy, settings in found
    ]


def _kind(count: int | None) -> Literal["untrained", "tinylora", "full"]:
    return "full" if count is None else "tinylora" if count else "untrained"
