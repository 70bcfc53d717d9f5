"""Finds the base model that ships with the package."""

from pathlib import Path


def base_model_dir() -> Path:
    """Returns the Hugging Face folder that `pretrain` wrote: a Qwen2 of 0.6 M parameters."""
    return Path(__file__).parent / "base_model"
