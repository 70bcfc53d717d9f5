"""Extends verl's trainers by hooks; the algorithm is verl's (0.9.1), untouched.

GRPO's advantage is `core_algos.compute_grpo_outcome_advantage` (reward minus the group's mean, over
its standard deviation). The weight of truncated importance sampling, per token and at most 2 (the
paper names neither), is `rollout_corr_helper.compute_rollout_correction_weights`, and multiplies
the clipped loss in `core_algos.compute_policy_loss_vanilla`. A run differs from verl's in that

- it can be repeated: uids, seeds and order of the samples are fixed (see also `agent_loop`);
- it ends where verl trains on: a worker that is not the policy, a sample that failed, a rollout
  that hangs, a reward or gradient that is not finite;
- a step counts only once everything about it is on the disk (`step_commit`).

Overridden methods in the order in which `PPOTrainer` (verl/trainer/ppo/v1/trainer_base.py) calls
them; those with a star are in `step_commit`, all others here.

| verl calls | we do |
|---|---|
| `__init__`: `_build_replay_buffer` | bound its waits, poll more often, report progress |
| `init`: `_init_resource_pool_mgr` | put in `TinyLoraWorker` |
| `init`: `_load_checkpoint` * | cut v.jsonl at the resumed step, whose validation is not repeated |
| `init`: `on_init_end` | sync v to the rollout, verified |
| `fit`: `on_validate_begin`, `on_train_begin` * | make metrics.jsonl the last of verl's trackers |
| `fit`: `step` * | append v to v.jsonl, after |
| `step`: `_fetch_one_gen_batch` | number the prompts, in place of random uids |
| `step`: `replay_buffer.sample` | raise if a prompt fails or none finishes (`rollout_timeout`) |
| `step`: `on_sample_end` | ask the workers which policy they sampled from |
| `step`: `_balance_batch` | sort the samples by uid |
| `step`: `_compute_old_log_prob`, `_compute_ref_log_prob` | send the actor tensors alone |
| `step`: `_compute_advantage` | refuse rewards that are not finite |
| `step`: `_update_actor` | send tensors alone; refuse a norm that is not finite; name metrics |
| `fit`: `_save_checkpoint` * | clear the folder first; name a full disk |
| `fit`: `on_step_end` | sync v to the rollout, verified |
| `fit`: `_compute_metrics` | add `reward/*`, `group/*`; publish adapter/ |
| `fit`: `logger.log` * | write metrics.jsonl, commit the checkpoint; stop if asked to |
| `fit`: `on_train_end` * | record after which step the run stopped |
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
from tinylora_rl.settings.in_workers import (
    SEPARATE_TRAINER_MODE,
    SYNC_MODES,
    TRAINER_MODE,
    sync_config,
)
from tinylora_rl.verl_plugin.nan_guard import check_norm, check_rewards
from tinylora_rl.verl_plugin.rollout_timeout import bounded
from tinylora_rl.verl_plugin.samples import graded_samples, keep_fields_of_actor, reward_metrics
from tinylora_rl.verl_plugin.step_commit import StepCommitTrainer
from tinylora_rl.verl_plugin.sync.deadline import SyncError
from tinylora_rl.verl_plugin.sync.verify import ExpectedReceipt, canary_metrics
from tinylora_rl.verl_plugin.worker import TinyLoraWorker

DRIVER_GRACE_S = 30.0  # a worker's own error, which says more, arrives before the driver's


class TinyLoraHooks(StepCommitTrainer):
    """The hooks, for any of verl's trainers."""

    verl_mode: str  # the name of the trainer that is extended; verl compares it in several places

    def __init__(self, config: DictConfig) -> None:
        with open_dict(config):
            config.trainer.v1.trainer_mode = self.verl_mode
        self._num_fetched = 0
        self._sync = sync_config(config.actor_rollout_ref.model.lora)
        self._num_syncs = 0
        self._synced_version: int | None = None
        self._canary_ids: list[int] | None = None
        super().__init__(config)

    # Upstream calls it in `_setup`, to choose a Ray worker class for each role.
    # We put ours in place of all that train or sample.
    def _init_resource_pool_mgr(self) -> None:
        super()._init_resource_pool_mgr()
        for role, worker in self.role_worker_mapping.items():
            if issubclass(worker.__ray_metadata__.modified_class, ActorRolloutRefWorker):
                self.role_worker_mapping[role] = ray.remote(TinyLoraWorker)

    # Upstream calls it in `__init__`. Its buffer waits without limit, and looks every 2 s whether a
    # rollout is complete: longer than a small one takes. We bound the first and shorten the second.
    def _build_replay_buffer(self) -> Any:
        buffer = super()._build_replay_buffer()
        buffer.poll_interval = self.config.run.poll_interval_s
        return bounded(buffer, self.config.run.rollout_deadline_s, ProgressFile(self._run.path))

    # Upstream calls it for each batch of prompts and gives them random uids.
    # We number them, so that a resumed run's samples have the same names.
    def _fetch_one_gen_batch(self) -> Any:
        batch = super()._fetch_one_gen_batch()
        numbers = range(self._num_fetched, self._num_fetched + len(batch["uid"]))
        uids = [f"{self.global_steps:08d}-{number:08d}" for number in numbers]
        self._num_fetched += len(uids)
        tu.assign_non_tensor_stack(batch, "uid", uids)
        return batch

    # Upstream calls it on the sampled batch, which is in order of arrival.
    # We sort it first: sums of floats would otherwise differ from run to run.
    def _balance_batch(self, batch: Any, metrics: dict, *args: Any, **kwargs: Any) -> Any:
        keys = [_sample_key(key) for key in batch.keys]
        batch.reorder(sorted(range(len(keys)), key=keys.__getitem__))
        return super()._balance_batch(batch, metrics, *args, **kwargs)

    # Upstream calls these two when the checkpoint is loaded and after every step, and updates the
    # rollout's weights there without an answer. We sync in place of that, and verify it.

    def on_init_end(self) -> None:
        self.actor_rollout_wg.report_progress(str(self._run.path))
        self._sync_policy()

    def on_step_end(self) -> None:
        with marked_timer("update_weights", self.timing_raw, color="red"):
            self._sync_policy()

    # Upstream calls it when all samples of the step are there, and lets the rollout sleep.
    # We ask first which policy the samples came from.
    def on_sample_end(self) -> None:
        self._check_samplers()
        super().on_sample_end()

    def _sync_policy(self) -> None:
        """Sends the policy to every rollout worker and checks receipts, weights and canary.

        Raises SyncError where one did not answer within `sync.deadline_s`, or is not the policy.
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
        """Sends from each of the trainer's ranks to the worker beside it; returns `sync/*`."""
        pending = self.actor_rollout_wg.update_weights(global_steps=version, mode="naive")
        try:
            results = ray.get(pending, timeout=self._sync.deadline_s + DRIVER_GRACE_S)
        except ray.exceptions.GetTimeoutError:
            raise SyncError(
                f"policy version {version} was not acknowledged by every rollout worker within "
                f"sync.deadline_s={self._sync.deadline_s:g}"
            ) from None
        # each rank sends to one vLLM worker; the leaders collect the receipts of their replicas
        return joined_sync_metrics(results, version)

    def _check_samplers(self) -> None:
        """Checks that all samples since the latest sync came from its policy; SyncError if not.

        A worker that restarted in between samples from the base model, and its receipt has no
        version. Nothing else changes a worker's weights, so they are not measured again.
        """
        for handle in self._rollout_servers():
            asked = handle.policy_receipts.remote(measure=False)
            try:
                receipts = ray.get(asked, timeout=self._sync.deadline_s)
            except ray.exceptions.RayError as error:
                raise SyncError(
                    "a rollout does not say which policy it sampled from: "
                    f"{str(error).strip().splitlines()[-1]}"
                ) from error
            ExpectedReceipt(policy_version=self._synced_version).check(receipts)

    def _rollout_servers(self) -> list[Any]:
        managers = self._rollout_server_managers()
        return [handle for manager in managers for handle in manager.server_handles]

    def _canary_of_actor(self) -> dict[str, list[float]]:
        """Computes the actor's log-probs of the canary prompt; {} where none is due.

        Before the sync, because after it the rollout may occupy the memory of a forward pass.
        """
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

    # Upstream calls these two with the names of all fields of the samples, which the actor fetches.
    # We name those that it computes with.

    def _compute_old_log_prob(self, batch: Any, metrics: dict) -> Any:
        keep_fields_of_actor(batch)
        return super()._compute_old_log_prob(batch, metrics)

    def _compute_ref_log_prob(self, batch: Any, metrics: dict) -> Any:
        keep_fields_of_actor(batch)
        return super()._compute_ref_log_prob(batch, metrics)

    # Upstream calls it after the log-probs: truncated importance weights, then GRPO's advantage.
    # We look at the rewards first: one NaN makes every advantage of its group NaN.
    def _compute_advantage(self, batch: Any, metrics: dict) -> Any:
        scores = tq.kv_batch_get(
            keys=batch.keys, partition_id=batch.partition_id, select_fields=["rm_scores"]
        )["rm_scores"]
        rewards = [float(score_T.sum()) for score_T in scores]
        check_rewards(zip(batch.keys, rewards, strict=True), self.global_steps)
        return super()._compute_advantage(batch, metrics)

    # Upstream calls it last; an engine of verl's skips an update whose gradient is not finite.
    # We end the run then, and give our metrics their own prefixes in place of "actor/".
    def _update_actor(self, batch: Any, metrics: dict) -> Any:
        keep_fields_of_actor(batch)
        batch = super()._update_actor(batch, metrics)
        check_norm(float(metrics["actor/grad_norm"]), self.global_steps)
        for key in [key for key in metrics if key.startswith(("actor/tinylora/", "actor/signal/"))]:
            metrics[key.removeprefix("actor/")] = metrics.pop(key)
        return batch

    # Upstream calls it after checkpoint, sync and validation, before the metrics are logged.
    # We add the judges' metrics; then all is known that the published adapter's manifest states.
    def _compute_metrics(
        self, batch: Any, metrics: dict, timing_raw: dict, global_steps: int, epoch: int
    ) -> None:
        super()._compute_metrics(batch, metrics, timing_raw, global_steps=global_steps, epoch=epoch)
        metrics.update(reward_metrics(graded_samples(batch)))
        self._publish_adapter(metrics)


def joined_sync_metrics(results: Sequence[Mapping[str, float]], version: int) -> dict[str, float]:
    """Joins the ranks' `sync/*`: sums of bytes, tensors and acknowledgements, else the largest.

    Raises SyncError where there are not as many acknowledgements as ranks.
    """
    num_acknowledged = sum(result["sync/num_acknowledgements"] for result in results)
    if num_acknowledged != len(results):
        raise SyncError(
            f"policy version {version} was acknowledged by {num_acknowledged:g} of "
            f"{len(results)} rollout workers"
        )
    summed = {"sync/bytes", "sync/num_acknowledgements", "sync/num_tensors"}
    joined = {
        key: (sum if key in summed else max)(result[key] for result in results if key in result)
        for key in dict.fromkeys(key for result in results for key in result)
    }
    # a share may be too small as well as too large
    if shares := [r["sync/held_share"] for r in results if "sync/held_share" in r]:
        joined["sync/held_share"] = max(shares, key=lambda share: abs(share - 1))
    return joined


@register_trainer(TRAINER_MODE)
class TinyLoraTrainer(TinyLoraHooks, PPOTrainerSync):
    """Trains and samples on the same GPUs, in turn. `trainer.v1.trainer_mode: tinylora_sync`."""

    verl_mode = "sync"


@register_trainer(SEPARATE_TRAINER_MODE)
class TinyLoraSeparateTrainer(TinyLoraHooks, PPOTrainerSeparateAsync):
    """Samples on GPUs or nodes of their own while the trainer trains.

    Selected by `placement=separate`; a checkpoint engine carries the policy.
    """

    verl_mode = "separate_async"

    # Upstream calls it in `init`. Without hybrid replicas verl 0.9.1 logs there with print's
    # `flush`, a TypeError at level INFO; we raise the level. Remove when verl has fixed it.
    def _setup(self) -> None:
        logging.getLogger(PPOTrainerSeparateAsync.__module__).setLevel(logging.WARNING)
        super()._setup()

    # Upstream's own `on_step_end` also switches hybrid replicas, of which we have none.
    def on_step_end(self) -> None:
        if self.prev_step_profile:
            self._stop_rollout_profiling()
        super().on_step_end()

    def _send_policy(self, version: int) -> dict[str, float]:
        """Sends through the checkpoint engine to all standalone replicas; returns `sync/*`."""
        start_s = time.monotonic()
        sent = self.standalone_checkpoint_manager.update_weights(version)
        workers = [
            worker
            for replica in self.standalone_server_manager.get_replicas()
            for worker in replica.workers
        ]
        received = ray.get([worker.sync_metrics.remote() for worker in workers])
        return {
            **joined_sync_metrics(received, version),
            **sent,
            "sync/seconds": time.monotonic() - start_s,  # of all, stopping the rollout included
        }


class _TinyLoraTaskRunner(TaskRunnerV1.__ray_metadata__.modified_class):
    """verl's task runner; unpickled by this module's name, it registers our classes there."""


TinyLoraTaskRunner = ray.remote(_TinyLoraTaskRunner)


def _sample_key(key: str) -> tuple[str, int, int]:
    """Sorts `{uid}_{sample}_{output}`, verl's keys of trajectories, by number."""
    uid, sample, output = key.rsplit("_", 2)
    return uid, int(sample), int(output)
