"""Finds a Hugging Face weight in a vLLM worker: fused with others, cut over tensor ranks.

vLLM has q, k, v in one parameter and gate, up in another; a tensor-parallel worker has some heads'
rows of those, and some columns of o and down. Key and value heads are replicated where there are
fewer of them than workers.

Legend: O out, I in, of the whole weight; o, i of this worker's shard.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Any

import torch
from torch import nn


@dataclasses.dataclass(frozen=True)
class Shard:
    """This worker's part of one adapted weight.

    Attributes:
        weight_name: the whole weight's Hugging Face name.
        layer: vLLM's linear, whose parameter `weight` contains the shard; without LoRA around it.
        lora: the LoRA layer around it, if there is one, and the shard's index among its parts.
        local_rows: the shard's rows in that parameter.
        rows, columns: the shard's place in the whole weight.
    """

    weight_name: str
    layer: nn.Module
    lora: tuple[nn.Module, int] | None
    local_rows: slice
    rows: slice
    columns: slice

    @property
    def weight_oi(self) -> torch.Tensor:
        """Returns the shard itself, a view."""
        weight: Any = self.layer.weight
        return weight.data[self.local_rows]


def find_shards(model: nn.Module, module_names: Iterable[str]) -> dict[str, Shard]:
    """Returns {module name: its shard} in this worker's `model`.

    Args:
        module_names: Hugging Face names of linears, "model.layers.0.self_attn.q_proj".

    Raises:
        ValueError: the model has no such linear, or one of a kind that cannot be re-merged
            (quantised, mixture of experts).
    """
    modules = dict(model.named_modules())
    packed = {
        part: (fused, slot)
        for fused, parts in (getattr(model, "packed_modules_mapping", None) or {}).items()
        for slot, part in enumerate(parts)
    }
    shards = {}
    for name in module_names:
        parent, _, type_ = name.rpartition(".")
        fused, slot = packed.get(type_, (type_, 0))
        path = f"{parent}.{fused}"
        if path not in modules and name in modules:
            path, slot = name, 0  # an architecture that does not fuse this one
        if path not in modules:
            raise ValueError(
                f"{name}: vLLM's {type(model).__name__} has no {path}; its weights cannot be "
                "verified, so this architecture is not supported"
            )
        shards[name] = _shard(name, modules[path], slot)
    return shards


def _shard(name: str, module: nn.Module, slot: int) -> Shard:
    # row order and sizes as in these classes' weight_loader, vllm/model_executor/layers/linear.py
    from vllm.model_executor.layers.linear import (
        ColumnParallelLinear,
        QKVParallelLinear,
        ReplicatedLinear,
        RowParallelLinear,
        UnquantizedLinearMethod,
    )

    layer: Any = getattr(module, "base_layer", module)
    lora = (module, slot) if layer is not module else None
    if not isinstance(getattr(layer, "quant_method", None), UnquantizedLinearMethod):
        raise ValueError(
            f"{name}: vLLM has it as {type(layer).__name__}, quantised or not a plain linear; "
            "use an unquantised rollout"
        )
    num_in = layer.weight.shape[1]
    start_local, num_out = 0, layer.weight.shape[0]
    start, start_in = 0, 0
    if isinstance(layer, ColumnParallelLinear):
        sizes = layer.output_partition_sizes
        start_local, num_out = sum(sizes[:slot]), sizes[slot]
        replicas = 1
        if isinstance(layer, QKVParallelLinear) and slot > 0:
            replicas = layer.num_kv_head_replicas
        start = layer.tp_rank // replicas * num_out
    elif isinstance(layer, RowParallelLinear):
        start_in = layer.tp_rank * num_in
    elif not isinstance(layer, ReplicatedLinear):
        raise ValueError(f"{name}: vLLM's {type(layer).__name__} cannot be re-merged")
    return Shard(
        weight_name=f"{name}.weight",
        layer=layer,
        lora=lora,
        local_rows=slice(start_local, start_local + num_out),
        rows=slice(start, start + num_out),
        columns=slice(start_in, start_in + num_in),
    )
