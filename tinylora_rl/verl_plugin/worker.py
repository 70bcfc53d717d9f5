"""Extends verl's Ray worker of the actor. Importing this module registers engine and rollout."""

from __future__ import annotations

import os
from contextlib import nullcontext
from pathlib import Path

import torch.distributed as dist
from verl.experimental.separation.engine_workers import DetachActorWorker
from verl.single_controller.base.decorator import Dispatch, register
from verl.utils.device import get_device_name
from verl.workers.config import TrainingWorkerConfig
from verl.workers.engine_workers import TrainingWorker

from tinylora_rl.runs.progress import ProgressFile
from tinylora_rl.settings.in_workers import register_in_worker
from tinylora_rl.verl_plugin.cpu.patches import register_verl_engine
from tinylora_rl.verl_plugin.engine import TinyLoraEngine
from tinylora_rl.verl_plugin.sync import rollout as _rollout  # noqa: F401  # registers

register_verl_engine()


class TinyLoraTrainingWorker(TrainingWorker):
    """verl's training worker, which also knows the user's plugins, and its group on a CPU."""

    # Upstream creates one in every process of the actor, and joins its process group here.
    # It asks for "cpu:gloo,<device>:<backend>", which torch refuses where the device is the CPU
    # itself (verl 0.9.1); a group that exists already is left alone, so we join it first.
    # The user's plugins must be known before upstream looks its engine up.
    def __init__(self, config: TrainingWorkerConfig) -> None:
        register_in_worker(config.model_config.lora)
        if get_device_name() == "cpu" and not dist.is_initialized():
            dist.init_process_group(
                backend="cpu:gloo",
                rank=int(os.environ["RANK"]),
                world_size=int(os.environ["WORLD_SIZE"]),
                init_method=os.environ.get("DIST_INIT_METHOD"),
            )
        super().__init__(config)


class TinyLoraWorker(DetachActorWorker):
    """verl's worker, which also reports on its syncs and on v.

    A baseline (LoRA, full fine-tuning) trains in verl's own engine: no v, no canary, no progress.
    """

    actor_worker_cls = TinyLoraTrainingWorker

    @property
    def _tinylora(self) -> TinyLoraEngine | None:
        engine = self.actor.engine
        return engine if isinstance(engine, TinyLoraEngine) else None

    # Upstream calls it after every step: it passes the engine's weights to the rollout beside it
    # ("naive") or to a checkpoint engine. We set which policy that is, and return `sync/*`.
    @register(dispatch_mode=Dispatch.ONE_TO_ALL, blocking=False)
    async def update_weights(
        self, global_steps: int | None = None, mode: str = "auto"
    ) -> dict[str, float]:
        """Sends this actor's policy to the rollout; see `TinyLoraServerAdapter.update_weights`."""
        is_beside = mode == "naive"
        # a checkpoint engine knows by itself which rollouts lack the bank
        with_bank = self.rollout.needs_bank() if is_beside else True
        engine = self._tinylora
        block = engine.sending(global_steps, with_bank=with_bank) if engine else nullcontext()
        with block as sending:
            metrics = await super().update_weights(global_steps=global_steps, mode=mode) or {}
        if is_beside:
            metrics = dict(self.rollout.sync_metrics)
        if sending is not None and sending.survival.total:
            metrics["sync/survival"] = sending.survival.share  # merged in this process
        return metrics

    @register(dispatch_mode=Dispatch.ONE_TO_ALL)
    def report_progress(self, run_dir: str) -> None:
        """Reports the progress of every update from now on, to the run's terminal."""
        if self._tinylora is not None and self._tinylora.rank == 0:
            self._tinylora.progress = ProgressFile(Path(run_dir))

    @register(dispatch_mode=Dispatch.ONE_TO_ALL)
    def canary_log_probs(self, token_ids: list[int]) -> dict[str, list[float]]:
        """Returns log-probs of token_ids[1:], {"policy": ..., "base": ...}; {} for a baseline."""
        engine = self._tinylora
        if engine is None:
            return {}
        policy = engine.token_log_probs(token_ids)
        with engine.disable_adapter():
            return {"policy": policy, "base": engine.token_log_probs(token_ids)}

    @register(dispatch_mode=Dispatch.ONE_TO_ALL)
    def vector(self) -> list[list[float]]:
        """Reads v, a row for each group; equal on all ranks. Empty for a baseline."""
        return [] if self._tinylora is None else self._tinylora.adapter.v.detach().tolist()

    # Upstream calls these two (separate placement, several updates per sync) to compute log-probs
    # of an older policy, and copies whole models. Policies differ in v alone, so we copy that.

    @register(dispatch_mode=Dispatch.ONE_TO_ALL)
    def save_model_to_cpu(self, n: int) -> None:
        if self._tinylora is None:
            super().save_model_to_cpu(n)
            return
        saved = self._tinylora.adapter.v.detach().clone()
        self.__dict__.setdefault("cpu_saved_models", {})[n] = saved

    @register(dispatch_mode=Dispatch.ONE_TO_ALL)
    def restore_model_from_cpu(self, n: int) -> None:
        if self._tinylora is None:
            super().restore_model_from_cpu(n)
            return
        self._tinylora.adapter.v.data.copy_(self.cpu_saved_models[n])
