"""Our side of a vLLM worker: loads what it is sent, counts it, and answers for it."""

from __future__ import annotations

import socket
from typing import Any

import torch
from verl.utils.device import get_device_name
from verl.workers.rollout.vllm_rollout.utils import vLLMColocateWorkerExtension

from tinylora_rl.verl_plugin.sync.checksum import StreamChecksum
from tinylora_rl.vllm_plugin.cpu_patch import keep_weights_after_packing


class TinyLoraWorkerExtension(vLLMColocateWorkerExtension):
    """Mixed into vLLM's worker class (`worker_extension_cls`) before the model is loaded."""

    _held_policy: dict[str, Any] | None = None

    def __new__(cls, **kwargs: Any) -> TinyLoraWorkerExtension:
        if get_device_name() == "cpu":
            keep_weights_after_packing()
        return super().__new__(cls, **kwargs)

    def load_policy(self, policy_version: int | None, **kwargs: Any) -> None:
        """That policy is received, loaded and post-processed; only then is it held."""
        self._held_policy = None
        self._loading_version = policy_version
        self._stream_checksum = StreamChecksum()
        try:
            self.update_weights_from_ipc(**kwargs)
        except BufferError as error:
            # verl's receiver cannot close its shared memory while a failed load still holds views
            # of it, and that error hides the one that matters
            raise error.__context__ or error from None
        self._held_policy = {
            "policy_version": policy_version,
            "checksum": self._stream_checksum.hexdigest(),
            "num_tensors": self._stream_checksum.num_tensors,
        }

    def _update_weights(self, weights: list[tuple[str, torch.Tensor]], **kwargs: Any) -> None:
        for name, tensor in weights:
            self._stream_checksum.add(name, tensor)
        super()._update_weights(weights, **kwargs)

    def policy_receipt(self) -> dict[str, Any]:
        """Who this worker is and which policy it holds (version None before the first load)."""
        worker = f"{socket.gethostname()}:replica-rank-{self.rank}"
        held = self._held_policy or {"policy_version": None, "checksum": None, "num_tensors": 0}
        return {"worker": worker, **held}
