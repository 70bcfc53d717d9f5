"""Where the base model that ships with the package lies."""

from pathlib import Path


def base_model_dir() -> Path:
    """A Hugging Face folder that `pretrain` wrote: a Qwen2 of 0.6 M parameters, its tokenizer."""
    return Path(__file__).parent / "base_model"
