"""Broadcasts v to a rollout on other GPUs or nodes, in one write: a checkpoint engine for verl.

A policy is some bytes (with the bank, once, some megabytes): rank 0 of the trainer puts them into a
`torch.distributed.TCPStore` that it serves, and every rollout worker reads them from there. Chosen
by `rollout.checkpoint_engine.backend: tinylora`, this module as `custom_backend_module`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import ray
import safetensors.torch
import torch
from torch.distributed import TCPStore
from verl.checkpoint_engine.base import CheckpointEngine, CheckpointEngineRegistry
from verl.workers.rollout.utils import ensure_async_iterator

from tinylora_rl.verl_plugin.sync.policy_message import BANK

BACKEND = "tinylora"
MAX_BYTES = 1 << 30  # of a policy; whole models belong to verl's own engines
PIECE_BYTES = 4 << 20  # the store refuses values of more than 8 MiB


@dataclasses.dataclass(frozen=True)
class Metadata:
    """A worker's answer to `prepare`: the sender fills in address and turn, the others the rest."""

    address: tuple[str, int] | None = None
    turn: int = 0
    needs_bank: bool = False


@CheckpointEngineRegistry.register(BACKEND)
class BroadcastEngine(CheckpointEngine):
    """One end of the broadcast; rank 0 of the trainer is master. verl's `bucket_size` is unused."""

    def __init__(
        self, bucket_size: int, is_master: bool = False, deadline_s: float = 600.0
    ) -> None:
        self.is_master = is_master
        self._deadline = timedelta(seconds=deadline_s)
        self._store: TCPStore | None = None
        self._host = ""
        self._has_bank = False
        self._sends_bank = False
        self._turn = 0
        self._num_pieces: dict[int, int] = {}

    # Upstream's CheckpointEngineManager runs each sync as: `prepare` on all workers,
    # `build_topology` on the driver, `init_process_group` on all, `send_weights` and
    # `receive_weights`, `finalize`. Here the topology is one address, without a process group.

    def prepare(self) -> Metadata:
        if not self.is_master:
            return Metadata(needs_bank=not self._has_bank)
        if self._store is None:
            self._host = ray.util.get_node_ip_address().strip("[]")
            self._store = TCPStore(
                self._host, 0, is_master=True, wait_for_workers=False, timeout=self._deadline
            )
        return Metadata(address=(self._host, self._store.port), turn=self._turn + 1)

    @classmethod
    def build_topology(
        cls, actor_wg_world_size: int, rollout_world_size: int, metadata: list[Metadata]
    ) -> tuple[dict[str, list[Any]], dict[str, list[Any]]]:
        """Passes the address to all, and to the sender if a worker needs the bank."""
        address, turn = metadata[0].address, metadata[0].turn
        sends_bank = any(worker.needs_bank for worker in metadata[actor_wg_world_size:])
        return tuple(  # type: ignore[return-value]
            {"address": [address] * size, "turn": [turn] * size, "sends_bank": [sends_bank] * size}
            for size in (actor_wg_world_size, rollout_world_size)
        )

    def init_process_group(self, address: tuple[str, int], turn: int, sends_bank: bool) -> None:
        self._turn, self._sends_bank = turn, sends_bank
        if self._store is None:
            self._store = TCPStore(*address, is_master=False, timeout=self._deadline)

    def finalize(self) -> None:
        """Frees nothing: the store lives as long as the run; a policy replaces the one before."""

    async def send_weights(self, weights: Any, global_steps: int | None = None) -> dict[str, float]:
        """Publishes the stream from rank 0; the other ranks take part in gathering its tensors."""
        tensors = {
            name: tensor.cpu().contiguous()
            async for name, tensor in ensure_async_iterator(weights)
            if name != BANK or self._sends_bank
        }
        if not self.is_master:
            return {}
        num_bytes = sum(tensor.nbytes for tensor in tensors.values())
        if num_bytes > MAX_BYTES:
            raise ValueError(
                f"checkpoint_engine.backend={BACKEND}: {num_bytes} bytes of policy; use "
                "sync=vector or sync=factors, or backend=nccl"
            )
        assert self._store is not None
        payload = safetensors.torch.save(tensors)
        pieces = range(0, len(payload), PIECE_BYTES)
        for index, start in enumerate(pieces):
            piece = payload[start : start + PIECE_BYTES]
            self._store.set(f"policy/{self._turn}/{index}", piece)  # type: ignore[arg-type]
        self._store.set(f"policy/{self._turn}", str(len(pieces)))
        self._num_pieces[self._turn] = len(pieces)
        self._forget(self._turn - 2)  # all have read it: they acknowledged it
        return {"sync/broadcast_bytes": float(num_bytes)}

    async def receive_weights(
        self, global_steps: int | None = None
    ) -> AsyncIterator[tuple[str, torch.Tensor]]:  # type: ignore[override]
        """Yields the tensors that rank 0 publishes for this sync."""
        assert self._store is not None
        num_pieces = int(self._store.get(f"policy/{self._turn}"))
        payload = b"".join(
            self._store.get(f"policy/{self._turn}/{index}") for index in range(num_pieces)
        )
        tensors = safetensors.torch.load(payload)
        self._has_bank |= BANK in tensors
        # the header comes first, as it was sent; safetensors orders by name within a dtype
        for name in sorted(tensors, key=lambda name: not name.startswith("tinylora.")):
            yield name, tensors[name]

    def _forget(self, turn: int) -> None:
        assert self._store is not None
        for index in range(self._num_pieces.pop(turn, 0)):
            self._store.delete_key(f"policy/{turn}/{index}")
        self._store.delete_key(f"policy/{turn}")
