"""Merged weights W' = W + dW(v), from the pristine base into a fresh buffer, one tensor at a time.

Merging in place and subtracting later drifts (2 % of the update after one bf16 cycle), so no base
weight is ever written to.
"""

from __future__ import annotations

import dataclasses
from typing import Literal

import torch

from tinylora_rl.adapter.delta import Factors, delta_weight

Rounding = Literal["nearest", "stochastic"]
ROUNDINGS = ("nearest", "stochastic")


@dataclasses.dataclass
class Survival:
    """How much of the update is left after rounding to the sampler's dtype.

    The share is <W' - round(W), dW> / <dW, dW> over all tensors merged so far: 1 when nothing is
    lost, 0 when every entry rounded back to the base (bf16's dead zone), NaN while dW is zero.
    """

    kept: torch.Tensor | float = 0.0
    total: torch.Tensor | float = 0.0

    def add(self, merged_OI: torch.Tensor, base_OI: torch.Tensor, delta_OI: torch.Tensor) -> None:
        # against the base as the sampler would hold it, so that only the update's rounding counts
        rounded_OI = base_OI.to(merged_OI.dtype)
        moved_OI = merged_OI.to(torch.float32) - rounded_OI.to(torch.float32)
        self.kept = self.kept + torch.sum(moved_OI * delta_OI)
        self.total = self.total + torch.sum(delta_OI * delta_OI)

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
    with torch.no_grad():
        delta_OI = delta_weight(factors, v_U)
        exact_OI = weight_OI.to(torch.float32) + delta_OI
        merged_OI = round_to(exact_OI, dtype, rounding=rounding, generator=generator)
        if survival is not None:
            survival.add(merged_OI, weight_OI, delta_OI)
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
