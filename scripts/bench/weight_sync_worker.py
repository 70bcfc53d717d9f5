"""The vLLM worker of weight_sync.py: ours, with a clock at each stage."""

from __future__ import annotations

import time
from typing import Any

import torch
from verl.workers.rollout.vllm_rollout.utils import vLLMColocateWorkerExtension
from vllm.model_executor.model_loader import utils

from tinylora_rl.verl_plugin.sync.worker_extension import VerlWorkerExtension

_process_weights = utils.process_weights_after_loading


def _synchronize() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


class TimedWorker(VerlWorkerExtension):
    """Also loads weights the way verl's own worker does."""

    _as_verl = False

    def reset_times(self) -> None:
        self._times = {"merge_s": 0.0, "load_s": 0.0, "pack_s": 0.0}
        utils.process_weights_after_loading = self._packed

    def times(self) -> dict[str, float]:
        for key in ("merge_s", "pack_s"):
            self._times[key] += float((self._receipt or {}).get(key, 0.0))
        return self._times

    def load_as_verl_does(self, **kwargs: Any) -> None:
        self._as_verl, self._receipt = True, None
        try:
            self.update_weights_from_ipc(**kwargs)
        finally:
            self._as_verl = False

    def _update_weights(self, weights: list[tuple[str, torch.Tensor]], **kwargs: Any) -> None:
        start_s = time.perf_counter()
        if self._as_verl:
            vLLMColocateWorkerExtension._update_weights(self, weights, **kwargs)
        else:
            super()._update_weights(weights, **kwargs)
        _synchronize()
        self._times["load_s"] += time.perf_counter() - start_s

    def _take_adapted(self, weights: list[tuple[str, torch.Tensor]], is_last: bool) -> None:
        start_s = time.perf_counter()
        super()._take_adapted(weights, is_last)
        _synchronize()
        self._times["load_s"] += time.perf_counter() - start_s

    def _receive_adapted(self, use_shm: bool) -> None:
        pack = self._policy.pack

        def timed_pack() -> None:
            start_s = time.perf_counter()
            pack()
            _synchronize()
            self._times["pack_s"] += time.perf_counter() - start_s

        self._policy.pack = timed_pack  # type: ignore[method-assign]
        try:
            super()._receive_adapted(use_shm)
        finally:
            self._policy.pack = pack  # type: ignore[method-assign]

    def _packed(self, *args: Any, **kwargs: Any) -> None:
        start_s = time.perf_counter()
        _process_weights(*args, **kwargs)
        _synchronize()
        self._times["pack_s"] += time.perf_counter() - start_s
