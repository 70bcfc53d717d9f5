"""The part of an experiment that travels inside verl's own configuration to its workers.

verl builds `actor_rollout_ref.model` as an HFModelConfig in several processes and refuses keys it
does not know; `model.lora` is a free dictionary that reaches them all. A user sets the groups
`adapter` and `sync`; `configs/base.yaml` interpolates them into `model.lora.tinylora`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from tinylora_rl.errors import ConfigError, first_line

if TYPE_CHECKING:
    from tinylora_rl.adapter.config import TinyLoraConfig

ROLLOUT_NAME = "vllm_tinylora"
TRAINER_MODE = "tinylora_sync"
SEPARATE_TRAINER_MODE = "tinylora_separate_async"
TRAINER_MODES = (TRAINER_MODE, SEPARATE_TRAINER_MODE)


def adapter_config(lora: Mapping[str, Any]) -> TinyLoraConfig:
    from tinylora_rl.adapter.config import TinyLoraConfig

    return TinyLoraConfig.from_dict(_plain(lora["tinylora"]["adapter"]))


def sync_config(lora: Mapping[str, Any]) -> SyncConfig:
    return SyncConfig(**_plain(lora["tinylora"]["sync"]))


def bank_cache_dir(lora: Mapping[str, Any]) -> str | None:
    """Returns the folder of base models' decompositions; None is the user's cache."""
    return lora["tinylora"].get("bank_cache_dir")


def register_in_worker(lora: Mapping[str, Any]) -> None:
    """Imports the user's plugins and registers the engine of the run's method with verl."""
    from tinylora_rl import plugins
    from tinylora_rl.methods import make_method

    ours = lora["tinylora"]
    plugins.load(list(ours.get("plugins") or []))
    make_method(str(ours["method"]), _plain(ours["adapter"])).register_engine()


def _plain(node: Any) -> dict[str, Any]:
    from omegaconf import OmegaConf

    plain: Any = OmegaConf.to_container(node, resolve=True) if OmegaConf.is_config(node) else node
    return dict(plain)


SYNC_MODES = ("merged", "vector", "factors")
SYNC_DTYPES = ("bfloat16", "float16", "float32")


@dataclasses.dataclass(frozen=True, kw_only=True)
class SyncConfig:
    """Settings by which rollout workers get the policy, and prove that they have it.

    Attributes:
        mode: "merged" streams W + dW(v), one tensor at a time; "vector" sends v, and each vLLM
            worker merges its own shard in place; "factors" sends rank-r LoRA factors.
        dtype: the sampler's dtype; merged weights are rounded to it once.
        rounding: "nearest", or "stochastic" (bfloat16 only), seeded by `seed`, step and name.
        pristine: where a vLLM worker of mode "vector" keeps its copy of the adapted base weights:
            "device" (13 GB for a 7B in bf16, also while vLLM sleeps), or "host" (pinned memory;
            each sync reads them over the bus).
        sleep_level: of vLLM, between rollouts, where it shares its GPUs with the trainer: 1 keeps
            its weights in host memory (15 GB a replica for a 7B), 2 (merged only) drops them, so
            that every sync brings all weights and not just the adapted ones.
        deadline_s: seconds within which every rollout worker must have acknowledged a sync.
        canary_every: every so many syncs (0: never), log-probs of `canary_prompt` in the rollout
            engine are compared with the actor's and the base's.
        canary_max_diff: the run stops where rollout and actor differ by more, mean over the tokens
            of |difference of log-probs|. Guards against gross failure; the receipts are finer.

    Raises:
        ValueError: a field is out of range; the message names it, its value and the fix.
    """

    mode: str = "merged"
    dtype: str = "bfloat16"
    rounding: str = "nearest"
    seed: int = 0
    pristine: str = "device"
    sleep_level: int = 1
    deadline_s: float = 600.0
    canary_every: int = 1
    canary_prompt: str = "3 * 14 = 42, and 42 - 5 = 37.\n#### 37"
    canary_max_diff: float = 0.5

    def __post_init__(self) -> None:
        for key in ("deadline_s", "canary_every", "canary_max_diff", "seed"):
            value = getattr(self, key)
            if isinstance(value, bool) or not isinstance(value, int | float):
                raise ValueError(f"{key}={value!r}: use a number")
        for key, choices in (
            ("mode", SYNC_MODES),
            ("dtype", SYNC_DTYPES),
            ("rounding", ("nearest", "stochastic")),
            ("pristine", ("device", "host")),
            ("sleep_level", (1, 2)),
        ):
            value = getattr(self, key)
            if value not in choices:
                raise ValueError(f"{key}={value!r}: choose from {', '.join(map(str, choices))}")
        if self.rounding == "stochastic" and self.dtype == "float16":
            raise ValueError(
                "rounding='stochastic': only to bfloat16; set "
                "actor_rollout_ref.rollout.dtype=bfloat16"
            )
        if self.rounding == "stochastic" and self.mode == "factors":
            raise ValueError(
                "rounding='stochastic': mode='factors' rounds no weights; use rounding=nearest, "
                "or mode=vector"
            )
        if self.sleep_level == 2 and self.mode != "merged":
            raise ValueError(
                f"sleep_level=2: drops the base weights that mode={self.mode!r} starts from; use "
                "sleep_level=1, or mode=merged"
            )
        if not self.deadline_s > 0:
            raise ValueError(f"deadline_s={self.deadline_s}: use a positive number of seconds")
        if not isinstance(self.canary_every, int) or self.canary_every < 0:
            raise ValueError(f"canary_every={self.canary_every}: use a number of syncs, or 0")
        if not isinstance(self.canary_prompt, str):
            raise ValueError(f"canary_prompt={self.canary_prompt!r}: give a text")
        if self.canary_every and not self.canary_prompt.strip():
            raise ValueError("canary_prompt='': give a text, or set canary_every=0")
        if not self.canary_max_diff > 0:
            raise ValueError(
                f"canary_max_diff={self.canary_max_diff}: use a positive number of nats"
            )

    @classmethod
    def from_options(cls, options: Mapping[str, Any]) -> SyncConfig:
        try:
            return cls(**options)
        except (TypeError, ValueError) as error:
            raise ConfigError(f"sync.{first_line(error)}") from error
