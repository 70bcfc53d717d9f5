"""Extends verl's vLLM rollout: every worker acknowledges every sync (`vllm_tinylora`).

Two ends: `TinyLoraServerAdapter` sits in the trainer's worker and sends; `TinyLoraHttpServer` is
the Ray actor around the vLLM engine. Importing this module registers both.
"""

from __future__ import annotations

import asyncio
import dataclasses
import time
from collections.abc import AsyncIterator
from typing import Any

import ray
import torch
from verl.checkpoint_engine.base import CheckpointEngineWorker
from verl.single_controller.ray import RayClassWithInitArgs
from verl.workers.rollout.base import _ROLLOUT_REGISTRY
from verl.workers.rollout.replica import RolloutReplicaRegistry
from verl.workers.rollout.vllm_rollout.vllm_async_server import vLLMHttpServer, vLLMReplica
from verl.workers.rollout.vllm_rollout.vllm_rollout import ServerAdapter

from tinylora_rl.adapter import CheckpointWeights, targets_of
from tinylora_rl.adapter.bank import bank_from_bytes
from tinylora_rl.adapter.targets import assign_groups
from tinylora_rl.base_model import checkpoint_folder
from tinylora_rl.settings.in_workers import ROLLOUT_NAME, SyncConfig, adapter_config, sync_config
from tinylora_rl.verl_plugin.sync.deadline import Deadline, DeadlineWeightSender, SyncError
from tinylora_rl.verl_plugin.sync.policy_message import NamedTensors, Policy, decode, lora_config
from tinylora_rl.verl_plugin.sync.verify import ExpectedReceipt, Verifier
from tinylora_rl.vllm_plugin.prompt_log_probs import prompt_log_probs
from tinylora_rl.vllm_plugin.worker_policy import MergeSettings

EXTENSION = "tinylora_rl.verl_plugin.sync.worker_extension.VerlWorkerExtension"


class TinyLoraHttpServer(vLLMHttpServer):
    """verl's server, with our worker extension and methods that return the workers' answers.

    verl's own `collective_rpc` drops them.
    """

    # Upstream calls it when it starts vLLM, for the class that it mixes into vLLM's worker.
    # We name ours, which is derived from upstream's.
    def _get_worker_extension_cls(self) -> str:
        return EXTENSION

    # Upstream calls it before vLLM sleeps. It takes 2, which drops the weights, unless LoRA is on.
    # Ours is `sync.sleep_level`: 1 keeps them in host memory, so that a sync can bring v alone.
    def _resolve_sleep_level(self) -> int:
        if self.model_config.lora.get("tinylora") is None:
            return super()._resolve_sleep_level()
        return sync_config(self.model_config.lora).sleep_level

    async def policy_receipts(self, *, measure: bool) -> list[dict[str, Any]]:
        """Collects a receipt from every vLLM worker; see `WorkerExtension.policy_receipt`."""
        return await self.engine.collective_rpc("policy_receipt", args=(measure,))

    async def all_have_factors(self) -> bool:
        return all(await self.engine.collective_rpc("has_factors"))

    async def set_factors(self, payload: bytes, settings: dict[str, Any]) -> None:
        await self.engine.collective_rpc("set_factors", args=(payload, settings))

    async def load_vector(self, v: bytes, num_groups: int, policy_version: int | None) -> None:
        await self.engine.collective_rpc("load_vector", args=(v, num_groups, policy_version))

    async def prompt_log_probs(self, token_ids: list[int]) -> list[float]:
        """Computes log-probs of token_ids[1:] under the policy that this engine samples from."""
        from vllm.lora.request import LoRARequest

        lora = None
        if self.lora_as_adapter:
            [number] = await self.engine.list_loras()
            lora = LoRARequest(lora_name=str(number), lora_int_id=number, lora_path="in memory")
        return await prompt_log_probs(self.engine, token_ids, lora)


class TinyLoraReplica(vLLMReplica):
    """verl's replica around our server."""

    # Upstream creates one for each copy of the model, and starts `server_class` as its Ray actor,
    # under a name that begins with the prefix. We put in our server, under our own prefix.

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.server_class = ray.remote(TinyLoraHttpServer)

    def _get_server_name_prefix(self) -> str:
        return f"{ROLLOUT_NAME}_"  # by which the adapter finds its server

    # Upstream calls it for the workers of a standalone rollout, which has no trainer's rank beside
    # it. We put in our worker, which keeps the metrics of its syncs.
    def get_ray_class_with_init_args(self) -> RayClassWithInitArgs:
        ray_class = super().get_ray_class_with_init_args()
        ray_class.cls = ray.remote(StandaloneWorker)
        return ray_class


class StandaloneWorker(CheckpointEngineWorker):
    """verl's receiving end of a sync to a standalone rollout."""

    def sync_metrics(self) -> dict[str, float]:
        """Returns `sync/*` of the latest sync."""
        return self.server_adapter.sync_metrics


@dataclasses.dataclass
class Sync:
    """One sync: its policy, the tensors that were sent so far, and its deadline."""

    policy: Policy
    version: int | None
    deadline: Deadline
    num_tensors: int = 0
    num_bytes: int = 0

    @property
    def has_v(self) -> bool:
        return self.policy.v_GU is not None

    async def counted(self, weights: NamedTensors) -> AsyncIterator[tuple[str, torch.Tensor]]:
        async for name, tensor in weights:
            self.num_tensors += 1
            self.num_bytes += tensor.nbytes
            yield name, tensor

    async def within(self, reference: ray.ObjectRef) -> Any:
        """Waits until the deadline; SyncError then, or where the other process fails."""

        async def resolve() -> Any:
            return await reference

        try:
            return await asyncio.wait_for(resolve(), self.deadline.remaining_s)
        except TimeoutError:
            self.deadline.check()
            raise
        except ray.exceptions.RayError as error:
            raise SyncError(f"{self.deadline.what} failed: {_reason(error)}") from error

    def raise_failure(self, reference: ray.ObjectRef) -> None:
        """Raises if the load ended in an error; else the receiver's answer is coming."""
        try:
            ray.get(reference)
        except ray.exceptions.RayError as error:
            what = self.deadline.what
            raise SyncError(f"{what} failed in the rollout worker: {_reason(error)}") from error


class TinyLoraServerAdapter(ServerAdapter):
    """The sending end, one per trainer rank, or per standalone rollout worker."""

    bank: bytes | None = None  # from the first sync on, on the rank that leads its replica
    sync_metrics: dict[str, float]  # of the latest acknowledged sync
    _verifier: Verifier | None = None

    def needs_bank(self) -> bool:
        """Returns true as long as this rank leads a replica and has no bank."""
        return self._has_server and self.bank is None

    # Upstream calls it on every trainer rank (every standalone worker) in every sync.
    # It streams to the worker beside it and waits without limit; we bound all waits, let one rank
    # of the replica collect the receipts of all its workers, and verify them.
    @torch.no_grad()
    async def update_weights(
        self,
        weights: Any,
        global_steps: int | None = None,
        wire_format: str = "named_tensors",
        **kwargs: Any,
    ) -> None:
        """Syncs the policy to the vLLM workers of this replica, and verifies that they have it.

        Args:
            weights: a stream of `policy_message`; for a baseline the whole weights alone.

        Raises:
            SyncError: a worker failed or did not answer within `sync.deadline_s`, or its receipt or
                its weights are not those of the policy; the message names it.
        """
        assert wire_format == "named_tensors", wire_format
        config = sync_config(self.model_config.lora)
        what = f"the sync of policy version {global_steps} to rollout replica {self.replica_rank}"
        start_s = time.monotonic()
        deadline = Deadline(config.deadline_s, what)
        policy, rest = await decode(weights)
        sync = Sync(policy, global_steps, deadline)
        leads = self._ensure_server_handle()  # one rank speaks for the replica
        server: Any = self.server_handle if leads else None
        if leads and sync.has_v:
            self._take_bank(policy, config)
            await self._give_bank(config, sync)

        if config.mode == "vector" and policy.v_GU is not None:
            async for name, _ in rest:
                raise AssertionError(f"sync.mode=vector sends v alone, not {name}")
            if leads:
                num_groups = len(policy.v_GU)
                await sync.within(
                    server.load_vector.remote(policy.v_bytes, num_groups, global_steps)
                )
        else:
            if config.mode == "factors" and sync.has_v:
                # verl passes these itself where trainer and rollout share GPUs, not elsewhere
                adapter = adapter_config(self.model_config.lora)
                kwargs = {"peft_config": lora_config(adapter), "base_sync_done": True}
            elif sync.has_v:
                kwargs = {"adapted_only": config.sleep_level == 1}
            await self._stream(rest, sync, kwargs)

        metrics: dict[str, float] = {}
        if leads:
            metrics = await self._verify(sync)
            await sync.within(server.clear_kv_cache.remote())
            if global_steps is not None:
                await sync.within(server.set_global_steps.remote(global_steps))
        num_bytes = sync.num_bytes or (policy.v_GU.nbytes if policy.v_GU is not None else 0)
        self.sync_metrics = {
            "sync/num_acknowledgements": 0.0,
            "sync/seconds": time.monotonic() - start_s,
            "sync/bytes": float(num_bytes),
            "sync/num_tensors": float(sync.num_tensors),
            "sync/policy_version": float(-1 if global_steps is None else global_steps),
            **metrics,
        }

    async def _verify(self, sync: Sync) -> dict[str, float]:
        """Checks every worker's receipt and measured rows; returns their `sync/*`."""
        receipts = await sync.within(self.server_handle.policy_receipts.remote(measure=sync.has_v))
        ExpectedReceipt(
            policy_version=sync.version,
            v_digest=sync.policy.v_digest,
            num_tensors=sync.num_tensors or None,
        ).check(receipts)
        metrics = {"sync/num_acknowledgements": float(len(receipts)), **_durations(receipts)}
        if sync.policy.v_GU is not None:
            assert self._verifier is not None
            metrics |= self._verifier.check(receipts, sync.policy.v_GU)
        return metrics

    def _take_bank(self, policy: Policy, config: SyncConfig) -> None:
        """Keeps the bank of the first sync, for workers that restart, and builds the verifier."""
        if policy.bank is None or policy.bank == self.bank:
            return
        self.bank = policy.bank
        base = CheckpointWeights(checkpoint_folder(self.model_config.local_path))
        adapter = adapter_config(self.model_config.lora)
        self._groups = assign_groups(targets_of(base.names(), adapter), adapter)
        self._verifier = Verifier(
            bank_from_bytes(self.bank),
            self._groups,
            base,
            dtype=getattr(torch, config.dtype),
            rounded="factors" if config.mode == "factors" else config.rounding,
            # the trainer merges into its own weights, a vLLM worker into its copy of them
            base_dtype=policy.base_dtype
            if config.mode == "merged"
            else getattr(torch, config.dtype),
        )

    async def _give_bank(self, config: SyncConfig, sync: Sync) -> None:
        if await sync.within(self.server_handle.all_have_factors.remote()):
            return
        assert self.bank is not None, "the first sync brings the bank"
        settings = MergeSettings(
            groups=self._groups,
            rounding=config.rounding,  # type: ignore[arg-type]
            seed=config.seed,
            pristine=config.pristine if config.mode == "vector" else "none",  # type: ignore[arg-type]
        )
        given = self.server_handle.set_factors.remote(self.bank, dataclasses.asdict(settings))
        await sync.within(given)

    async def _stream(self, rest: NamedTensors, sync: Sync, kwargs: dict[str, Any]) -> None:
        """Streams `rest` to the vLLM worker beside this rank, in one call to all of the replica."""
        stated = {"policy_version": sync.version, "v_digest": sync.policy.v_digest}
        loading = await self._execute_method(
            "load_policy", non_block=True, kwargs={**stated, **kwargs, "use_shm": self.use_shm}
        )

        def check() -> None:
            if loading is not None and ray.wait([loading], timeout=0)[0]:
                sync.raise_failure(loading)
            sync.deadline.check()

        sender = DeadlineWeightSender(
            check=check,
            zmq_handle=self.zmq_handle,
            bucket_size_mb=self.config.checkpoint_engine.update_weights_bucket_megabytes,
            use_shm=self.use_shm,
        )
        await sender.async_send_weights(sync.counted(rest))
        if loading is not None:
            await sync.within(loading)


def _durations(receipts: list[dict[str, Any]]) -> dict[str, float]:
    """Takes the slowest worker's seconds, and `sync/survival` where the workers merged."""
    metrics = {
        f"sync/{key}": max(float(receipt[key]) for receipt in receipts)
        for key in ("merge_s", "pack_s")
        if all(key in receipt for receipt in receipts)
    }
    total = sum(receipt.get("survival_total", 0.0) for receipt in receipts)
    if total > 0:
        kept = sum(receipt.get("survival_kept", 0.0) for receipt in receipts)
        metrics["sync/survival"] = kept / total
    return metrics


def _reason(error: Exception) -> str:
    """Takes the last line of another process's error: type and message, no traceback."""
    return str(error).strip().splitlines()[-1].strip()


_ROLLOUT_REGISTRY[ROLLOUT_NAME, "async"] = f"{__name__}.{TinyLoraServerAdapter.__name__}"
RolloutReplicaRegistry.register(ROLLOUT_NAME, lambda: TinyLoraReplica)
