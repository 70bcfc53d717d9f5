"""How our part of the configuration travels inside verl.

verl builds `actor_rollout_ref.model` as an HFModelConfig in several processes and refuses keys it
does not know; `model.lora` is a free dictionary that reaches them all. The user's face is the
groups `adapter` and `sync`; `configs/train.yaml` interpolates them into `model.lora.tinylora`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from tinylora_rl.adapter.config import TinyLoraConfig

MODEL_TYPE = "tinylora"
PEER_MODEL_TYPE = "language_model"  # verl's own engine: LoRA and full fine-tuning
ROLLOUT_NAME = "vllm_tinylora"
TRAINER_MODE = "tinylora_sync"

SYNC_MODES = ("merged",)
SYNC_DTYPES = ("bfloat16", "float16", "float32")


@dataclasses.dataclass(frozen=True, kw_only=True)
class SyncConfig:
    """How the rollout workers get the policy.

    Attributes:
        mode: "merged" streams W + dW(v), one tensor at a time.
        dtype: the sampler's dtype; merged weights are rounded to it once, in the trainer.
        rounding: "nearest", or "stochastic" (bfloat16 only), seeded by `seed`, step and name.
        seed: see rounding.
        deadline_s: seconds within which every rollout worker must have acknowledged a sync.

    Raises:
        ValueError: a field is out of range; the message names it, its value and the mend.
    """

    mode: str = "merged"
    dtype: str = "bfloat16"
    rounding: str = "nearest"
    seed: int = 0
    deadline_s: float = 600.0

    def __post_init__(self) -> None:
        if self.mode not in SYNC_MODES:
            raise ValueError(f"mode={self.mode!r}: choose from {', '.join(SYNC_MODES)}")
        if self.dtype not in SYNC_DTYPES:
            raise ValueError(f"dtype={self.dtype!r}: choose from {', '.join(SYNC_DTYPES)}")
        if self.rounding not in ("nearest", "stochastic"):
            raise ValueError(f"rounding={self.rounding!r}: choose from nearest, stochastic")
        if self.rounding == "stochastic" and self.dtype == "float16":
            raise ValueError(
                "rounding='stochastic': only to bfloat16; set the rollout's dtype to bfloat16"
            )
        if not self.deadline_s > 0:
            raise ValueError(f"deadline_s={self.deadline_s}: use a positive number of seconds")


def adapter_config(lora: Mapping[str, Any]) -> TinyLoraConfig:
    """The adapter that `model.lora` carries."""
    return TinyLoraConfig.from_dict(_plain(lora["tinylora"]["adapter"]))


def sync_config(lora: Mapping[str, Any]) -> SyncConfig:
    """The sync settings that `model.lora` carries."""
    return SyncConfig(**_plain(lora["tinylora"]["sync"]))


def bank_cache_dir(lora: Mapping[str, Any]) -> str | None:
    """Where decompositions of base models are kept; None is the user's cache."""
    return lora["tinylora"].get("bank_cache_dir")


def _plain(node: Any) -> dict[str, Any]:
    from omegaconf import OmegaConf

    plain: Any = OmegaConf.to_container(node, resolve=True) if OmegaConf.is_config(node) else node
    return dict(plain)
