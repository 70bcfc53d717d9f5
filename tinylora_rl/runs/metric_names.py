"""Reads the names of validation metrics: `val-core/SOURCE/acc/mean@K`, as verl writes them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def held_out(row: Mapping[str, Any]) -> dict[str, float]:
    """Returns {"sampled" or "greedy": accuracy} where this step was validated.

    With several benchmarks the names are "BENCHMARK sampled" and "BENCHMARK greedy".
    """
    found = {}
    for key, value in row.items():
        if key.startswith("val-core/") and "/acc/mean@" in key:
            source = key.removeprefix("val-core/").partition("/acc/")[0]
            benchmark = source.removesuffix("_greedy")
            found[benchmark, "greedy" if benchmark != source else "sampled"] = value
    several = len({benchmark for benchmark, _ in found}) > 1
    return {
        f"{benchmark} {decoding}" if several else decoding: value
        for (benchmark, decoding), value in found.items()
    }
