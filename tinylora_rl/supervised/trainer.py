"""verl's SFT trainer, on the actor that reinforcement learning trains.

The loss and the loop are verl's, untouched: mean cross-entropy of the target tokens of a batch.
Overridden are the parts that it builds: the engine, a data order that depends on the seed and is
found again after a kill, checkpoints that have a manifest, and tracking; and it ends between two
updates when it is asked to.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from omegaconf import DictConfig
from verl.trainer import sft_trainer
from verl.utils.config import omega_conf_to_dataclass
from verl.workers.config import TrainingWorkerConfig
from verl.workers.engine_workers import TrainingWorker
from verl.workers.utils.losses import sft_loss

from tinylora_rl.supervised.step_commit import SealingHandler, StopWish
from tinylora_rl.supervised.tracking import RunTracking
from tinylora_rl.verl_plugin import engine as _engine  # noqa: F401  # registers
from tinylora_rl.verl_plugin.cpu.patches import register_verl_engine

register_verl_engine()


class TinyLoraSFTTrainer(sft_trainer.SFTTrainer):
    """One rank; `config` is `settings.trainer_config`'s.

    Attributes:
        stopped: whether `fit` ended before its last step, because it was asked to.
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
        """verl's, with which all ranks begin an update, and look whether it shall be the last."""
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
