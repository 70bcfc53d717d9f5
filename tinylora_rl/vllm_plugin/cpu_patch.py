"""What the CPU build of vLLM does not do and a run needs: to load weights twice, to keep to seeds.

Applied only on a machine without an accelerator; each states why, and when it can go.
"""

from __future__ import annotations

from functools import partial, wraps
from typing import Any

import torch


def patch_cpu_build() -> None:
    """Both patches are applied to this process, once; before the worker builds its model."""
    keep_weights_after_packing()
    keep_to_seeds_in_mixed_batches()


def keep_weights_after_packing() -> None:
    """vLLM's CPU linears keep their weight beside the packed copy, so that it can be loaded again.

    Why: `dispatch_cpu_unquantized_gemm(layer, remove_weight=True)` replaces `layer.weight` by an
    empty tensor without a weight loader; the first weight sync then fails. verl packs anew after
    each sync (`process_weights_after_loading`), so the kept weight is the only thing missing.
    Remove
    when: vLLM's CPU backend supports reloading weights.
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
    """A request with a seed is sampled by it, whichever requests are in the batch beside it.

    Why: `TopKTopPSampler.forward_cpu` draws for the whole batch at once, past every seed, unless
    each row has one; a greedy row has none. A validation of greedy and sampled rows could then
    not be repeated. Upstream: vllm-project/vllm issue 51226.
    Remove when: vLLM has mended it (pull request 51206).
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
        if generators:  # the other rows draw as they would have, from torch's own
            unseeded = dict.fromkeys(range(len(logits_BV)), torch.default_generator)
            generators = {**unseeded, **generators}
        return original(sampler, logits_BV, generators, *top_k_top_p)

    TopKTopPSampler.forward_cpu = forward_cpu
