"""The Ray worker of a TinyLoRA run. Importing this module registers engine and rollout."""

from __future__ import annotations

import os
from typing import Any

import torch.distributed as dist
from verl.experimental.separation.engine_workers import DetachActorWorker
from verl.single_controller.base.decorator import Dispatch, register
from verl.utils.device import get_device_name
from verl.workers.engine_workers import TrainingWorker

from tinylora_rl.verl_plugin import baseline_engine as _baseline_engine  # noqa: F401  # registers
from tinylora_rl.verl_plugin.engine import TinyLoraEngine
from tinylora_rl.verl_plugin.sync import rollout as _rollout  # noqa: F401  # registers


class TinyLoraTrainingWorker(TrainingWorker):
    """verl's training worker, which also finds its process group on a CPU."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        if get_device_name() == "cpu" and not dist.is_initialized():
            # verl 0.9.1 asks for "cpu:gloo,<device>:<backend>", which torch refuses where the
            # device is the CPU itself; it leaves a group alone that exists already.
            dist.init_process_group(
                backend="cpu:gloo",
                rank=int(os.environ["RANK"]),
                world_size=int(os.environ["WORLD_SIZE"]),
                init_method=os.environ.get("DIST_INIT_METHOD"),
            )
        super().__init__(*args, **kwargs)


class TinyLoraWorker(DetachActorWorker):
    """verl's worker, whose weight sync returns what it did."""

    actor_worker_cls = TinyLoraTrainingWorker

    @register(dispatch_mode=Dispatch.ONE_TO_ALL, blocking=False)
    async def update_weights(
        self, global_steps: int | None = None, mode: str = "auto"
    ) -> dict[str, float]:
        """The rollout holds this actor's policy and acknowledged it.

        Args:
            mode: "naive" to the rollout that shares this worker's GPU; else the name of a
                checkpoint engine, by which the policy is sent to rollouts elsewhere.

        Returns:
            `sync/*` of this rank.

        Raises:
            SyncError: see `TinyLoraServerAdapter.update_weights`.
        """
        engine = self.actor.engine
        engine.policy_version = global_steps
        metrics: dict[str, float]
        if mode == "naive":
            engine.sends_bank = self.rollout.bank is None
            await super().update_weights(global_steps=global_steps, mode=mode)
            metrics = dict(self.rollout.sync_metrics)
        else:
            engine.sends_bank = True  # the checkpoint engine knows who needs it
            metrics = await super().update_weights(global_steps=global_steps, mode=mode) or {}
        if isinstance(engine, TinyLoraEngine) and engine.survival.total:
            metrics["sync/survival"] = engine.survival.share  # merged here
        return metrics

    @register(dispatch_mode=Dispatch.ONE_TO_ALL)
    def canary_log_probs(self, token_ids: list[int]) -> dict[str, list[float]]:
        """Of token_ids[1:], under the actor's policy and under the base model; equal on all ranks.

        Returns:
            {"policy": ..., "base": ...} in nats; empty where verl's own engine trains.
        """
        engine = self.actor.engine
        if not isinstance(engine, TinyLoraEngine):
            return {}
        policy = engine.token_log_probs(token_ids)
        with engine.disable_adapter():
            return {"policy": policy, "base": engine.token_log_probs(token_ids)}

    @register(dispatch_mode=Dispatch.ONE_TO_ALL)
    def vector(self) -> list[list[float]]:
        """v, a row for each group; equal on all ranks.

        Empty where verl's own engine trains.
        """
        engine = self.actor.engine
        return engine.adapter.v.detach().tolist() if isinstance(engine, TinyLoraEngine) else []

    # verl keeps whole models for the log-probs of an older policy; v is what differs between them

    @register(dispatch_mode=Dispatch.ONE_TO_ALL)
    def save_model_to_cpu(self, n: int) -> None:
        engine = self.actor.engine
        if not isinstance(engine, TinyLoraEngine):
            super().save_model_to_cpu(n)
            return
        self.__dict__.setdefault("cpu_saved_models", {})[n] = engine.adapter.v.detach().clone()

    @register(dispatch_mode=Dispatch.ONE_TO_ALL)
    def restore_model_from_cpu(self, n: int) -> None:
        engine = self.actor.engine
        if not isinstance(engine, TinyLoraEngine):
            super().restore_model_from_cpu(n)
            return
        engine.adapter.v.data.copy_(self.cpu_saved_models[n])
