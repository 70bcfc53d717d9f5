"""verl's synchronous GRPO trainer, with what a TinyLoRA run needs around each step.

The algorithm is verl's, untouched. Overridden are hooks: a fixed order of samples, a weight sync
with a deadline and an answer, metrics, and the adapter beside the newest checkpoint.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ray
from omegaconf import DictConfig, open_dict
from verl.trainer.main_ppo import TaskRunnerV1
from verl.trainer.ppo.v1 import PPOTrainerSync, register_trainer
from verl.utils import tensordict_utils as tu
from verl.utils.checkpoint.checkpoint_manager import get_checkpoint_tracker_filename
from verl.utils.debug import marked_timer
from verl.workers.engine_workers import ActorRolloutRefWorker

from tinylora_rl.artifact import MANIFEST, read_manifest
from tinylora_rl.artifact.manifest import restated
from tinylora_rl.atomic import replacing_directory, write_text
from tinylora_rl.runs.directory import MetricsFile, RunDirectory
from tinylora_rl.verl_plugin.checkpoint import ADAPTER_DIR
from tinylora_rl.verl_plugin.reward_metrics import (
    graded_samples,
    reward_metrics,
    telling_metrics,
)
from tinylora_rl.verl_plugin.settings import MODEL_TYPE, TRAINER_MODE, sync_config
from tinylora_rl.verl_plugin.sync.deadline import SyncError
from tinylora_rl.verl_plugin.worker import TinyLoraWorker

logger = logging.getLogger(__name__)

DRIVER_GRACE_S = 30.0  # the workers' own error, which says more, shall arrive before the driver's


@register_trainer(TRAINER_MODE)
class TinyLoraTrainer(PPOTrainerSync):
    """Selected by `trainer.v1.trainer_mode: tinylora_sync`."""

    def __init__(self, config: DictConfig) -> None:
        # verl looks its synchronous behaviour up by this name in several places.
        with open_dict(config):
            config.trainer.v1.trainer_mode = "sync"
        self._run = RunDirectory(Path(config.run.dir))
        self._num_fetched = 0
        self._saved_step: int | None = None
        self._sync_deadline_s = sync_config(config.actor_rollout_ref.model.lora).deadline_s
        super().__init__(config)

    # -- building ---------------------------------------------------------------------------------

    def _init_resource_pool_mgr(self) -> None:
        super()._init_resource_pool_mgr()
        for role, worker in self.role_worker_mapping.items():
            if worker.__ray_metadata__.modified_class.__name__ == ActorRolloutRefWorker.__name__:
                self.role_worker_mapping[role] = ray.remote(TinyLoraWorker)

    def _build_replay_buffer(self) -> Any:
        buffer = super()._build_replay_buffer()
        # verl looks every 2 s whether a rollout is complete: longer than a small rollout takes.
        buffer.poll_interval = self.config.run.poll_interval_s
        return buffer

    # -- a fixed order of samples ------------------------------------------------------------------

    def _fetch_one_gen_batch(self) -> Any:
        batch = super()._fetch_one_gen_batch()
        uids = [
            f"{self.global_steps:08d}-{self._num_fetched + row:08d}"
            for row in range(len(batch["uid"]))
        ]
        self._num_fetched += len(uids)
        tu.assign_non_tensor_stack(batch, "uid", uids)
        return batch

    def _balance_batch(self, batch: Any, metrics: dict, *args: Any, **kwargs: Any) -> Any:
        """verl orders a batch by arrival; sums of floats then differ from run to run."""
        batch.reorder(
            sorted(range(len(batch.keys)), key=lambda position: _sample_key(batch.keys[position]))
        )
        return super()._balance_batch(batch, metrics, *args, **kwargs)

    # -- sync -------------------------------------------------------------------------------------

    def on_init_end(self) -> None:
        self._sync_policy()

    def on_step_end(self) -> None:
        with marked_timer("update_weights", self.timing_raw, color="red"):
            self._sync_policy()

    def _sync_policy(self) -> None:
        """Every rollout worker holds the current policy and has acknowledged it.

        Raises:
            SyncError: some worker did not, within `sync.deadline_s`.
        """
        version = self.global_steps
        pending = self.actor_rollout_wg.update_weights(global_steps=version, mode="naive")
        try:
            results = ray.get(pending, timeout=self._sync_deadline_s + DRIVER_GRACE_S)
        except ray.exceptions.GetTimeoutError:
            raise SyncError(
                f"policy version {version} was not acknowledged by every rollout worker within "
                f"sync.deadline_s={self._sync_deadline_s:g}"
            ) from None
        # Each rank of the trainer feeds one vLLM worker; the leaders of the replicas hear them all.
        num_acknowledged = sum(result["sync/num_acknowledgements"] for result in results)
        if num_acknowledged != len(results):
            raise SyncError(
                f"policy version {version} was acknowledged by {num_acknowledged:g} of "
                f"{len(results)} rollout workers"
            )
        self._pending_sync_metrics = {
            "sync/seconds": max(result["sync/seconds"] for result in results),
            "sync/bytes": sum(result["sync/bytes"] for result in results),
            "sync/policy_version": float(version),
            "sync/num_acknowledgements": num_acknowledged,
        }
        if "sync/survival" in results[0]:
            self._pending_sync_metrics["sync/survival"] = results[0]["sync/survival"]

    # -- metrics ----------------------------------------------------------------------------------

    def on_validate_begin(self) -> None:
        self._open_metrics_file()

    def on_train_begin(self) -> None:
        self._open_metrics_file()

    def _open_metrics_file(self) -> None:
        self.logger.logger.setdefault("metrics.jsonl", MetricsFile(self._run.metrics))

    def _update_actor(self, batch: Any, metrics: dict) -> Any:
        batch = super()._update_actor(batch, metrics)
        for key in [key for key in metrics if key.startswith("actor/tinylora/")]:
            metrics[key.removeprefix("actor/")] = metrics.pop(key)
        return batch

    def _compute_metrics(
        self, batch: Any, metrics: dict, timing_raw: dict, global_steps: int, epoch: int
    ) -> None:
        super()._compute_metrics(batch, metrics, timing_raw, global_steps=global_steps, epoch=epoch)
        metrics.update(reward_metrics(graded_samples(batch)))
        is_tinylora = self.config.actor_rollout_ref.model.model_type == MODEL_TYPE
        if is_tinylora and self._saved_step == global_steps:
            self._publish_adapter(metrics)

    # -- checkpoints -------------------------------------------------------------------------------

    def _load_checkpoint(self) -> None:
        if self.config.trainer.resume_mode == "auto":
            repair_tracker(Path(self.config.trainer.default_local_dir))
        super()._load_checkpoint()

    def _save_checkpoint(self) -> None:
        super()._save_checkpoint()
        self._saved_step = self.global_steps

    def _publish_adapter(self, metrics: Mapping[str, Any]) -> None:
        """`adapter/` of the run is the newest checkpoint's, and states how good it is."""
        newest = (
            Path(self.config.trainer.default_local_dir)
            / f"global_step_{self.global_steps}"
            / "actor"
            / ADAPTER_DIR
        )
        with replacing_directory(self._run.adapter) as fresh:
            shutil.copytree(newest, fresh, dirs_exist_ok=True)
            (fresh / MANIFEST).write_bytes(
                restated(read_manifest(newest), {"metrics": telling_metrics(metrics)})
            )


class _TinyLoraTaskRunner(TaskRunnerV1.__ray_metadata__.modified_class):
    """verl's task runner; defined here, it brings the registrations into its process."""


TinyLoraTaskRunner = ray.remote(_TinyLoraTaskRunner)


def repair_tracker(checkpoints: Path) -> None:
    """The file that names the newest step names one, if there is a complete checkpoint.

    Why: verl 0.9.1 writes it in place (trainer_base._save_checkpoint), so a run killed in that
    moment leaves it empty and cannot be resumed. Remove when verl replaces it atomically.
    """
    tracker = Path(get_checkpoint_tracker_filename(str(checkpoints)))
    if not tracker.exists() or tracker.read_text().strip().isdigit():
        return
    complete = [
        int(folder.name.removeprefix("global_step_"))
        for folder in checkpoints.glob("global_step_*")
        # verl writes data.pt last; of a TinyLoRA actor the adapter's manifest is
        if (folder / "data.pt").exists()
        and (
            (folder / "actor" / ADAPTER_DIR / MANIFEST).exists()
            or not (folder / "actor" / ADAPTER_DIR).exists()
        )
    ]
    logger.warning("%s was torn; complete checkpoints: %s", tracker, sorted(complete))
    if complete:
        write_text(tracker, str(max(complete)))
    else:
        tracker.unlink()


def _sample_key(key: str) -> tuple[str, int, int]:
    """`{uid}_{sample}_{output}`, verl's key of a trajectory, in numeric order."""
    uid, sample, output = key.rsplit("_", 2)
    return uid, int(sample), int(output)
