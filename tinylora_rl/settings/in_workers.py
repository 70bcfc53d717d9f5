"""The part of an experiment that travels inside verl's own configuration to its workers.

verl builds `actor_rollout_ref.model` as an HFModelConfig in several processes and refuses keys it
does not know; `model.lora` is a free dictionary that reaches them all. A user sets the groups
`adapter` and `sync`; `configs/base.yaml` interpolates them into `model.lora.tinylora`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from tinylora_rl.settings.sync import SyncConfig

if TYPE_CHECKING:
    from tinylora_rl.adapter.config import TinyLoraConfig

ROLLOUT_NAME = "vllm_tinylora"
TRAINER_MODE = "tinylora_sync"
SEPARATE_TRAINER_MODE = "tinylora_separate_async"
TRAINER_MODES = (TRAINER_MODE, SEPARATE_TRAINER_MODE)


def adapter_config(lora: Mapping[str, Any]) -> TinyLoraConfig:
    """Returns the adapter that `model.lora` carries."""
    from tinylora_rl.adapter.config import TinyLoraConfig

    return TinyLoraConfig.from_dict(_plain(lora["tinylora"]["adapter"]))


def sync_config(lora: Mapping[str, Any]) -> SyncConfig:
    """Returns the sync settings that `model.lora` carries."""
    return SyncConfig(**_plain(lora["tinylora"]["sync"]))


def bank_cache_dir(lora: Mapping[str, Any]) -> str | None:
    """Returns where decompositions of base models are kept; None is the user's cache."""
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
