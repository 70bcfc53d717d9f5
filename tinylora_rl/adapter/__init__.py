"""The paper's mathematics and the surgery on a Hugging Face model."""

from tinylora_rl.adapter.bank import Bank, Identity, build_bank, empty_bank
from tinylora_rl.adapter.config import TinyLoraConfig
from tinylora_rl.adapter.inject import Adapter, inject
from tinylora_rl.adapter.merge import Survival
from tinylora_rl.adapter.targets import Target, find_targets

__all__ = [
    "Adapter",
    "Bank",
    "Identity",
    "Survival",
    "Target",
    "TinyLoraConfig",
    "build_bank",
    "empty_bank",
    "find_targets",
    "inject",
]
