"""Adds the parts that stock verl lacks on a CPU; verl imports it as its `model.external_lib`.

The platform, and vLLM's packed weights, come with this package's plugins, which every process
loads. Left are the two things that our worker class brings where we train: verl's own engine
registered for the CPU, and a process group that torch accepts.
"""

from __future__ import annotations

import functools
from typing import Any

from verl.trainer.ppo.v1.replay_buffer import ReplayBuffer
from verl.utils import distributed
from verl.workers import engine_workers

from tinylora_rl.verl_plugin.cpu.patches import register_verl_engine

register_verl_engine()

_initialize = distributed.initialize_global_process_group_ray


@functools.wraps(_initialize)
def _initialize_on_cpu(timeout_second: Any = None, backend: str | None = None) -> None:
    # verl 0.9.1 asks for "cpu:gloo,cpu:gloo", which torch refuses
    _initialize(timeout_second, backend or "cpu:gloo")


engine_workers.initialize_global_process_group_ray = _initialize_on_cpu


class EagerReplayBuffer(ReplayBuffer):
    """Polls for complete rollouts as often as ours; verl's polls every 2 s."""

    def __init__(self, *args: Any, sampler_kwargs: Any, **kwargs: Any) -> None:
        super().__init__(
            *args,
            sampler_kwargs=sampler_kwargs,
            poll_interval=sampler_kwargs.poll_interval_s,
            **kwargs,
        )
