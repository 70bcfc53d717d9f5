"""vLLM's LoRA manager, extended by adapters of ours: a request's path may be an adapter directory.

vLLM keeps the factors of every adapter it knows, r (I + O) numbers a module, and copies those of
the adapters in a batch into slots. Here an adapter outside the slots is its matrices R(v) alone, a
few kilobytes; its factors are computed when vLLM moves it into a slot. In the slots it is a LoRA
like any other.

By subclassing: vLLM has no interface for adapters in another form (verl, which sends LoRA tensors,
replaces the same method). Written for vLLM 0.27.1: lora/worker_manager.py, model_manager.py.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from vllm.lora.lora_model import LoRAModel
from vllm.lora.lora_weights import LoRALayerWeights, PackedLoRALayerWeights
from vllm.lora.model_manager import LRUCacheLoRAModelManager
from vllm.lora.request import LoRARequest
from vllm.lora.worker_manager import LRUCacheWorkerLoRAManager
from vllm.v1.worker import lora_model_runner_mixin

from tinylora_rl.artifact import MANIFEST
from tinylora_rl.vllm_plugin.lora_limits import slot_rank_in
from tinylora_rl.vllm_plugin.shared_factors import AdapterFactors, SharedFactors


def install() -> None:
    """Makes the vLLM worker in this process use `TinyLoraWorkerManager`.

    vLLM creates its manager when it loads a model with LoRA enabled: call this before.

    Raises:
        RuntimeError: this vLLM lacks a class or method that is replaced or overridden here.
    """
    used = (
        (lora_model_runner_mixin, "LRUCacheWorkerLoRAManager"),
        (LRUCacheWorkerLoRAManager, "_load_adapter"),
        (LRUCacheLoRAModelManager, "_create_merged_loras_inplace"),
    )
    for owner, name in used:
        if not hasattr(owner, name):
            raise RuntimeError(
                f"vllm: {owner.__name__} has no {name}; use the vLLM that this package pins"
            )
    lora_model_runner_mixin.LRUCacheWorkerLoRAManager = TinyLoraWorkerManager


class SharedLora(LoRAModel):
    """One of our adapters in vLLM's form, which computes the weights of a module on demand.

    Args:
        lora_id: vLLM's number for it.
        packed: {vLLM's fused module: the checkpoint's modules in it, in their order}.
    """

    def __init__(
        self, lora_id: int, factors: AdapterFactors, packed: Mapping[str, Sequence[str]]
    ) -> None:
        super().__init__(lora_id, factors.rank, loras={})
        self.factors = factors
        self._packed = packed

    def get_lora(self, module_name: str) -> LoRALayerWeights | None:
        """Returns a module's weights; vLLM calls this for each module when it fills a slot.

        vLLM's own returns what was loaded; a fused module's weights are packed here.
        """
        parts = self._packed.get(module_name)
        if parts is None:
            return self._weights(module_name)
        weights = [self._weights(part) for part in parts]
        return PackedLoRALayerWeights.pack(weights) if any(weights) else None

    def _weights(self, name: str) -> LoRALayerWeights | None:
        factors = self.factors.of(name)
        if factors is None:
            return None
        A_RI, B_OR = factors
        return LoRALayerWeights(name, self.rank, self.rank, A_RI, B_OR)  # alpha = r: scaling 1


class SharedLoraManager(LRUCacheLoRAModelManager):
    """vLLM's registry of adapters and slots, which leaves a `SharedLora` as it is."""

    def _create_merged_loras_inplace(self, lora_model: LoRAModel) -> None:
        """Packs fused modules; vLLM calls this once for each adapter that it registers.

        Nothing to do for ours, whose fused modules are packed on the way into a slot.
        """
        if not isinstance(lora_model, SharedLora):
            super()._create_merged_loras_inplace(lora_model)


class TinyLoraWorkerManager(LRUCacheWorkerLoRAManager):
    """vLLM's loader of adapters in a worker."""

    _manager_cls = SharedLoraManager

    def __init__(self, vllm_config: Any, *args: Any, **kwargs: Any) -> None:
        super().__init__(vllm_config, *args, **kwargs)
        self._base = vllm_config.model_config.model

    @functools.cached_property
    def _shared(self) -> SharedFactors:
        return SharedFactors(self._base)

    def _load_adapter(self, lora_request: LoRARequest) -> LoRAModel:
        """Loads the adapter of a request; vLLM calls this where the adapter is not in memory.

        Differs from vLLM's for a `lora_path` that `artifact.save` has written. Any other request
        stays vLLM's (a PEFT folder) or verl's (tensors).

        Raises:
            ValueError: the adapter is damaged, or vLLM has no slots for one of its modules, or of
                too low a rank.
        """
        if not (Path(lora_request.lora_path) / MANIFEST).exists():
            return super()._load_adapter(lora_request)
        factors = self._shared.read(lora_request.lora_path)
        name, limit = lora_request.lora_name, slot_rank_in(self.lora_config)
        if factors.rank > limit:
            raise ValueError(f"{name}: r={factors.rank}: vLLM's slots have rank {limit}")
        manager = self._adapter_manager
        packed = manager.packed_modules
        slotted = {part for module in manager.modules for part in packed.get(module, [module])}
        without = [module for module in factors.names if module not in slotted]
        if without:
            raise ValueError(
                f"{name}: vLLM has no slots for {without[0]} and {len(without)} modules in all; "
                "see lora_target_modules"
            )
        return SharedLora(lora_request.lora_int_id, factors, packed)

    def memory(self) -> dict[str, int]:
        """Counts slots and adapters, and bytes: of one slot, shared by adapters, their own."""
        adapters = [
            lora
            for lora in self._adapter_manager.list_adapters().values()
            if isinstance(lora, SharedLora)
        ]
        slots = {
            id(part): part.nbytes
            for module in self._adapter_manager.modules.values()
            for side in (module.lora_a_stacked, module.lora_b_stacked)
            for part in side
        }
        return {
            "num_slots": self.lora_config.max_loras,
            "slot_bytes": sum(slots.values()) // self.lora_config.max_loras,
            "shared_bytes": self._shared.num_bytes,
            "num_adapters": len(adapters),
            "adapter_bytes": sum(lora.factors.num_bytes for lora in adapters),
        }
