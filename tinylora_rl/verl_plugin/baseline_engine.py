"""verl's own engine, for LoRA and full fine-tuning beside TinyLoRA, on a CPU too.

verl registers it for accelerators only. Importing this module registers it for the CPU.
"""

from __future__ import annotations

from verl.workers.engine.base import EngineRegistry
from verl.workers.engine.fsdp.transformer_impl import FSDPEngineWithLMHead

from tinylora_rl.verl_plugin.settings import PEER_MODEL_TYPE

EngineRegistry.register(model_type=PEER_MODEL_TYPE, backend=["fsdp2"], device=["cpu"])(
    FSDPEngineWithLMHead
)
