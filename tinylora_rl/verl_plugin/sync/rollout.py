"""The rollout `vllm_tinylora`: verl's vLLM rollout, whose workers acknowledge every sync.

Two ends: `TinyLoraServerAdapter` sits in the trainer's worker and sends; `TinyLoraHttpServer` is
the Ray actor around the vLLM engine. Importing this module registers both.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Generator, Iterator
from typing import Any

import ray
import torch
from verl.workers.rollout.base import _ROLLOUT_REGISTRY
from verl.workers.rollout.replica import RolloutReplicaRegistry
from verl.workers.rollout.vllm_rollout.vllm_async_server import vLLMHttpServer, vLLMReplica
from verl.workers.rollout.vllm_rollout.vllm_rollout import ServerAdapter

from tinylora_rl.verl_plugin.settings import ROLLOUT_NAME, sync_config
from tinylora_rl.verl_plugin.sync.checksum import StreamChecksum
from tinylora_rl.verl_plugin.sync.deadline import Deadline, DeadlineWeightSender, SyncError

EXTENSION = "tinylora_rl.verl_plugin.sync.worker_extension.TinyLoraWorkerExtension"


class TinyLoraHttpServer(vLLMHttpServer):
    """verl's server with our worker extension, and with a way to hear what the workers answer."""

    def _get_worker_extension_cls(self) -> str:
        return EXTENSION

    async def policy_receipts(self) -> list[dict[str, Any]]:
        """One receipt per vLLM worker here (verl's `collective_rpc` drops the answers)."""
        return await self.engine.collective_rpc("policy_receipt")


class TinyLoraReplica(vLLMReplica):
    """verl's replica around our server."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.server_class = ray.remote(TinyLoraHttpServer)

    def _get_server_name_prefix(self) -> str:
        return f"{ROLLOUT_NAME}_"  # by which the adapter finds its server


class TinyLoraServerAdapter(ServerAdapter):
    """The sending end, one per trainer rank.

    Attributes:
        sync_metrics: `sync/*` of the latest acknowledged sync.
    """

    sync_metrics: dict[str, float]

    @torch.no_grad()
    async def update_weights(
        self,
        weights: Generator[tuple[str, torch.Tensor], None, None],
        global_steps: int | None = None,
        wire_format: str = "named_tensors",
        **kwargs: Any,
    ) -> None:
        """Every vLLM worker of this replica holds `weights` as policy version `global_steps`, and
        said so.

        Raises:
            SyncError: a worker failed, stayed silent beyond `sync.deadline_s`, or holds another
                version or checksum than was sent; the message names it.
        """
        assert wire_format == "named_tensors", wire_format
        config = sync_config(self.model_config.lora)
        what = f"the sync of policy version {global_steps} to rollout replica {self.replica_rank}"
        start_s = time.monotonic()
        deadline = Deadline(config.deadline_s, what)
        sent = StreamChecksum()

        loading = await self._execute_method(
            "load_policy",
            non_block=True,
            kwargs={"policy_version": global_steps, **kwargs, "use_shm": self.use_shm},
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
        await sender.async_send_weights(_counted(weights, sent))
        receipts: list[dict[str, Any]] = []
        if loading is not None:  # this rank speaks for the replica
            await _within(loading, deadline, what)
            receipts = await _within(self.server_handle.policy_receipts.remote(), deadline, what)
            check_receipts(receipts, global_steps, sent.hexdigest())
            await _within(self.server_handle.clear_kv_cache.remote(), deadline, what)
            if global_steps is not None:
                await _within(
                    self.server_handle.set_global_steps.remote(global_steps), deadline, what
                )
        self.sync_metrics = {
            "sync/num_acknowledgements": float(len(receipts)),
            "sync/seconds": time.monotonic() - start_s,
            "sync/bytes": float(sent.num_bytes),
            "sync/num_tensors": float(sent.num_tensors),
            "sync/policy_version": float(-1 if global_steps is None else global_steps),
        }


def check_receipts(
    receipts: list[dict[str, Any]], policy_version: int | None, checksum: str
) -> None:
    """Every receipt is for this version and checksum.

    Raises:
        SyncError: one is not; the message names the worker and both sides.
    """
    if not receipts:
        raise SyncError(f"no rollout worker acknowledged policy version {policy_version}")
    for receipt in receipts:
        held = (receipt["policy_version"], receipt["checksum"])
        if held != (policy_version, checksum):
            raise SyncError(
                f"rollout worker {receipt['worker']} holds policy version {held[0]} with checksum "
                f"{held[1]}, "
                f"the trainer sent version {policy_version} with checksum {checksum}"
            )


def _counted(
    weights: Generator[tuple[str, torch.Tensor], None, None], checksum: StreamChecksum
) -> Iterator[tuple[str, torch.Tensor]]:
    for name, tensor in weights:
        checksum.add(name, tensor)
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
