"""Reads evaluation directories, as `python -m tinylora_rl.evaluate` writes them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tinylora_rl.atomic import read_json
from tinylora_rl.errors import ConfigError
from tinylora_rl.evaluation.intervals import Estimate

RESULTS = "results.json"
PLAN = "plan.json"


@dataclasses.dataclass(frozen=True, kw_only=True)
class BenchmarkScore:
    """The accuracy of one policy on one benchmark by its headline judge.

    Attributes:
        digest: of the adapter; empty for the base.
        p_value: against the base on the same items; None for the base.
    """

    policy: str
    digest: str
    benchmark: str
    decoding: str
    judge: str
    num_items: int
    accuracy: Estimate
    p_value: float | None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Evaluation:
    """One evaluation directory."""

    name: str
    source: str
    model: str
    confidence: float
    scores: tuple[BenchmarkScore, ...]


def is_evaluation(directory: Path) -> bool:
    """Returns True where `directory` has a finished evaluation."""
    return (directory / RESULTS).is_file() and (directory / PLAN).is_file()


def read_evaluation(directory: Path, name: str | None = None) -> Evaluation:
    """Reads the results in `directory`.

    Raises:
        ConfigError: `results.json` is not what an evaluation writes.
    """
    results = read_json(directory / RESULTS)
    try:
        if results is None:
            raise ValueError("no JSON object")
        plan = results["plan"]
        policies = {policy["name"]: policy for policy in plan["policies"]}
        return Evaluation(
            name=name or directory.name,
            source=str(directory),
            model=str(plan["model"]).rstrip("/").rpartition("/")[2],
            confidence=float(results["confidence"]),
            scores=tuple(
                _score(entry, policies[entry["policy"]], plan["headline"][entry["benchmark"]])
                for entry in results["scores"]
            ),
        )
    except (KeyError, TypeError, ValueError) as error:
        problem = " ".join(str(error).split())
        raise ConfigError(
            f"{directory / RESULTS}: not what an evaluation writes ({problem:.120}); leave it out"
        ) from error


def _score(entry: Mapping[str, Any], policy: Mapping[str, Any], judge: str) -> BenchmarkScore:
    judged = entry["judges"][judge]
    versus = judged["against_base"]
    return BenchmarkScore(
        policy=entry["policy"],
        digest=policy["digest"],
        benchmark=entry["benchmark"],
        decoding="greedy" if entry["greedy"] else "sampled",
        judge=judge,
        num_items=entry["num_items"],
        accuracy=Estimate(**judged["accuracy"]),
        p_value=versus["p_value"] if versus else None,
    )
