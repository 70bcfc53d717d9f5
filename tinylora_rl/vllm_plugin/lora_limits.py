"""vLLM's limits on LoRA adapters, and the options that reserve slots for them.

A slot is memory on the device for one adapter of a batch: r (I + O) numbers a linear, of the rank
that all slots share.
"""

from __future__ import annotations

from typing import Any

LORA_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
"""The ranks that slots can have (vllm.config.lora.MaxLoRARanks); vLLM pads smaller adapters."""


def slot_rank(rank: int) -> int:
    """Returns the smallest rank of slots that takes an adapter of `rank`.

    Raises:
        ValueError: there is none.
    """
    if rank > LORA_RANKS[-1]:
        raise ValueError(f"r={rank}: vLLM serves LoRA up to rank {LORA_RANKS[-1]}")
    return next(size for size in LORA_RANKS if size >= rank)


def lora_options(*, rank: int, slots: int, known: int) -> dict[str, Any]:
    """Returns vLLM's engine options for adapters as LoRA requests.

    Args:
        rank: of the slots; one of `LORA_RANKS`.
        slots: different adapters in one batch.
        known: adapters kept outside the slots, in the workers' host memory.
    """
    return {"enable_lora": True, "max_lora_rank": rank, "max_loras": slots, "max_cpu_loras": known}


def slot_rank_in(options: Any) -> int:
    """Returns the rank of the slots from vLLM's parsed arguments, or from its LoRAConfig."""
    return int(options.max_lora_rank)
