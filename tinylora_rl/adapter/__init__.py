"""The paper's mathematics and the surgery on a Hugging Face model."""

from tinylora_rl.adapter.bank import Bank, Identity, build_bank, empty_bank
from tinylora_rl.adapter.bank_cache import load_or_build
from tinylora_rl.adapter.budget import Plan, plan_budget
from tinylora_rl.adapter.config import TinyLoraConfig
from tinylora_rl.adapter.inject import Adapter, inject
from tinylora_rl.adapter.merge import Survival
from tinylora_rl.adapter.targets import Target, find_targets, targets_of
from tinylora_rl.adapter.update import Update
from tinylora_rl.adapter.weights import (
    CheckpointWeights,
    ModelWeights,
    Weights,
    as_weights,
    in_dtype,
)

__all__ = [
    "Adapter",
    "Bank",
    "CheckpointWeights",
    "Identity",
    "ModelWeights",
    "Plan",
    "Survival",
    "Target",
    "TinyLoraConfig",
    "Update",
    "Weights",
    "as_weights",
    "build_bank",
    "empty_bank",
    "find_targets",
    "in_dtype",
    "inject",
    "load_or_build",
    "plan_budget",
    "targets_of",
]
