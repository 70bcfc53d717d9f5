"""The adapter as a PEFT LoRA: rank-r factors with B @ A == dW, for PEFT and vLLM.

Legend: O out, I in, R rank.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import nn

from tinylora_rl.adapter import Weights
from tinylora_rl.artifact.stored import StoredAdapter, opened
from tinylora_rl.atomic import new_directory, write_json
from tinylora_rl.base_model.folder import open_weights

PEFT_CONFIG = "adapter_config.json"
PEFT_WEIGHTS = "adapter_model.safetensors"
FACTOR_DTYPES = (torch.float32, torch.bfloat16)


def export_peft_lora(
    adapter: StoredAdapter | str | Path,
    out: str | Path,
    *,
    model: nn.Module | Weights | str | Path,
    rank: int | None = None,
    dtype: torch.dtype = torch.float32,
    base_model: str | None = None,
    cache_dir: str | Path | None = None,
) -> Path:
    """Writes `adapter`, or the one in that directory, to `out` as a PEFT LoRA of scaling 1.

    vLLM serves it with `--enable-lora`, whose `max_lora_rank` must be at least the rank; it takes
    a smaller one as it is, so no padding is needed there.

    Args:
        model: the base or its weights, which are only read; or its folder or id on the Hub, of
            which one weight at a time is in memory.
        rank: pad the factors with zeros to this rank; None leaves the adapter's r.
        dtype: float32, or bfloat16 for half the bytes and 0.24 % of error.
        base_model: what to call the base model; None takes the manifest's name.
        cache_dir: of banks; see `load_or_build`.

    Raises:
        ValueError: `rank` is below r, `dtype` is another, `out` exists; or see `update`.
    """
    if dtype not in FACTOR_DTYPES:
        raise ValueError(f"dtype={dtype}: choose from float32, bfloat16")
    stored = opened(adapter)
    source = open_weights(model) if isinstance(model, str | Path) else model
    update = stored.update(source, cache_dir=cache_dir)
    r = update.config.r
    rank = r if rank is None else rank
    if rank < r:
        raise ValueError(f"rank={rank}: the adapter has r={r}; use {r} or more")
    tensors = {}
    for name, (A_RI, B_OR) in update.lora_factors().items():
        prefix = f"base_model.model.{name}"
        tensors[f"{prefix}.lora_A.weight"] = _padded(A_RI, dim=0, size=rank).to(dtype).cpu()
        tensors[f"{prefix}.lora_B.weight"] = _padded(B_OR, dim=1, size=rank).to(dtype).cpu()
    config = {
        **peft_base(stored, base_model),
        "peft_type": "LORA",
        "r": rank,
        "lora_alpha": rank,  # scaling is lora_alpha / r
        "lora_dropout": 0.0,
        "target_modules": list(update.config.target_modules),
    }
    return write_peft(out, tensors, config)


def write_peft(out: str | Path, tensors: dict[str, torch.Tensor], config: dict[str, Any]) -> Path:
    """Writes PEFT's two files to the new folder `out`."""
    with new_directory(Path(out)) as fresh:
        save_file(tensors, str(fresh / PEFT_WEIGHTS), metadata={"format": "pt"})
        (fresh / PEFT_WEIGHTS).chmod(0o644)  # safetensors writes 0600
        write_json(fresh / PEFT_CONFIG, config)
    return Path(out)


def peft_base(stored: StoredAdapter, base_model: str | None) -> dict[str, Any]:
    """Returns the fields of every PEFT configuration, whatever the method."""
    provenance = stored.provenance
    return {
        "base_model_name_or_path": base_model or provenance.base_model,
        "revision": provenance.base_revision,
        "task_type": "CAUSAL_LM",
        "inference_mode": True,
        "bias": "none",
        "fan_in_fan_out": False,
        "modules_to_save": None,
    }


def _padded(factor: torch.Tensor, *, dim: int, size: int) -> torch.Tensor:
    shape = list(factor.shape)
    shape[dim] = size
    padded = factor.new_zeros(shape)
    padded.narrow(dim, 0, factor.shape[dim]).copy_(factor)
    return padded
