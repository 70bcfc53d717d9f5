"""Methods mixed into vLLM's worker: load a policy, and report the loaded one.

vLLM takes a `worker_extension_cls` by name, imports it in each worker process, appends it to the
bases of its own worker class, and makes its methods callable through `collective_rpc`
(vllm/v1/worker/worker_base.py). Evaluation and serving name `WorkerExtension`. Training names its
subclass in `verl_plugin.sync.worker_extension`, which adds verl's transport of whole weights.
"""

from __future__ import annotations

import os
import socket
from typing import Any

import torch

from tinylora_rl import artifact
from tinylora_rl.adapter import CheckpointWeights
from tinylora_rl.adapter.bank import bank_from_bytes
from tinylora_rl.adapter.digests import vector_digest
from tinylora_rl.adapter.merge import Rounding
from tinylora_rl.vllm_plugin.cpu_patch import patch_cpu_build
from tinylora_rl.vllm_plugin.worker_policy import MergeSettings, WorkerPolicy

EXTENSION = f"{__name__}.WorkerExtension"


class WorkerExtension:
    """Our side of a vLLM worker.

    A restarted worker has neither factors nor policy, and its receipt says so: whoever sends
    policies gives it the factors again before it samples.
    """

    model_runner: Any
    model_config: Any
    rank: int
    _policy: WorkerPolicy | None = None
    _receipt: dict[str, Any] | None = None

    def __new__(cls, **kwargs: Any) -> WorkerExtension:
        """Patches vLLM in this process; vLLM creates the worker before it builds the model."""
        from vllm.platforms import current_platform

        from tinylora_rl.vllm_plugin import lora_manager

        if current_platform.is_cpu():
            patch_cpu_build()
        lora_manager.install()
        return super().__new__(cls)

    def set_factors(self, payload: bytes, settings: dict[str, Any]) -> None:
        """Receives the frozen factors, once; from then on this worker can measure its weights.

        With a pristine copy it can also merge. Its model must carry the base weights then, as after
        a worker's start.

        Args:
            payload: of `bank_to_bytes`.
            settings: fields of `MergeSettings`.

        Raises:
            ValueError: see `WorkerPolicy`.
        """
        if self._policy is not None:
            return  # the weights are merged by now: no base left to copy
        self._receipt = None
        self._policy = WorkerPolicy(
            self.model_runner.model, bank_from_bytes(payload), MergeSettings(**settings)
        )

    def has_factors(self) -> bool:
        """Returns false for a worker that has restarted since `set_factors`."""
        return self._policy is not None

    def load_vector(self, v: bytes, num_groups: int, policy_version: int | None) -> None:
        """Merges W + dW(v) into this worker's weights.

        Args:
            v: the acting v (G, U), fp32, row by row, little-endian.
        """
        assert self._policy is not None, "a worker is given the factors first"
        self._receipt = None
        v_GU = torch.frombuffer(bytearray(v), dtype=torch.float32).view(num_groups, -1)
        noise_seed = f"{self._policy.settings.seed}:{policy_version}"
        spent = self._policy.merge(v_GU, noise_seed)
        self.record_policy(policy_version, vector_digest(v), **spent)

    def load_adapter(self, directory: str | None, rounding: Rounding) -> None:
        """Merges the adapter in `directory` into this worker's weights; None restores the base.

        The base weights are read from the checkpoint's files again (from the page cache, after the
        first time): a copy of them would take as much memory as the model.

        Raises:
            ValueError: the adapter is damaged or belongs to another base model.
        """
        checkpoint = CheckpointWeights(self.model_config.model)
        before, self._policy = self._policy, None
        if directory is None:
            if before is not None:
                before.restore()
            return
        stored = artifact.open(directory)
        update = stored.update(checkpoint)
        if before is not None:
            before.restore(keep=update.groups)
        self._policy = WorkerPolicy(
            self.model_runner.model,
            update.bank,
            MergeSettings(groups=update.groups, rounding=rounding, pristine="checkpoint"),
            checkpoint=checkpoint,
        )
        self._policy.merge(update.acting_v, noise_seed=stored.digest)

    def record_policy(self, policy_version: int | None, v_digest: str | None, **facts: Any) -> None:
        """Sets the policy that receipts state from here on; `facts` are added to them."""
        self._receipt = {"policy_version": policy_version, "v_digest": v_digest, **facts}

    def policy_receipt(self, measure: bool = True) -> dict[str, Any]:
        """Reports this worker's name, its policy (None before the first) and its weights.

        Args:
            measure: adds `measurements`, read from all adapted weights now.
        """
        receipt: dict[str, Any] = {
            "worker": f"{socket.gethostname()}:{os.getpid()}:rank-{self.rank}",
            "has_factors": self._policy is not None,
            **(self._receipt or {"policy_version": None, "v_digest": None}),
        }
        if measure:
            receipt["measurements"] = [] if self._policy is None else self._policy.measurements()
        return receipt

    def adapter_memory(self) -> dict[str, int]:
        """Reports the memory of LoRA slots and adapters; see `TinyLoraWorkerManager.memory`."""
        memory: dict[str, int] = self.model_runner.lora_manager.memory()
        return memory
