"""Registers verl's own engine, which trains the baselines LoRA and full fine-tuning, for the CPU.

verl registers it for accelerators only.
"""

from __future__ import annotations

from verl.workers.engine.base import EngineRegistry
from verl.workers.engine.fsdp.transformer_impl import FSDPEngineWithLMHead

from tinylora_rl.verl_plugin.settings import PEER_MODEL_TYPE

EngineRegistry.register(model_type=PEER_MODEL_TYPE, backend=["fsdp2"], device=["cpu"])(
    FSDPEngineWithLMHead
)
