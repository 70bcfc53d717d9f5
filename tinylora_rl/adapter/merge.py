"""Merges W' = W + dW(v) from the pristine base into a fresh buffer, one tensor at a time.

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
COUNTED_ROWS = 64  # a mean over a sample of rows is enough


@dataclasses.dataclass
class Survival:
    """The share of the update that is left after rounding to the sampler's dtype.

    It is <W' - round(W), dW> / <dW, dW> over the tensors merged so far: 1 when nothing is
    lost, 0 when every entry rounded back to the base (bf16's dead zone), NaN while dW is zero. Of a
    larger tensor, `COUNTED_ROWS` rows spread over it are counted.
    """

    kept: torch.Tensor | float = 0.0
    total: torch.Tensor | float = 0.0

    def add(self, merged_OI: torch.Tensor, base_OI: torch.Tensor, delta_OI: torch.Tensor) -> None:
        """Counts the entries of one tensor, or of a block of one. `delta_OI` is fp32."""
        # against the base as the sampler would hold it, so that only the update's rounding counts
        moved_OI = merged_OI.to(torch.float32)
        moved_OI = moved_OI.sub(base_OI.to(merged_OI.dtype).to(torch.float32))
        delta = delta_OI.flatten()
        self.kept = self.kept + torch.dot(moved_OI.flatten(), delta).double()
        self.total = self.total + torch.dot(delta, delta).double()

    def add_rows_of(
        self,
        merged_OI: torch.Tensor,
        base_OI: torch.Tensor,
        A_RI: torch.Tensor,
        B_OR: torch.Tensor,
    ) -> None:
        """Counts a sample of the rows of one merged weight."""
        step = max(1, len(base_OI) // COUNTED_ROWS)
        self.add(merged_OI[::step], base_OI[::step], B_OR[::step] @ A_RI)

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
    out_: torch.Tensor | None = None,
) -> torch.Tensor:
    """Computes W + dW (O, I), summed in fp32 and rounded once to `dtype` (None: the weight's own).

    Args:
        generator: draws the noise of stochastic rounding; required there, on the weight's device.
        survival: counts the part of the update that rounding left.
        out_: (O, I) of `dtype` on the weight's device; receives the result and is returned. Must
            not overlap the weight: the pristine one is what every merge starts from.

    Raises:
        ValueError: an unknown rounding, stochastic without a generator, or stochastic to a dtype
            other than bfloat16 and float32.
    """
    dtype = dtype or weight_OI.dtype
    with torch.no_grad():
        A_RI, B_OR = lora_factors(factors, v_U)
        merged_OI = out_
        if merged_OI is None:
            merged_OI = torch.empty(weight_OI.shape, dtype=dtype, device=weight_OI.device)
        assert merged_OI.shape == weight_OI.shape, (merged_OI.shape, weight_OI.shape)
        assert merged_OI.dtype == dtype, (merged_OI.dtype, dtype)
        if weight_OI.dtype == dtype == torch.bfloat16 and rounding == "nearest":
            _merge_in_one_product(merged_OI, weight_OI, A_RI, B_OR)
        else:
            _merge_in_blocks(merged_OI, weight_OI, A_RI, B_OR, rounding, generator)
        if survival is not None:
            survival.add_rows_of(merged_OI, weight_OI, A_RI, B_OR)
    return merged_OI


def _merge_in_one_product(
    merged_OI: torch.Tensor, weight_OI: torch.Tensor, A_RI: torch.Tensor, B_OR: torch.Tensor
) -> None:
    """Adds one bf16 matrix product to the weight, at the speed of memory.

    A factor in bf16 would be 0.2 % off. Each is the sum of two bf16 ones, and of the four products
    the smallest is left out, 2^-16 of the update; the sum is fp32 and rounded once, by the product.
    """
    A_high, B_high = A_RI.to(torch.bfloat16), B_OR.to(torch.bfloat16)
    A_low = (A_RI - A_high.float()).to(torch.bfloat16)
    B_low = (B_OR - B_high.float()).to(torch.bfloat16)
    torch.addmm(
        weight_OI,
        torch.cat([B_high, B_high, B_low], dim=1),
        torch.cat([A_high, A_low, A_high], dim=0),
        out=merged_OI,
    )


def _merge_in_blocks(
    merged_OI: torch.Tensor,
    weight_OI: torch.Tensor,
    A_RI: torch.Tensor,
    B_OR: torch.Tensor,
    rounding: Rounding,
    generator: torch.Generator | None,
) -> None:
    """Merges blocks of rows that fit a cache: no fp32 tensor is as large as the weight."""
    num_out, num_in = weight_OI.shape
    num_rows = max(1, BLOCK_ELEMENTS.get(weight_OI.device.type, 1 << 28) // num_in)
    delta_BI = torch.empty(
        (min(num_rows, num_out), num_in), dtype=torch.float32, device=weight_OI.device
    )
    exact_BI = torch.empty_like(delta_BI)
    for start in range(0, num_out, num_rows):
        rows = slice(start, min(start + num_rows, num_out))
        delta, exact = delta_BI[: rows.stop - start], exact_BI[: rows.stop - start]
        torch.mm(B_OR[rows], A_RI, out=delta)
        exact.copy_(weight_OI[rows]).add_(delta)
        merged_OI[rows] = round_to(exact, merged_OI.dtype, rounding=rounding, generator=generator)


def round_to(
    exact: torch.Tensor,
    dtype: torch.dtype,
    *,
    rounding: Rounding,
    generator: torch.Generator | None,
) -> torch.Tensor:
    """Rounds fp32 `exact` to `dtype`: to nearest even, or up and down at unbiased odds."""
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
