"""The base model of an adapter, from a folder or the Hub, as it was in training."""

from __future__ import annotations

from pathlib import Path

from torch import nn
from transformers import AutoModelForCausalLM, PreTrainedModel

from tinylora_rl.adapter import CheckpointWeights, Weights
from tinylora_rl.artifact.directory import trained_dtype
from tinylora_rl.artifact.manifest import read_manifest
from tinylora_rl.base_model import checkpoint_folder


def as_model(model: nn.Module | str | Path, directory: str | Path) -> nn.Module:
    """`model` itself, or the one in the folder or Hub repository of that name; see `open_base`."""
    return open_base(model, directory) if isinstance(model, str | Path) else model


def as_source(
    model: nn.Module | Weights | str | Path, *, revision: str | None = None
) -> nn.Module | Weights:
    """What to read base weights from: a model, weights, or the files of a folder or Hub id."""
    if not isinstance(model, str | Path):
        return model
    return CheckpointWeights(checkpoint_folder(model, revision=revision))


def open_base(
    base: str | Path, directory: str | Path, *, revision: str | None = None
) -> PreTrainedModel:
    """The model in `base` on the CPU, in the dtype the adapter in `directory` was trained on.

    Only safetensors, no code of the repository's own. What the adapter says about its base decides
    nothing but the dtype: `base` is the caller's.

    Raises:
        ValueError: the adapter's manifest is not sound.
        OSError: there is no such model.
    """
    return AutoModelForCausalLM.from_pretrained(
        base,
        dtype=trained_dtype(read_manifest(directory), directory),
        revision=revision,
        trust_remote_code=False,
        use_safetensors=True,
    ).eval()
