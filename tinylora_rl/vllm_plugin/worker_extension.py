"""A vLLM worker that takes on adapters by itself: it merges them from the base model's files.

No weight travels: each worker reads the targeted base weights again (from the page cache, after the
first time), adds dW(v), and loads the result as it would load a checkpoint. vLLM cuts out its own
tensor-parallel shard and fuses q, k, v and gate, up.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Literal

import torch

from tinylora_rl import artifact
from tinylora_rl.adapter import CheckpointWeights
from tinylora_rl.vllm_plugin.cpu_patch import patch_cpu_build
from tinylora_rl.vllm_plugin.worker_rpc import PolicyHolder

EXTENSION = f"{__name__}.PolicyWorkerExtension"


class PolicyWorkerExtension(PolicyHolder):
    """Mixed into vLLM's worker class (`worker_extension_cls`) before the model is loaded."""

    device: torch.device
    model_config: Any
    _merged_names: frozenset[str] = frozenset()

    def __new__(cls, **kwargs: Any) -> PolicyWorkerExtension:
        from vllm.platforms import current_platform

        if current_platform.is_cpu():
            patch_cpu_build()
        return super().__new__(cls)

    def hold_adapter(
        self, directory: str | None, rounding: Literal["nearest", "stochastic"]
    ) -> None:
        """This worker's model is the base with the adapter in `directory`, or the base for None.

        Raises:
            ValueError: the adapter is damaged or belongs to another base model.
        """
        weights = CheckpointWeights(self.model_config.model)
        if directory is None:
            self._load((name, weights.tensor(name)) for name in sorted(self._merged_names))
            self._merged_names = frozenset()
            return
        update = artifact.load_update(directory, weights)
        names = [target.weight_name for target in update.targets]
        stale = self._merged_names - set(names)
        self._load((name, weights.tensor(name)) for name in sorted(stale))
        self._merged_names = frozenset(names)
        self._load(
            update.merge(
                ((name, weights.tensor(name)) for name in names),
                dtype=self.model_config.dtype,
                rounding=rounding,
                seed=artifact.read_manifest(directory)["digest"],
            )
        )

    def _load(self, weights: Iterable[tuple[str, torch.Tensor]]) -> None:
        from vllm.model_executor.model_loader.utils import process_weights_after_loading

        on_device: Iterator[tuple[str, torch.Tensor]] = (
            (name, tensor.to(self.device)) for name, tensor in weights
        )
        self.model_runner.model.load_weights(on_device)
        process_weights_after_loading(self.model_runner.model, self.model_config, self.device)
