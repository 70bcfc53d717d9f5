"""verl's tracking, with the run's `metrics.jsonl` and `v.jsonl` as further backends."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from verl.utils.tracking import Tracking

from tinylora_rl.runs.directory import MetricsFile, RunDirectory
from tinylora_rl.runs.vector_log import VectorLog
from tinylora_rl.verl_plugin.engine import TinyLoraEngine
from tinylora_rl.verl_plugin.nan_guard import check_norm


class RunTracking(Tracking):
    """Logs what verl's trainer logs, one number a key, and the seconds between two updates.

    `timing_s/step` holds all of a step: waiting for data, checkpoints and held-out loss too.

    Args:
        engine: of the trainer; the v of ours is written after every update.
        last_step: which the run goes on after.
    """

    def __init__(
        self,
        project_name: str,
        experiment_name: str,
        default_backend: Any,
        config: Any,
        *,
        engine: Any,
        last_step: int,
    ) -> None:
        super().__init__(project_name, experiment_name, default_backend, config)
        run = RunDirectory(Path(config["run"]["dir"]))
        self.logger["metrics.jsonl"] = MetricsFile(run.metrics)
        self._engine = engine
        self._vectors = VectorLog(run.vectors, last_step)
        self._last_s = time.monotonic()

    def log(self, data: Mapping[str, Any], step: int, backend: Any = None) -> None:
        row = {
            # an engine's metrics are lists, one of each rank, of one entry a micro-batch
            key: float(np.mean(value)) if isinstance(value, list) else value
            for key, value in data.items()
        }
        if "train/grad_norm" in row:
            check_norm(float(row["train/grad_norm"]), step)
        if "train/loss" in row:
            if isinstance(self._engine, TinyLoraEngine):
                self._vectors.append(step, self._engine.adapter.v.detach().tolist())
            now_s = time.monotonic()
            row["timing_s/step"] = now_s - self._last_s
            self._last_s = now_s
        super().log(data=row, step=step, backend=backend)
