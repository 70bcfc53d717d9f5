"""Builds the adapter once and injects the same one on all ranks."""

from __future__ import annotations

import dataclasses
import logging
from typing import Any

import torch
import torch.distributed as dist
from verl.utils.device import get_device_id, get_device_name

from tinylora_rl.adapter import (
    Adapter,
    Bank,
    CheckpointWeights,
    empty_bank,
    find_targets,
    inject,
    load_or_build,
)
from tinylora_rl.base_model import checkpoint_folder
from tinylora_rl.settings.in_workers import adapter_config, bank_cache_dir

logger = logging.getLogger(__name__)


def inject_on_all_ranks(module: torch.nn.Module, model_config: Any) -> Adapter:
    """Decomposes the checkpoint's weights on rank 0, or reads the cache; others receive.

    The checkpoint stands for the base, not the module: its digest does not depend on the dtype
    that this run computes in, and only rank 0 needs whole weights. `module` is changed in place.
    """
    config = adapter_config(model_config.lora)
    targets = find_targets(module, config)
    device = torch.device("cpu" if get_device_name() == "cpu" else get_device_id())
    base = None
    if dist.get_rank() == 0:
        base = CheckpointWeights(checkpoint_folder(model_config.local_path))
        bank = load_or_build(
            base,
            targets,
            config,
            cache_dir=bank_cache_dir(model_config.lora),
            device=device,
            progress=_log_progress,
        )
    else:
        bank = empty_bank(module, targets, config, device)
    adapter = inject(module, config, bank=_broadcast(bank), base=base)
    if base is not None:
        logger.warning(
            "TinyLoRA: %d trained numbers in %d groups over %d modules; %s",
            adapter.v.numel(),
            adapter.v.shape[0],
            len(targets),
            config,
        )
    return adapter


def _log_progress(num_done: int, num_modules: int) -> None:
    if num_done % 28 == 0 or num_done == num_modules:
        logger.warning("TinyLoRA: decomposed %d of %d modules", num_done, num_modules)


def _broadcast(bank: Bank) -> Bank:
    """Sends rank 0's factors to every rank, bit for bit."""
    if dist.get_world_size() == 1:
        return bank
    for factors in bank.values():
        for tensor in (factors.left_OR, factors.right_RI, factors.P_URR):
            dist.broadcast(tensor, src=0)
    norms = [{name: factors.weight_norm for name, factors in bank.items()}]
    dist.broadcast_object_list(norms, src=0)
    return {
        name: dataclasses.replace(factors, weight_norm=norms[0][name])
        for name, factors in bank.items()
    }
