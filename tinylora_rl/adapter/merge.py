"""Merged weights W' = W + dW(v), from the pristine base into a fresh buffer, one tensor at a time.

Merging in place and subtracting later drifts (2 % of the update after one bf16 cycle), so no base
weight is ever written to.
"""

from __future__ import annotations

import dataclasses
from typing import Literal

import torch

from tinylora_rl.adapter.delta import Factors, lora_factors

Rounding = Literal["nearest", "stochastic"]
ROUNDINGS = ("nearest", "stochastic")
BLOCK_ELEMENTS = {"cpu": 1 << 17}  # 512 KiB of fp32, half a core's L2; elsewhere 1 GiB at most


@dataclasses.dataclass
class Survival:
    """How much of the update is left after rounding to the sampler's dtype.

    The share is <W' - round(W), dW> / <dW, dW> over all tensors merged so far: 1 when nothing is
    lost, 0 when every entry rounded back to the base (bf16's dead zone), NaN while dW is zero.
    """

    kept: torch.Tensor | float = 0.0
    total: torch.Tensor | float = 0.0

    def add(self, merged_OI: torch.Tensor, base_OI: torch.Tensor, delta_OI: torch.Tensor) -> None:
        """The entries of one tensor, or of a block of one, are counted. `delta_OI` is fp32."""
        # against the base as the sampler would hold it, so that only the update's rounding counts
        moved_OI = merged_OI.to(torch.float32)
        moved_OI = moved_OI.sub(base_OI.to(merged_OI.dtype).to(torch.float32))
        delta = delta_OI.flatten()
        self.kept = self.kept + torch.dot(moved_OI.flatten(), delta).double()
        self.total = self.total + torch.dot(delta, delta).double()

    @property
    def share(self) -> float:
        total = float(self.total)
        return float(self.kept) / total if total > 0 else float("nan")


def merge_weight(
    weight_OI: torch.Tensor,
    factors: Factors,
    v_U: torch.Tensor,
    *,
    dtype: torch.dtype | None = None,
    rounding: Rounding = "nearest",
    generator: torch.Generator | None = None,
    survival: Survival | None = None,
) -> torch.Tensor:
    """W + dW (O, I), summed in fp32 and rounded once to `dtype` (None: the weight's own).

    Args:
        generator: draws the noise of stochastic rounding; required there, on the weight's device.
        survival: is told what rounding left of the update.

    Raises:
        ValueError: an unknown rounding, stochastic without a generator, or stochastic to a dtype
            other than bfloat16 and float32.
    """
    dtype = dtype or weight_OI.dtype
    num_out, num_in = weight_OI.shape
    num_rows = max(1, BLOCK_ELEMENTS.get(weight_OI.device.type, 1 << 28) // num_in)
    with torch.no_grad():
        A_RI, B_OR = lora_factors(factors, v_U)
        merged_OI = torch.empty((num_out, num_in), dtype=dtype, device=weight_OI.device)
        # B for a block of rows, which a cache holds; no fp32 tensor is as large as the weight
        delta_BI = torch.empty(
            (min(num_rows, num_out), num_in), dtype=torch.float32, device=weight_OI.device
        )
        exact_BI = torch.empty_like(delta_BI)
        for start in range(0, num_out, num_rows):
            rows = slice(start, min(start + num_rows, num_out))
            size = rows.stop - rows.start
            base_BI, delta, exact = weight_OI[rows], delta_BI[:size], exact_BI[:size]
            torch.mm(B_OR[rows], A_RI, out=delta)
            exact.copy_(base_BI).add_(delta)
            merged_OI[rows] = round_to(exact, dtype, rounding=rounding, generator=generator)
            if survival is not None:
                survival.add(merged_OI[rows], base_BI, delta)
    return merged_OI


def round_to(
    exact: torch.Tensor,
    dtype: torch.dtype,
    *,
    rounding: Rounding,
    generator: torch.Generator | None,
) -> torch.Tensor:
    """fp32 `exact` in `dtype`: to nearest even, or up and down at the odds that are unbiased."""
    if rounding not in ROUNDINGS:
        raise ValueError(f"rounding={rounding!r}: choose from {', '.join(ROUNDINGS)}")
    if rounding == "nearest" or dtype == torch.float32:
        return exact.to(dtype)
    if generator is None:
        raise ValueError(
            "rounding='stochastic': give a generator, so that the result can be reproduced"
        )
    if dtype != torch.bfloat16:
        raise ValueError(f"rounding='stochastic': only to bfloat16, not {dtype}")
    # bf16 is the upper half of fp32: add 16 random bits below it, then cut them off.
    noise = torch.randint(
        0, 1 << 16, exact.shape, generator=generator, dtype=torch.int32, device=exact.device
    )
    bits = exact.contiguous().view(torch.int32)
    return (
        torch.where(exact.isfinite(), (bits + noise) & ~0xFFFF, bits)
        .view(torch.float32)
        .to(torch.bfloat16)
    )
