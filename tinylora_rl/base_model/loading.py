"""A base model for an adapter to act on: its weights one at a time, or a model in memory."""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, PreTrainedModel

from tinylora_rl.adapter import CheckpointWeights
from tinylora_rl.base_model.folder import checkpoint_folder


def open_weights(base: str | Path, *, revision: str | None = None) -> CheckpointWeights:
    """Opens the safetensors files of a folder or hub id; no weight is read yet.

    Raises:
        ValueError: there is no such model, or it is no safetensors checkpoint.
    """
    return CheckpointWeights(checkpoint_folder(base, revision=revision))


def load_model(
    base: str | Path, *, dtype: torch.dtype | None, revision: str | None = None
) -> PreTrainedModel:
    """Loads the model in a folder or hub id to the CPU: safetensors alone, no code of its own.

    Args:
        dtype: of all weights; None takes the checkpoint's own.

    Raises:
        OSError: there is no such model.
    """
    return AutoModelForCausalLM.from_pretrained(
        base,
        dtype="auto" if dtype is None else dtype,
        revision=revision,
        trust_remote_code=False,
        use_safetensors=True,
    ).eval()
