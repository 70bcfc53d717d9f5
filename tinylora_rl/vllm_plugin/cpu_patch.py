"""Patches of vLLM's CPU build: loading weights twice, seeds in mixed batches, LoRA beside the base.

Applied in workers without an accelerator; each states its reason and when it can be removed.
"""

from __future__ import annotations

from functools import partial, wraps
from typing import Any

import torch


def patch_cpu_build() -> None:
    """Applies all patches to this process, once; call it before the worker builds its model."""
    keep_weights_after_packing()
    keep_to_seeds_in_mixed_batches()
    keep_the_base_apart()


def keep_weights_after_packing() -> None:
    """Keeps the weight of vLLM's CPU linears beside the packed copy, so that it can be reloaded.

    Why: vLLM calls `dispatch_cpu_unquantized_gemm(layer, remove_weight=True)` after it has loaded
    the model, which replaces `layer.weight` by an empty tensor without a weight loader; the first
    weight sync then fails. Packing again after each sync (`process_weights_after_loading`) works
    as it is.
    Remove when: vLLM's CPU backend supports reloading weights.
    """
    from vllm.model_executor.layers import utils

    original = utils.dispatch_cpu_unquantized_gemm
    if isinstance(original, partial):
        return
    utils.dispatch_cpu_unquantized_gemm = partial(_dispatch_and_keep, original)


def _dispatch_and_keep(original, layer, remove_weight: bool) -> None:  # type: ignore[no-untyped-def]
    del remove_weight
    original(layer, remove_weight=False)


def keep_to_seeds_in_mixed_batches() -> None:
    """Samples a request that has a seed by this seed, whatever else is in the batch.

    Why: vLLM samples every decoding step by `TopKTopPSampler.forward_cpu`, which draws for the
    whole batch at once and ignores all seeds unless each row has one; a greedy row has none. A
    validation of greedy and sampled rows could then not be repeated. Upstream: vllm-project/vllm
    issue 51226.
    Remove when: vLLM has fixed it (pull request 51206); `test_vllm_still_needs_the_patch` fails.
    """
    from vllm.v1.sample.ops.topk_topp_sampler import TopKTopPSampler

    original = TopKTopPSampler.forward_cpu
    if hasattr(original, "__wrapped__"):
        return

    @wraps(original)
    def forward_cpu(
        sampler: Any,
        logits_BV: torch.Tensor,
        generators: dict[int, torch.Generator],
        *top_k_top_p: Any,
    ) -> Any:
        if generators:  # the other rows draw from torch's own generator, as they would have
            unseeded = dict.fromkeys(range(len(logits_BV)), torch.default_generator)
            generators = {**unseeded, **generators}
        return original(sampler, logits_BV, generators, *top_k_top_p)

    TopKTopPSampler.forward_cpu = forward_cpu


def keep_the_base_apart() -> None:
    """Adds no adapter to the tokens of a request that has none.

    Why: vLLM marks these tokens with slot -1, and its torch kernels index the slots with it: beside
    requests with adapters, they get the adapter in the last slot (GPU kernels skip them). With
    fewer slots than adapters, none stays empty. vLLM calls `sgmv_shrink` in every LoRA layer that
    is given a prompt. Upstream: vllm-project/vllm issue 48421.
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
    output[torch.repeat_interleave(slots, lengths) < 0] = 0  # so that its expansion is 0, too
