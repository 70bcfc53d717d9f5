"""The patch without which vLLM's CPU build answers for the base with somebody's adapter.

Applied only on a machine without an accelerator; states why and when it can go.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch


def keep_the_base_apart() -> None:
    """On a CPU, tokens of a request without an adapter get nothing added by any slot.

    Why: vLLM marks them with slot -1, and its torch kernels index the slots with it: beside
    requests with adapters, they are given the adapter in the last slot (vllm-project/vllm#48421;
    GPU kernels skip them). With fewer slots than adapters, none stays empty.
    Remove when: `test_vllm_gives_the_base_an_adapter_on_a_cpu` fails.
    """
    from vllm.lora.punica_wrapper import punica_cpu

    original = punica_cpu.sgmv_shrink
    if not isinstance(original, partial):
        punica_cpu.sgmv_shrink = partial(_shrink, original)


def _shrink(  # type: ignore[no-untyped-def]
    original,
    inputs: torch.Tensor,
    lora_a: torch.Tensor,
    output: torch.Tensor,
    starts: torch.Tensor,
    lengths: torch.Tensor,
    slots: torch.Tensor,
    *rest: Any,
) -> None:
    original(inputs, lora_a, output, starts, lengths, slots, *rest)
    output[torch.repeat_interleave(slots, lengths) < 0] = 0  # what is expanded from it is 0, too
