"""verl's GRPO trainers, with what a TinyLoRA run needs around each step.

The algorithm is verl's, untouched. Overridden are hooks: a fixed order of samples, a weight sync
with a deadline and an answer, refusals of what is not finite, and metrics.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from typing import Any

import ray
import transfer_queue as tq
from omegaconf import DictConfig, open_dict
from verl.trainer.main_ppo import TaskRunnerV1
from verl.trainer.ppo.v1 import PPOTrainerSync, register_trainer
from verl.trainer.ppo.v1.trainer_separate_async import PPOTrainerSeparateAsync
from verl.utils import tensordict_utils as tu
from verl.utils.debug import marked_timer
from verl.workers.engine_workers import ActorRolloutRefWorker

from tinylora_rl.runs.progress import ProgressFile
from tinylora_rl.verl_plugin.actor_batch import keep_fields_of_actor
from tinylora_rl.verl_plugin.nan_guard import check_norm, check_rewards
from tinylora_rl.verl_plugin.reward_metrics import graded_samples, reward_metrics
from tinylora_rl.verl_plugin.rollout_timeout import bounded
from tinylora_rl.verl_plugin.settings import (
    SEPARATE_TRAINER_MODE,
    SYNC_MODES,
    TRAINER_MODE,
    sync_config,
)
from tinylora_rl.verl_plugin.step_commit import KeptSteps
from tinylora_rl.verl_plugin.sync.canary import canary_metrics
from tinylora_rl.verl_plugin.sync.deadline import SyncError
from tinylora_rl.verl_plugin.sync.verify import ExpectedReceipt
from tinylora_rl.verl_plugin.worker import TinyLoraWorker

DRIVER_GRACE_S = 30.0  # the workers' own error, which says more, shall arrive before the driver's


class TinyLoraHooks(KeptSteps):
    """Around the steps of any of verl's trainers.

    Attributes:
        verl_mode: the name by which verl looks the trainer's behaviour up in several places.
    """

    verl_mode: str

    def __init__(self, config: DictConfig) -> None:
        with open_dict(config):
            config.trainer.v1.trainer_mode = self.verl_mode
        self._num_fetched = 0
        self._sync = sync_config(config.actor_rollout_ref.model.lora)
        self._num_syncs = 0
        self._synced_version: int | None = None
        self._canary_ids: list[int] | None = None
        super().__init__(config)

    # -- building ---------------------------------------------------------------------------------

    def _init_resource_pool_mgr(self) -> None:
        super()._init_resource_pool_mgr()
        for role, worker in self.role_worker_mapping.items():
            if issubclass(worker.__ray_metadata__.modified_class, ActorRolloutRefWorker):
                self.role_worker_mapping[role] = ray.remote(TinyLoraWorker)

    def _build_replay_buffer(self) -> Any:
        buffer = super()._build_replay_buffer()
        # verl looks every 2 s whether a rollout is complete: longer than a small rollout takes.
        buffer.poll_interval = self.config.run.poll_interval_s
        return bounded(buffer, self.config.run.rollout_deadline_s, ProgressFile(self._run.path))

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

    def on_sample_end(self) -> None:
        self._check_samplers()
        super().on_sample_end()

    def _sync_policy(self) -> None:
        """Every rollout worker holds the current policy, has acknowledged it and proved it.

        Raises:
            SyncError: some worker did not, within `sync.deadline_s`, or its canary is off.
        """
        version = self.global_steps
        canary = self._canary_of_actor()
        metrics = self._send_policy(version)
        metrics |= {"sync/mode": float(SYNC_MODES.index(self._sync.mode))}
        if canary:
            metrics |= self._canary_of_rollouts(canary)
        self._num_syncs += 1
        self._synced_version = version
        self._pending_sync_metrics = metrics

    def _send_policy(self, version: int) -> dict[str, float]:
        """The trainer's ranks feed the rollout workers beside them; returns `sync/*`."""
        pending = self.actor_rollout_wg.update_weights(global_steps=version, mode="naive")
        try:
            results = ray.get(pending, timeout=self._sync.deadline_s + DRIVER_GRACE_S)
        except ray.exceptions.GetTimeoutError:
            raise SyncError(
                f"policy version {version} was not acknowledged by every rollout worker within "
                f"sync.deadline_s={self._sync.deadline_s:g}"
            ) from None
        # Each rank of the trainer feeds one vLLM worker; the leaders of the replicas hear them all.
        num_acknowledged = sum(result["sync/num_acknowledgements"] for result in results)
        if num_acknowledged != len(results):
            raise SyncError(
                f"policy version {version} was acknowledged by {num_acknowledged:g} of "
                f"{len(results)} rollout workers"
            )
        return joined_sync_metrics(results)

    def _check_samplers(self) -> None:
        """What was sampled since the latest sync was sampled from that policy, by all workers.

        A worker that died and came back in between holds the base model, and no policy.

        Raises:
            SyncError: a worker holds another policy; its samples are not used.
        """
        for handle in self._rollout_servers():
            try:
                receipts = ray.get(handle.policy_receipts.remote(), timeout=self._sync.deadline_s)
            except ray.exceptions.RayError as error:
                raise SyncError(
                    "a rollout does not say which policy it sampled from: "
                    f"{str(error).strip().splitlines()[-1]}"
                ) from error
            ExpectedReceipt(policy_version=self._synced_version).check(receipts)

    def _rollout_servers(self) -> list[Any]:
        return [
            handle
            for manager in self._rollout_server_managers()
            for handle in manager.server_handles
        ]

    def _canary_of_actor(self) -> dict[str, list[float]]:
        """Before the sync: afterwards the rollout may hold the memory that a forward pass needs."""
        every = self._sync.canary_every
        if not every or self._num_syncs % every:
            return {}
        if self._canary_ids is None:
            self._canary_ids = self.tokenizer.encode(self._sync.canary_prompt)
            if len(self._canary_ids) < 2:
                raise ValueError(
                    f"sync.canary_prompt={self._sync.canary_prompt!r}: one token has no log-prob; "
                    "give a longer text, or set sync.canary_every=0"
                )
        return self.actor_rollout_wg.canary_log_probs(self._canary_ids)[0]

    def _canary_of_rollouts(self, actor: Mapping[str, list[float]]) -> dict[str, float]:
        servers = self._rollout_servers()
        rollouts = ray.get(
            [server.prompt_log_probs.remote(self._canary_ids) for server in servers],
            timeout=self._sync.deadline_s,
        )
        return canary_metrics(
            {f"replica {index}": log_probs for index, log_probs in enumerate(rollouts)},
            actor["policy"],
            actor["base"],
            max_diff=self._sync.canary_max_diff,
            policy_version=self.global_steps,
        )

    # -- what the actor is sent, what is not finite, and metrics -----------------------------------

    def _compute_old_log_prob(self, batch: Any, metrics: dict) -> Any:
        keep_fields_of_actor(batch)
        return super()._compute_old_log_prob(batch, metrics)

    def _compute_ref_log_prob(self, batch: Any, metrics: dict) -> Any:
        keep_fields_of_actor(batch)
        return super()._compute_ref_log_prob(batch, metrics)

    def _compute_advantage(self, batch: Any, metrics: dict) -> Any:
        scores = tq.kv_batch_get(
            keys=batch.keys, partition_id=batch.partition_id, select_fields=["rm_scores"]
        )["rm_scores"]
        rewards = [float(score_T.sum()) for score_T in scores]
        check_rewards(zip(batch.keys, rewards, strict=True), self.global_steps)
        return super()._compute_advantage(batch, metrics)

    def _update_actor(self, batch: Any, metrics: dict) -> Any:
        keep_fields_of_actor(batch)
        batch = super()._update_actor(batch, metrics)
        check_norm(float(metrics["actor/grad_norm"]), self.global_steps)
        for key in [key for key in metrics if key.startswith(("actor/tinylora/", "actor/signal/"))]:
            metrics[key.removeprefix("actor/")] = metrics.pop(key)
        return batch

    def _compute_metrics(
        self, batch: Any, metrics: dict, timing_raw: dict, global_steps: int, epoch: int
    ) -> None:
        super()._compute_metrics(batch, metrics, timing_raw, global_steps=global_steps, epoch=epoch)
        metrics.update(reward_metrics(graded_samples(batch)))
        self._publish_adapter(metrics)


def joined_sync_metrics(results: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """One `sync/*` from all ranks': sums of bytes and acknowledgements, else the largest."""
    summed = {"sync/bytes", "sync/num_acknowledgements", "sync/num_tensors"}
    joined = {
        key: (sum if key in summed else max)(result[key] for result in results if key in result)
        for key in dict.fromkeys(key for result in results for key in result)
    }
    if shares := [r["sync/held_share"] for r in results if "sync/held_share" in r]:
        joined["sync/held_share"] = max(shares, key=lambda share: abs(share - 1))
    return joined


@register_trainer(TRAINER_MODE)
class TinyLoraTrainer(TinyLoraHooks, PPOTrainerSync):
    """Trainer and rollout share their GPUs. `trainer.v1.trainer_mode: tinylora_sync`."""

    verl_mode = "sync"


@register_trainer(SEPARATE_TRAINER_MODE)
class TinyLoraSeparateTrainer(TinyLoraHooks, PPOTrainerSeparateAsync):
    """The rollout has GPUs or nodes of its own, and samples while the trainer trains.

    Selected by `placement=separate`; a checkpoint engine carries the policy.
    """

    verl_mode = "separate_async"

    def _setup(self) -> None:
        # verl 0.9.1 logs there with print's `flush`, which is a TypeError at level INFO
        # (PPOTrainerSeparateAsync._setup, without hybrid replicas). Remove when it does not.
        logging.getLogger(PPOTrainerSeparateAsync.__module__).setLevel(logging.WARNING)
        super()._setup()

    def on_step_end(self) -> None:
        if self.prev_step_profile:
            self._stop_rollout_profiling()
        super().on_step_end()

    def _send_policy(self, version: int) -> dict[str, float]:
        start_s = time.monotonic()
        sent = self.standalone_checkpoint_manager.update_weights(version)
        workers = [
            worker
            for replica in self.standalone_server_manager.get_replicas()
            for worker in replica.workers
        ]
        received = ray.get([worker.sync_metrics.remote() for worker in workers])
        num_acknowledged = sum(result["sync/num_acknowledgements"] for result in received)
        if num_acknowledged != len(workers):
            raise SyncError(
                f"policy version {version} was acknowledged by {num_acknowledged:g} of "
                f"{len(workers)} rollout workers"
            )
        return {
            **joined_sync_metrics(received),
            **sent,
            "sync/seconds": time.monotonic() - start_s,  # of all, stopping the rollout included
        }


class _TinyLoraTaskRunner(TaskRunnerV1.__ray_metadata__.modified_class):
    """verl's task runner; defined here, it brings the registrations into its process."""


TinyLoraTaskRunner = ray.remote(_TinyLoraTaskRunner)


def _sample_key(key: str) -> tuple[str, int, int]:
    """`{uid}_{sample}_{output}`, verl's key of a trajectory, in numeric order."""
    uid, sample, output = key.rsplit("_", 2)
    return uid, int(sample), int(output)
