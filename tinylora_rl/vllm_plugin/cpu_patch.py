"""The patch without which the CPU build of vLLM loads weights once and never again.

Applied only on a machine without an accelerator; states why and when it can go.
"""

from __future__ import annotations

from functools import partial


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
