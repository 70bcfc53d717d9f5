"""Reads the samples of a step: tensors alone for the actor, verdicts for `reward/*`, `group/*`."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import transfer_queue as tq
from transfer_queue import KVBatchMeta

OBJECTS_READ = ("multi_modal_inputs",)  # a dictionary per sample, which verl's engines read

Sample = tuple[str, Mapping[str, Any]]
"""(uid of the prompt, what the reward function returned)."""


def keep_fields_of_actor(batch: KVBatchMeta) -> None:
    """Limits `batch` to its samples' tensors; the other fields stay in TransferQueue.

    verl sends every field of a sample, some thirty, twice a step. Those that are no tensors are for
    the judge; they are split sample by sample, which took a fifth of the time of the embedded
    model's log-probs.
    """
    stored = tq.get_client().kv_retrieve_meta(keys=batch.keys, partition_id=batch.partition_id)
    batch.fields = [
        name
        for name, schema in stored.field_schema.items()
        if name in OBJECTS_READ or not schema["is_non_tensor"]
    ]


def graded_samples(batch: Any) -> list[Sample]:
    """Fetches the verdicts on the step's samples, without those that only fill up a batch."""
    tagged = zip(batch.keys, batch.tags, strict=True)
    keys = [key for key, tag in tagged if not tag.get("is_padding", False)]
    data = tq.kv_batch_get(
        keys=keys, partition_id=batch.partition_id, select_fields=["extra_fields"]
    )
    fields = data.pop("extra_fields").tolist()
    # `{uid}_{sample}_{output}` is verl's key of a trajectory
    return [
        (key.rsplit("_", 2)[0], sample.get("reward_extra_info", {}))
        for key, sample in zip(keys, fields, strict=True)
    ]


def reward_metrics(samples: Sequence[Sample]) -> dict[str, float]:
    """Computes shares of verdicts, seconds of grading, and the share of groups without gradient.

    | metric | meaning |
    |---|---|
    | `reward/JUDGE` | share that this judge calls right |
    | `reward/no_answer_frac`, `reward/timeout_frac` | shares without an answer, without a verdict |
    | `reward/strict_minus_flexible` | below 0: answers that are right and not in the format |
    | `reward/grade_s/p50`, `p99` | seconds per response |
    | `group/zero_std_frac` | share of prompts whose samples all have one reward: no advantage |
    """
    values = defaultdict(list)
    scores = defaultdict(list)
    for uid, graded in samples:
        for key, value in graded.items():
            if isinstance(value, int | float):
                values[key].append(float(value))
        if "score" in graded:
            scores[uid].append(float(graded["score"]))
    seconds = values.pop("grade_s", [])
    metrics = {f"reward/{key}": float(np.mean(column)) for key, column in values.items()}
    for key, name in (("no_answer", "no_answer_frac"), ("timed_out", "timeout_frac")):
        if f"reward/{key}" in metrics:
            metrics[f"reward/{name}"] = metrics.pop(f"reward/{key}")
    if {"reward/strict", "reward/flexible"} <= metrics.keys():
        difference = metrics["reward/strict"] - metrics["reward/flexible"]
        metrics["reward/strict_minus_flexible"] = difference
    for percentile in (50, 99) if seconds else ():
        metrics[f"reward/grade_s/p{percentile}"] = float(np.percentile(seconds, percentile))
    if scores:
        alike = [len(set(group)) == 1 for group in scores.values()]
        metrics["group/zero_std_frac"] = float(np.mean(alike))
    return metrics


def telling_metrics(metrics: Mapping[str, Any]) -> dict[str, float]:
    """Selects the finite ones that measure how good an adapter is, for its manifest."""
    selected = {
        key: float(value)
        for key, value in metrics.items()
        if key == "critic/score/mean" or key.startswith("val-core/")
    }
    return {key: value for key, value in selected.items() if math.isfinite(value)}
