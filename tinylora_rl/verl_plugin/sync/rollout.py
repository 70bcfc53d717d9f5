"""The rollout `vllm_tinylora`: verl's vLLM rollout, whose workers acknowledge every sync.

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
from tinylora_rl.adapter.bank_bytes import bank_from_bytes
from tinylora_rl.adapter.tying import assign_groups
from tinylora_rl.base_model import checkpoint_folder
from tinylora_rl.verl_plugin.settings import (
    ROLLOUT_NAME,
    SyncConfig,
    adapter_config,
    sync_config,
)
from tinylora_rl.verl_plugin.sync.deadline import Deadline, DeadlineWeightSender, SyncError
from tinylora_rl.verl_plugin.sync.policy_message import NamedTensors, Policy, lora_config, split
from tinylora_rl.verl_plugin.sync.verify import ExpectedReceipt, Verifier
from tinylora_rl.vllm_plugin.prompt_log_probs import prompt_log_probs
from tinylora_rl.vllm_plugin.worker_policy import MergeSettings

EXTENSION = "tinylora_rl.verl_plugin.sync.worker_extension.VerlWorkerExtension"


class TinyLoraHttpServer(vLLMHttpServer):
    """verl's server with our worker extension, and with a way to hear what the workers answer."""

    def _get_worker_extension_cls(self) -> str:
        return EXTENSION

    def _resolve_sleep_level(self) -> int:
        # 1 keeps the weights in host memory: what a sync of a few numbers starts from. 2 drops
        # them, and every sync must bring all.
        if self.model_config.lora.get("tinylora") is None:
            return super()._resolve_sleep_level()
        return sync_config(self.model_config.lora).sleep_level

    async def policy_receipts(self) -> list[dict[str, Any]]:
        """One receipt per vLLM worker here (verl's `collective_rpc` drops the answers)."""
        return await self.engine.collective_rpc("policy_receipt")

    async def all_have_factors(self) -> bool:
        return all(await self.engine.collective_rpc("has_factors"))

    async def set_factors(self, payload: bytes, settings: dict[str, Any]) -> None:
        await self.engine.collective_rpc("set_factors", args=(payload, settings))

    async def load_vector(self, v: bytes, num_groups: int, policy_version: int | None) -> None:
        await self.engine.collective_rpc("load_vector", args=(v, num_groups, policy_version))

    async def prompt_log_probs(self, token_ids: list[int]) -> list[float]:
        """Log-probs of token_ids[1:] under the policy that this engine samples from now."""
        from vllm.lora.request import LoRARequest

        lora = None
        if self.lora_as_adapter:
            [held] = await self.engine.list_loras()
            lora = LoRARequest(lora_name=str(held), lora_int_id=held, lora_path="in memory")
        return await prompt_log_probs(self.engine, token_ids, lora)


class TinyLoraReplica(vLLMReplica):
    """verl's replica around our server."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.server_class = ray.remote(TinyLoraHttpServer)

    def _get_server_name_prefix(self) -> str:
        return f"{ROLLOUT_NAME}_"  # by which the adapter finds its server

    def get_ray_class_with_init_args(self) -> RayClassWithInitArgs:
        """Of the worker beside a standalone rollout, which has no trainer's rank beside it."""
        wanted = super().get_ray_class_with_init_args()
        wanted.cls = ray.remote(StandaloneWorker)
        return wanted


class StandaloneWorker(CheckpointEngineWorker):
    """verl's receiving end of a sync to a standalone rollout, which tells what it did."""

    def sync_metrics(self) -> dict[str, float]:
        """`sync/*` of the latest sync."""
        return self.server_adapter.sync_metrics


@dataclasses.dataclass
class StreamCount:
    """Counts the tensors of one sync as they are sent."""

    num_tensors: int = 0
    num_bytes: int = 0


class TinyLoraServerAdapter(ServerAdapter):
    """The sending end, one per trainer rank, or per standalone rollout worker.

    Attributes:
        bank: the bank's bytes, from the first sync on; whoever feeds this asks whether it is here.
        sync_metrics: `sync/*` of the latest acknowledged sync.
    """

    bank: bytes | None = None
    sync_metrics: dict[str, float]
    _verifier: Verifier | None = None

    @torch.no_grad()
    async def update_weights(
        self,
        weights: Any,
        global_steps: int | None = None,
        wire_format: str = "named_tensors",
        **kwargs: Any,
    ) -> None:
        """Every vLLM worker of this replica holds policy version `global_steps`, said so, and its
        weights say so.

        Args:
            weights: a stream as `wire` describes it; of a policy that is no TinyLoRA adapter, the
                whole weights alone.

        Raises:
            SyncError: a worker failed, stayed silent beyond `sync.deadline_s`, claims another
                policy than was sent, or holds other weights than it claims; the message names it.
        """
        assert wire_format == "named_tensors", wire_format
        config = sync_config(self.model_config.lora)
        what = f"the sync of policy version {global_steps} to rollout replica {self.replica_rank}"
        start_s = time.monotonic()
        deadline = Deadline(config.deadline_s, what)
        policy, rest = await split(weights)
        self._keep_bank(policy, config)
        leads = self._ensure_server_handle()  # one rank speaks for the replica
        if leads and policy.v_GU is not None:
            await self._give_bank(config, deadline, what)

        sent = StreamCount()
        if config.mode == "vector" and policy.v_GU is not None:
            async for name, _ in rest:
                raise AssertionError(f"sync.mode=vector sends v alone, not {name}")
            if leads:
                held = self.server_handle.load_vector.remote(
                    policy.v_bytes, len(policy.v_GU), global_steps
                )
                await _within(held, deadline, what)
        else:
            if config.mode == "factors" and policy.v_GU is not None:
                # verl says so itself where trainer and rollout share GPUs, and not elsewhere
                adapter = adapter_config(self.model_config.lora)
                kwargs = {"peft_config": lora_config(adapter), "base_sync_done": True}
            elif policy.v_GU is not None:
                kwargs = {"adapted_only": config.sleep_level == 1}
            await self._stream(rest, sent, policy, global_steps, deadline, what, kwargs)

        receipts: list[dict[str, Any]] = []
        measured: dict[str, float] = {}
        if leads:
            receipts = await _within(self.server_handle.policy_receipts.remote(), deadline, what)
            ExpectedReceipt(
                policy_version=global_steps,
                v_digest=policy.v_digest,
                num_tensors=sent.num_tensors or None,
            ).check(receipts)
            if policy.v_GU is not None:
                assert self._verifier is not None
                measured = self._verifier.check(receipts, policy.v_GU)
            measured |= _spent(receipts)
            await _within(self.server_handle.clear_kv_cache.remote(), deadline, what)
            if global_steps is not None:
                await _within(
                    self.server_handle.set_global_steps.remote(global_steps), deadline, what
                )
        num_bytes = sent.num_bytes or (policy.v_GU.nbytes if policy.v_GU is not None else 0)
        self.sync_metrics = {
            "sync/num_acknowledgements": float(len(receipts)),
            "sync/seconds": time.monotonic() - start_s,
            "sync/bytes": float(num_bytes),
            "sync/num_tensors": float(sent.num_tensors),
            "sync/policy_version": float(-1 if global_steps is None else global_steps),
            **measured,
        }

    def _keep_bank(self, policy: Policy, config: SyncConfig) -> None:
        """The bank of the first sync stays here, for workers that come back without theirs."""
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
            # the trainer merges into its own weights, a vLLM worker into those that it holds
            base_dtype=policy.base_dtype
            if config.mode == "merged"
            else getattr(torch, config.dtype),
        )

    async def _give_bank(self, config: SyncConfig, deadline: Deadline, what: str) -> None:
        if await _within(self.server_handle.all_have_factors.remote(), deadline, what):
            return
        assert self.bank is not None, "the first sync brings the bank"
        settings = MergeSettings(
            groups=self._groups,
            rounding=config.rounding,  # type: ignore[arg-type]
            seed=config.seed,
            pristine=config.pristine if config.mode == "vector" else "none",  # type: ignore[arg-type]
        )
        given = self.server_handle.set_factors.remote(self.bank, dataclasses.asdict(settings))
        await _within(given, deadline, what)

    async def _stream(
        self,
        rest: NamedTensors,
        sent: StreamCount,
        policy: Policy,
        policy_version: int | None,
        deadline: Deadline,
        what: str,
        kwargs: dict[str, Any],
    ) -> None:
        """`rest` is loaded by this rank's vLLM worker, which takes part in the replica's call."""
        loading = await self._execute_method(
            "load_policy",
            non_block=True,
            kwargs={
                "policy_version": policy_version,
                "v_digest": policy.v_digest,
                **kwargs,
                "use_shm": self.use_shm,
            },
        )

        def check() -> None:
            if loading is not None and ray.wait([loading], timeout=0)[0]:
                _raise_failure(loading, what)
            deadline.check()

        sender = DeadlineWeightSender(
            check=check,
            zmq_handle=self.zmq_handle,
            bucket_size_mb=self.config.checkpoint_engine.update_weights_bucket_megabytes,
            use_shm=self.use_shm,
        )
        await sender.async_send_weights(_counted(rest, sent))
        if loading is not None:
            await _within(loading, deadline, what)


def _spent(receipts: list[dict[str, Any]]) -> dict[str, float]:
    """Seconds of the slowest worker, and what rounding left where the workers merged."""
    spent = {
        f"sync/{key}": max(float(receipt[key]) for receipt in receipts)
        for key in ("merge_s", "pack_s")
        if all(key in receipt for receipt in receipts)
    }
    total = sum(receipt.get("survival_total", 0.0) for receipt in receipts)
    if total > 0:
        kept = sum(receipt.get("survival_kept", 0.0) for receipt in receipts)
        spent["sync/survival"] = kept / total
    return spent


async def _counted(
    weights: NamedTensors, sent: StreamCount
) -> AsyncIterator[tuple[str, torch.Tensor]]:
    async for name, tensor in weights:
        sent.num_tensors += 1
        sent.num_bytes += tensor.nbytes
        yield name, tensor


async def _within(reference: ray.ObjectRef, deadline: Deadline, what: str) -> Any:
    async def resolve() -> Any:
        return await reference

    try:
        return await asyncio.wait_for(resolve(), deadline.remaining_s)
    except TimeoutError:
        deadline.check()
        raise
    except ray.exceptions.RayError as error:
        raise SyncError(f"{what} failed: {_reason(error)}") from error


def _raise_failure(reference: ray.ObjectRef, what: str) -> None:
    """If the load ended in an error, raise it; if it ended well, its answer is on the way."""
    try:
        ray.get(reference)
    except ray.exceptions.RayError as error:
        raise SyncError(f"{what} failed in the rollout worker: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    """The last line of an error from another process: type and message, no traceback."""
    return str(error).strip().splitlines()[-1].strip()


_ROLLOUT_REGISTRY[ROLLOUT_NAME, "async"] = f"{__name__}.{TinyLoraServerAdapter.__name__}"
RolloutReplicaRegistry.register(ROLLOUT_NAME, lambda: TinyLoraReplica)
