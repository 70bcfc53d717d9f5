"""Checks that the machine has what an evaluation's engine needs."""

from __future__ import annotations

import os
from importlib.util import find_spec

from tinylora_rl.errors import MachineError
from tinylora_rl.settings.sections import Engine


def check_engine(engine: Engine) -> None:
    """Checks that the device chosen is the machine's.

    Raises:
        MachineError: with what is missing and the fix.
    """
    if find_spec("vllm") is None:
        raise MachineError("vllm: not installed; install this package with its cpu or gpu extra")
    import torch

    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if engine.device == "cpu":
        if count and os.environ.get("VLLM_TARGET_DEVICE") != "cpu":
            raise MachineError(
                f"device=cpu: {count} GPUs are visible, and vLLM would take one with settings made "
                "for a CPU; use device=cuda"
            )
        return
    if count < engine.tensor_parallel_size:
        raise MachineError(
            f"device=cuda: {count} GPUs are visible, device.engine.options.tensor_parallel_size="
            f"{engine.tensor_parallel_size} needs as many; use device=cpu, or start on a GPU node"
        )
