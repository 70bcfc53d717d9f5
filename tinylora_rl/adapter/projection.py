"""Draws the fixed P of each module, a function of (seed, module name) alone, or the basis.

P never depends on the order of modules, the device, Python's hash seed or a global generator, so
that v can be stored without it.
"""

from __future__ import annotations

import hashlib
import math
from typing import Any

import torch

from tinylora_rl.adapter.config import TinyLoraConfig


def seeded_generator(*key: object) -> torch.Generator:
    """Returns a CPU generator whose stream is a function of `key` alone."""
    digest = hashlib.sha256("\x1f".join(map(str, key)).encode()).digest()
    generator = torch.Generator("cpu")
    generator.manual_seed(
        int.from_bytes(digest[:8], "big") >> 1
    )  # manual_seed takes 63 bits portably
    return generator


def draw_projection(config: TinyLoraConfig, name: str) -> torch.Tensor:
    """Draws P of the module called `name`: (u, r, r), fp32 on the CPU.

    Random entries have mean 0 and deviation `config.std`. The basis has P_i = 1 at row i // r,
    column i % r, so that R is v read row by row.
    """
    shape = (config.u, config.r, config.r)
    if config.projection == "basis":
        return torch.eye(config.u, dtype=torch.float32).reshape(shape)
    draw: dict[str, Any] = {
        "generator": seeded_generator("projection", config.seed, name),
        "device": "cpu",
    }
    if config.projection == "normal":
        # fp32 randn gives other bits on CPUs with wider vector instructions; fp64 does not
        unit_P = torch.randn(shape, dtype=torch.float64, **draw).to(torch.float32)
    elif config.projection == "uniform":
        unit_P = (torch.rand(shape, dtype=torch.float32, **draw) * 2 - 1) * math.sqrt(3)
    else:
        unit_P = torch.randint(0, 2, shape, **draw).to(torch.float32) * 2 - 1
    return unit_P * config.std
