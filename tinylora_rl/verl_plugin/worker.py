"""The Ray worker of a TinyLoRA run. Importing this module registers engine and rollout."""

from __future__ import annotations

import os
from typing import Any

import torch.distributed as dist
from verl.single_controller.base.decorator import Dispatch, register
from verl.utils.device import get_device_name
from verl.workers.engine.base import EngineRegistry
from verl.workers.engine.fsdp.transformer_impl import FSDPEngineWithLMHead
from verl.workers.engine_workers import ActorRolloutRefWorker, TrainingWorker

from tinylora_rl.verl_plugin.engine import TinyLoraEngine
from tinylora_rl.verl_plugin.settings import PEER_MODEL_TYPE
from tinylora_rl.verl_plugin.sync import rollout as _rollout  # noqa: F401  # registers

# verl registers its own engine for accelerators only; ours shows that it runs on a CPU too.
EngineRegistry.register(model_type=PEER_MODEL_TYPE, backend=["fsdp2"], device=["cpu"])(
    FSDPEngineWithLMHead
)


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


class TinyLoraWorker(ActorRolloutRefWorker):
    """verl's hybrid worker, whose weight sync returns what it did."""

    actor_worker_cls = TinyLoraTrainingWorker

    @register(dispatch_mode=Dispatch.ONE_TO_ALL, blocking=False)
    async def update_weights(
        self, global_steps: int | None = None, mode: str = "auto"
    ) -> dict[str, float]:
        """The rollout holds this actor's policy and acknowledged it.

        Returns:
            `sync/*` of this rank.

        Raises:
            SyncError: see `TinyLoraServerAdapter.update_weights`.
        """
        self.actor.engine.policy_version = global_steps
        await super().update_weights(global_steps=global_steps, mode=mode)
        metrics = dict(self.rollout.sync_metrics)
        if isinstance(self.actor.engine, TinyLoraEngine):
            metrics["sync/survival"] = self.actor.engine.survival.share
        return metrics
