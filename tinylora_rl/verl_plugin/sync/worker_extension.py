"""Our side of a vLLM worker: takes policies on, and answers for what it holds."""

from __future__ import annotations

import time
from typing import Any

import torch
from verl.utils.device import get_device_name
from verl.workers.rollout.vllm_rollout.bucketed_weight_transfer import BucketedWeightReceiver
from verl.workers.rollout.vllm_rollout.utils import vLLMColocateWorkerExtension

from tinylora_rl.vllm_plugin.cpu_patch import patch_cpu_build
from tinylora_rl.vllm_plugin.worker_rpc import PolicyHolder


class TinyLoraWorkerExtension(PolicyHolder, vLLMColocateWorkerExtension):
    """Mixed into vLLM's worker class (`worker_extension_cls`) before the model is loaded."""

    def __new__(cls, **kwargs: Any) -> TinyLoraWorkerExtension:
        if get_device_name() == "cpu":
            patch_cpu_build()
        return super().__new__(cls, **kwargs)

    def load_policy(
        self,
        policy_version: int | None,
        v_digest: str | None = None,
        *,
        adapted_only: bool = False,
        use_shm: bool = False,
        **kwargs: Any,
    ) -> None:
        """That policy is received, loaded and post-processed; only then is it held.

        Args:
            adapted_only: the stream holds merged weights and nothing else: they are copied to where
                they live, past vLLM's loader, and only their layers are packed anew.
        """
        self._receipt, self._loading_version = None, policy_version
        self._num_tensors = 0
        start_s = time.monotonic()
        try:
            if adapted_only:
                self._receive_adapted(use_shm)
            else:
                self.update_weights_from_ipc(use_shm=use_shm, **kwargs)
        except BufferError as error:
            # verl's receiver cannot close its shared memory while a failed load still holds views
            # of it, and that error hides the one that matters
            raise error.__context__ or error from None
        self.note_policy(
            policy_version,
            v_digest,
            num_tensors=self._num_tensors,
            load_s=time.monotonic() - start_s,
        )

    def _receive_adapted(self, use_shm: bool) -> None:
        assert self._held is not None, "a worker without a bank is given one first"
        receiver = BucketedWeightReceiver(
            zmq_handle=self._get_zmq_handle(), device=self.device, use_shm=use_shm
        )
        receiver.receive_weights(on_bucket_received=self._take_adapted)
        self._held.pack()

    def _take_adapted(self, weights: list[tuple[str, torch.Tensor]], is_last: bool) -> None:
        del is_last
        assert self._held is not None
        self._num_tensors += len(weights)
        for name, tensor in weights:
            self._held.take(name, tensor)

    def _update_weights(self, weights: list[tuple[str, torch.Tensor]], **kwargs: Any) -> None:
        self._num_tensors += len(weights)
        super()._update_weights(weights, **kwargs)
