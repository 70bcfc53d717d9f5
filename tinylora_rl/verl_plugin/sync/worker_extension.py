"""The worker extension of training: ours, with verl's transport of whole weights.

A class of its own, because vLLM starts workers in fresh processes, where the qualified name of the
extension is all that arrives of the choice; `vllm_plugin` must not import verl.
"""

from __future__ import annotations

import time
from typing import Any

import torch
from verl.workers.rollout.vllm_rollout.bucketed_weight_transfer import BucketedWeightReceiver
from verl.workers.rollout.vllm_rollout.utils import vLLMColocateWorkerExtension

from tinylora_rl.vllm_plugin.worker_extension import WorkerExtension


class VerlWorkerExtension(vLLMColocateWorkerExtension, WorkerExtension):
    """verl's extension, which verl calls by its method names, and ours.

    verl's comes first: its `__new__` takes vLLM's arguments, and ours none.
    """

    def load_policy(
        self,
        policy_version: int | None,
        v_digest: str | None = None,
        *,
        adapted_only: bool = False,
        use_shm: bool = False,
        **kwargs: Any,
    ) -> None:
        """Receives, loads and processes the weights of a policy, then records it.

        With `adapted_only` the stream has merged weights alone: they are copied to their places,
        past vLLM's loader, and only their layers are packed anew.
        """
        self._receipt, self._num_tensors = None, 0
        start_s = time.monotonic()
        try:
            if adapted_only:
                self._receive_adapted(use_shm)
            else:
                self.update_weights_from_ipc(use_shm=use_shm, **kwargs)
        except BufferError as error:
            # verl's receiver cannot close its shared memory while a failed load still has views
            # of it, and that error hides the one that matters
            raise error.__context__ or error from None
        self.record_policy(
            policy_version,
            v_digest,
            num_tensors=self._num_tensors,
            load_s=time.monotonic() - start_s,
        )

    def _receive_adapted(self, use_shm: bool) -> None:
        assert self._policy is not None, "a worker is given the factors first"
        receiver = BucketedWeightReceiver(
            zmq_handle=self._get_zmq_handle(), device=self.device, use_shm=use_shm
        )
        receiver.receive_weights(on_bucket_received=self._take_adapted)
        self._policy.pack()

    def _take_adapted(self, weights: list[tuple[str, torch.Tensor]], is_last: bool) -> None:
        del is_last
        assert self._policy is not None
        self._num_tensors += len(weights)
        for name, tensor in weights:
            self._policy.write(name, tensor)

    def _update_weights(self, weights: list[tuple[str, torch.Tensor]], **kwargs: Any) -> None:
        """Counts the tensors of a bucket; verl calls this for every bucket that it received."""
        self._num_tensors += len(weights)
        super()._update_weights(weights, **kwargs)
