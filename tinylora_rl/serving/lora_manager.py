"""vLLM's LoRA manager, taught to read our adapters: no factors on disk, and hardly any in memory.

vLLM keeps the factors of every adapter it knows, r (I + O) numbers a module, and copies those of
the adapters in a batch into slots. Here an adapter outside the slots is its matrices R(v) alone, a
few kilobytes; the factors are worked out when it enters a slot. What happens in the slots is
vLLM's own.

Why by subclassing: vLLM has no interface for adapters in another form (verl, which sends LoRA
tensors, replaces the same method). Read in vLLM 0.27.1: lora/worker_manager.py, model_manager.py.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from vllm.lora.lora_model import LoRAModel
from vllm.lora.lora_weights import LoRALayerWeights, PackedLoRALayerWeights
from vllm.lora.model_manager import LRUCacheLoRAModelManager
from vllm.lora.request import LoRARequest
from vllm.lora.worker_manager import LRUCacheWorkerLoRAManager
from vllm.v1.worker import lora_model_runner_mixin

from tinylora_rl.serving.shared_factors import AdapterFactors, SharedFactors


def install() -> None:
    """The vLLM worker in this process, whose model is still to be loaded, reads our adapters.

    Raises:
        RuntimeError: this vLLM has no such seam.
    """
    seams = (
        (lora_model_runner_mixin, "LRUCacheWorkerLoRAManager"),
        (LRUCacheWorkerLoRAManager, "_load_adapter"),
        (LRUCacheLoRAModelManager, "_create_merged_loras_inplace"),
    )
    for owner, name in seams:
        if not hasattr(owner, name):
            raise RuntimeError(
                f"vllm: {owner.__name__} has no {name}; serve with a vLLM that was tested"
            )
    lora_model_runner_mixin.LRUCacheWorkerLoRAManager = TinyLoraWorkerManager


class SharedLora(LoRAModel):
    """One adapter as vLLM asks for it: weights of a module, where it has any.

    Args:
        lora_id: vLLM's number for it.
        packed: {vLLM's fused module: the modules of the checkpoint in it, in their order}.
    """

    def __init__(
        self, lora_id: int, factors: AdapterFactors, packed: Mapping[str, Sequence[str]]
    ) -> None:
        super().__init__(lora_id, factors.rank, loras={})
        self.factors = factors
        self._packed = packed

    def get_lora(self, module_name: str) -> LoRALayerWeights | None:
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
    """Keeps adapters as they are: fused modules are put together on the way into a slot."""

    def _create_merged_loras_inplace(self, lora_model: LoRAModel) -> None:
        if not isinstance(lora_model, SharedLora):  # vLLM's own, of its warm-up
            super()._create_merged_loras_inplace(lora_model)


class TinyLoraWorkerManager(LRUCacheWorkerLoRAManager):
    """Loads a request's `lora_path` as a directory of `artifact.save`."""

    _manager_cls = SharedLoraManager
    _shared: SharedFactors

    def __init__(self, vllm_config: Any, *args: Any, **kwargs: Any) -> None:
        super().__init__(vllm_config, *args, **kwargs)
        self._shared = SharedFactors(vllm_config.model_config.model)

    def _load_adapter(self, lora_request: LoRARequest) -> SharedLora:
        """
        Raises:
            ValueError: vLLM has no slots for a module of it, or too low a rank.
        """
        factors = self._shared.read(lora_request.lora_path)
        if factors.rank > self.lora_config.max_lora_rank:
            raise ValueError(
                f"{lora_request.lora_name}: r={factors.rank}: max_lora_rank is "
                f"{self.lora_config.max_lora_rank}"
            )
        manager = self._adapter_manager
        packed = manager.packed_modules
        slotted = {part for name in manager.modules for part in packed.get(name, [name])}
        without = [name for name in factors.names if name not in slotted]
        if without:
            raise ValueError(
                f"{lora_request.lora_name}: vLLM has no slots for {without[0]} and {len(without)} "
                "modules in all; see lora_target_modules"
            )
        return SharedLora(lora_request.lora_int_id, factors, packed)

    def memory(self) -> dict[str, int]:
        """Bytes: of all slots, of what adapters share, and of all adapters' own."""
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
