"""Encodes a policy as a stream of named tensors, the same for all sync modes and placements.

First the header: v, and the bank where the other end has none yet. Then, depending on the mode,
nothing (`vector`), the merged weights (`merged`), or LoRA factors (`factors`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncIterator, Iterable, Iterator
from typing import Any

import torch
from verl.workers.rollout.utils import ensure_async_iterator

from tinylora_rl.adapter import TinyLoraConfig, Update
from tinylora_rl.adapter.digests import vector_digest

# no weight of a model has such a name: verl streams both kinds through one channel
VECTOR = "tinylora.v"
BANK = "tinylora.bank"
BASE = "tinylora.base"  # empty, of the trainer's dtype for base weights
_HEADER = (VECTOR, BANK, BASE)

NamedTensors = AsyncIterator[tuple[str, torch.Tensor]]


@dataclasses.dataclass(frozen=True)
class Policy:
    """The header of a stream, decoded."""

    v_GU: torch.Tensor | None  # as it acts, fp32, on the CPU; None for a baseline
    bank: bytes | None  # if it came along
    base_dtype: torch.dtype | None  # of the weights that the trainer adds the update to

    @property
    def v_bytes(self) -> bytes:
        assert self.v_GU is not None
        return self.v_GU.contiguous().numpy().tobytes()

    @property
    def v_digest(self) -> str | None:
        return None if self.v_GU is None else vector_digest(self.v_bytes)


def encode(
    update: Update, bank: bytes | None, base_dtype: torch.dtype
) -> Iterator[tuple[str, torch.Tensor]]:
    """Yields the header, with which every stream begins."""
    yield VECTOR, update.acting_v.cpu()
    yield BASE, torch.empty(0, dtype=base_dtype)
    if bank is not None:
        yield BANK, torch.frombuffer(bytearray(bank), dtype=torch.uint8)


def lora_tensors(update: Update, dtype: torch.dtype) -> Iterator[tuple[str, torch.Tensor]]:
    """Yields dW(v) of every module as the LoRA tensors that PEFT saves and vLLM reads."""
    for name, (A_RI, B_OR) in update.lora_factors().items():
        yield f"base_model.model.{name}.lora_A.weight", A_RI.to(dtype).contiguous()
        yield f"base_model.model.{name}.lora_B.weight", B_OR.to(dtype).contiguous()


def lora_config(config: TinyLoraConfig) -> dict[str, Any]:
    """Builds the PEFT configuration of those tensors; scaling alpha / r is 1."""
    return {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "r": config.r,
        "lora_alpha": config.r,
        "target_modules": list(config.target_modules),
        "lora_dropout": 0.0,
        "bias": "none",
    }


async def decode(weights: Iterable[Any] | AsyncIterator[Any]) -> tuple[Policy, NamedTensors]:
    """Reads the header of a stream; returns it and the rest, which is not read yet."""
    stream = ensure_async_iterator(weights)
    found: dict[str, torch.Tensor] = {}
    first: list[tuple[str, torch.Tensor]] = []
    async for name, tensor in stream:
        if name not in _HEADER:
            first.append((name, tensor))
            break
        # a checkpoint engine yields views of a buffer that it uses again
        found[name] = tensor.to("cpu", copy=True)
    bank, base = found.get(BANK), found.get(BASE)
    policy = Policy(
        v_GU=found.get(VECTOR),
        bank=None if bank is None else bank.numpy().tobytes(),
        base_dtype=None if base is None else base.dtype,
    )

    async def rest() -> NamedTensors:
        for item in first:
            yield item
        first.clear()  # the tensor must not outlive its turn
        async for item in stream:
            yield item

    return policy, rest()
