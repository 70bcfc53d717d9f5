"""verl's SFT trainer, on the actor that reinforcement learning trains.

The loss and the loop are verl's, untouched: mean cross-entropy of the target tokens of a batch.
Overridden are the parts that it builds: engine, data order (by seed, found again after a kill),
checkpoints (with a manifest) and tracking; and it ends between two updates when it is asked to.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from omegaconf import DictConfig
from verl.trainer import sft_trainer
from verl.utils.checkpoint import CheckpointHandler
from verl.utils.config import omega_conf_to_dataclass
from verl.utils.tracking import Tracking
from verl.workers.config import TrainingWorkerConfig
from verl.workers.engine_workers import TrainingWorker
from verl.workers.utils.losses import sft_loss

from tinylora_rl.runs.checkpoints import commit, discard
from tinylora_rl.runs.directory import MetricsFile, RunDirectory
from tinylora_rl.runs.stopping import StopFile
from tinylora_rl.runs.vector_log import VectorLog
from tinylora_rl.verl_plugin import engine as _engine  # noqa: F401  # registers
from tinylora_rl.verl_plugin.cpu.patches import register_verl_engine
from tinylora_rl.verl_plugin.engine import TinyLoraEngine
from tinylora_rl.verl_plugin.nan_guard import check_norm

register_verl_engine()


class TinyLoraSFTTrainer(sft_trainer.SFTTrainer):
    """One rank; `config` is `trainer_config`'s.

    `stopped`: `fit` ended before its last step, because it was asked to.
    """

    total_training_steps: int

    def __init__(self, config: DictConfig) -> None:
        self._wish = StopWish(Path(config.run.dir))
        self.stopped = False
        super().__init__(config)
        self._num_updates = self.resume_global_step  # begun
        if self.resume_global_step and self.resume_global_step % self.steps_per_epoch == 0:
            # verl 0.9.1 goes on with the next epoch and with a loader that stands at the end of the
            # last: that epoch has no batches, and the run ends before its last step. Remove when
            # CheckpointHandler or fit() tells the two apart (unit/supervised/test_trainer.py).
            self._build_dataloader()
            self.ckpt_handler.train_dataloader = self.train_dataloader

    def _build_config(self) -> None:
        actor = omega_conf_to_dataclass(self.config.actor_rollout_ref.actor)
        self.model_config = omega_conf_to_dataclass(self.config.model)
        self.engine_config = actor.engine
        self.optimizer_config = actor.optim
        self.checkpoint_config = actor.checkpoint
        self.profiler_interval = (-1, -1)
        self._validate_profiler_interval()

    def _build_engine(self) -> None:
        self.loss_fn = partial(sft_loss, config=None)
        # verl's own method asks for "language_model" whatever the model node says
        self.training_client = TrainingWorker(
            config=TrainingWorkerConfig(
                model_type=self.model_config.model_type,
                model_config=self.model_config,
                engine_config=self.engine_config,
                optimizer_config=self.optimizer_config,
                checkpoint_config=self.checkpoint_config,
                profiler_config=None,
            )
        )
        self.training_client.set_loss_fn(loss_fn=self.loss_fn)
        self.engine = self.training_client.engine

    def _build_dataloader(self) -> None:
        super()._build_dataloader()
        self.train_sampler.seed = self.config.data.seed  # verl leaves it at 0

    def _build_ckpt_handler(self) -> None:
        sft_trainer.CheckpointHandler = SealingHandler  # verl makes its own, and offers no seam
        super()._build_ckpt_handler()

    def _get_batch_seqlens(self, data: Any) -> Any:
        """Begins an update on all ranks in verl's loop, and decides whether it is the last."""
        self._num_updates += 1
        if self._num_updates < self.total_training_steps and self._wish.agreed():
            self.total_training_steps = self._num_updates
            self.stopped = True
            # verl validates after a last step, and before it saves: the time may not be there
            self.val_dataloader = None
            self.test_freq = -1
        return super()._get_batch_seqlens(data=data)

    def fit(self) -> None:
        if self.resume_global_step >= self.total_training_steps:
            return  # verl would make one more update
        # verl makes its Tracking inside fit() and offers no other seam
        sft_trainer.Tracking = partial(
            RunTracking, engine=self.engine, last_step=self.resume_global_step
        )
        super().fit()


class SealingHandler(CheckpointHandler):
    """verl's handler, whose checkpoints have a manifest, written last."""

    def save_checkpoint(self, step: int) -> None:
        folder = Path(self.default_local_dir) / f"global_step_{step}"
        if self.rank == 0:
            discard(folder)  # of an update that was interrupted, or is damaged
        dist.barrier()
        super().save_checkpoint(step)  # ends with a barrier: all ranks' files are there
        if self.rank == 0:
            commit(folder)
        dist.barrier()  # no rank ends, or goes on, before it counts


class StopWish:
    """Tells whether any rank was asked to end: by the run's stop file, or by SIGTERM."""

    def __init__(self, run: Path) -> None:
        self._file = StopFile(run)
        self._signalled = False
        signal.signal(signal.SIGTERM, self._on_signal)

    def agreed(self) -> bool:
        """Returns the same answer on all ranks, which all ask at once."""
        is_wished = self._signalled or (dist.get_rank() == 0 and self._file.reason is not None)
        wishes = torch.tensor(int(is_wished))
        dist.all_reduce(wishes, op=dist.ReduceOp.MAX)
        return bool(wishes)

    def _on_signal(self, signum: int, frame: FrameType | None) -> None:
        del signum, frame
        self._signalled = True


class RunTracking(Tracking):
    """Logs what verl's trainer logs, one number a key; `metrics.jsonl` and `v.jsonl` are backends.

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
