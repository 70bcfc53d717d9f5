"""A bank on its way to another process: kilobytes to megabytes, once per run and worker."""

from __future__ import annotations

import json

import safetensors.torch

from tinylora_rl.adapter.bank import Bank
from tinylora_rl.adapter.delta import Factors

_FIELDS = ("left_OR", "right_RI", "P_URR")
_MODULES = "modules"


def bank_to_bytes(bank: Bank) -> bytes:
    """safetensors; the names and norms of the modules are metadata, in the bank's order."""
    tensors = {
        f"{index}.{field}": getattr(factors, field).cpu().contiguous()
        for index, factors in enumerate(bank.values())
        for field in _FIELDS
    }
    modules = [[name, factors.weight_norm] for name, factors in bank.items()]
    return safetensors.torch.save(tensors, metadata={_MODULES: json.dumps(modules)})


def bank_from_bytes(payload: bytes) -> Bank:
    """The bank that was sent, bit for bit, on the CPU."""
    tensors = safetensors.torch.load(payload)
    header_bytes = int.from_bytes(payload[:8], "little")
    header = json.loads(payload[8 : 8 + header_bytes])
    modules = json.loads(header["__metadata__"][_MODULES])
    return {
        name: Factors(
            **{field: tensors[f"{index}.{field}"] for field in _FIELDS}, weight_norm=weight_norm
        )
        for index, (name, weight_norm) in enumerate(modules)
    }
