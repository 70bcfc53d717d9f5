"""Adapters of the embedded model that change what it says, each in its own way."""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, PreTrainedModel

from tinylora_rl import artifact
from tinylora_rl.adapter import TinyLoraConfig, inject
from tinylora_rl.tasks.arithmetic import base_model_dir

SIZE = 0.15
"""Of v's entries: enough to change about every other answer, too little to break them."""


def tiny_model() -> PreTrainedModel:
    return AutoModelForCausalLM.from_pretrained(base_model_dir(), dtype=torch.float32).eval()


def make_adapters(
    home: Path, names: list[str], config: TinyLoraConfig | None = None, *, first_seed: int = 0
) -> dict[str, Path]:
    """{name: directory}; v is random, of seed `first_seed` and so on."""
    adapter = inject(tiny_model(), config or TinyLoraConfig())
    made = {}
    for seed, name in enumerate(names, first_seed):
        generator = torch.Generator().manual_seed(seed)
        adapter.v.data.copy_(SIZE * torch.randn(adapter.v.shape, generator=generator))
        made[name] = artifact.save(adapter, home / name)
    return made
