"""Verifies that a merged weight contains dW(v), by reading a few of its rows.

A sampler that should have the policy is asked for W'[rows] Vt^T of every adapted module, a few rows
each. Along the update's own directions that is

    W[rows] Vt^T + (U S)[rows] R (Vt Vt^T)

which the trainer works out from the base's rows and v, rounding included. A merge that did not
happen, happened twice, with another v or on another base, gives other numbers. It measures the
weights, not the message that brought them.

Rounding to nearest is part of the expectation and not noise: it takes small updates back entry by
entry (the dead zone), always in the same direction.

Legend: O out, I in, R rank, K checked rows; a shard has some of the O rows and some columns i of I.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence

import torch

from tinylora_rl.adapter.delta import Factors, mixing_matrix

NUM_ROWS = 8  # a module; spread over its rows, so that tensor-parallel shards have some each
NUM_DIRECTIONS = 8  # of the update's own; of a larger rank the leading ones
HALF_ULP = {torch.float32: 2.0**-24, torch.bfloat16: 2.0**-8, torch.float16: 2.0**-11}
NUM_SIGMA = 8.0
ARITHMETIC = 2.0**-20  # of the sum of absolute products: how far fp32 sums may differ
TIES = 1e-4  # share of entries that two orders of summing round to other neighbours; seen: 1e-5

Rounded = str
"""The thing that the sampler rounds: "nearest" or "stochastic" weights, or "factors"."""


def choose_rows(left_OR: torch.Tensor) -> list[int]:
    """Chooses K rows (all, of a smaller matrix): in each K-th of them the one that moves most."""
    sizes = left_OR.norm(dim=1)
    bounds = torch.linspace(0, len(sizes), min(NUM_ROWS, len(sizes)) + 1).long().tolist()
    return [start + int(sizes[start:stop].argmax()) for start, stop in itertools.pairwise(bounds)]


def measure(weight_Ki: torch.Tensor, right_Ri: torch.Tensor) -> torch.Tensor:
    """Returns W'[rows, columns] Vt[:, columns]^T: (K, R) in fp64, R at most `NUM_DIRECTIONS`."""
    return weight_Ki.double() @ right_Ri[:NUM_DIRECTIONS].double().T


@dataclasses.dataclass(frozen=True)
class SpotCheck:
    """The checked rows of one module, before any update.

    Attributes:
        rows: their indices among the module's O rows.
        base_KI: the base weight there that the update is added to, fp32.
        left_KR: (U S)[rows], fp32.
        right_RI: Vt, fp32.
        P_URR: the module's P.
    """

    rows: Sequence[int]
    base_KI: torch.Tensor
    left_KR: torch.Tensor
    right_RI: torch.Tensor
    P_URR: torch.Tensor

    @classmethod
    def of(cls, rows: Sequence[int], base_KI: torch.Tensor, factors: Factors) -> SpotCheck:
        rows = list(rows)
        return cls(
            rows=rows,
            base_KI=base_KI.float().cpu(),
            left_KR=factors.left_OR[rows].cpu(),
            right_RI=factors.right_RI.cpu(),
            P_URR=factors.P_URR.cpu(),
        )

    def expect(
        self,
        v_U: torch.Tensor,
        rows: Sequence[int],
        columns: slice,
        *,
        dtype: torch.dtype,
        rounded: Rounded,
    ) -> Expected:
        """Works out the measurement of a shard with these `rows` (of self.rows) and columns."""
        of = [list(self.rows).index(row) for row in rows]
        base_Ki = self.base_KI[of][:, columns].double()
        right_Ri = self.right_RI[:, columns].double()
        seen_Ri = right_Ri[:NUM_DIRECTIONS]
        B_KR = self.left_KR[of].double() @ mixing_matrix(v_U.double(), self.P_URR.double())
        exact_Ki = base_Ki + B_KR @ right_Ri
        base = base_Ki @ seen_Ri.T
        # sums of as many products as there are columns, in fp32 at the worst
        slack = ARITHMETIC * (exact_Ki.abs() @ seen_Ri.abs().T) + 1e-12
        spread = (exact_Ki.square() @ seen_Ri.square().T).sqrt()
        half_ulp = HALF_ULP[dtype]
        if rounded == "factors":
            # vLLM has A and B in its dtype and sums in it: relative errors of the update
            noise = torch.zeros_like(base)
            slack += 4 * half_ulp * (B_KR.abs() @ (right_Ri.abs() @ seen_Ri.abs().T))
            sampler_Ki = exact_Ki
        elif rounded == "stochastic":
            noise = half_ulp * spread  # one of two neighbours, unbiased
            sampler_Ki = exact_Ki
        else:
            sampler_Ki = exact_Ki.to(torch.float32).to(dtype).double()
            noise = TIES**0.5 * 2 * half_ulp * spread
            largest = (exact_Ki.abs()[:, None, :] * seen_Ri.abs()).amax(dim=2)
            slack += 2 * 2 * half_ulp * largest  # two entries that went the other way
        return Expected(base=base, moved=sampler_Ki @ seen_Ri.T - base, noise=noise, slack=slack)


@dataclasses.dataclass(frozen=True)
class Expected:
    """The measurement that a weight must give, all (K, R) in fp64.

    Attributes:
        base: the measurement without any update.
        moved: the part that the update adds.
        noise: standard deviation that rounding gives it.
        slack: deterministic error bound, added to the rounding noise.
    """

    base: torch.Tensor
    moved: torch.Tensor
    noise: torch.Tensor
    slack: torch.Tensor

    def excess(self, measured: torch.Tensor) -> float:
        """Returns the largest error in units of the tolerance: above 1, these are other weights."""
        error = (measured - self.base - self.moved).abs()
        tolerance = NUM_SIGMA * self.noise + self.slack
        return float((error / tolerance).max()) if len(measured) else 0.0


@dataclasses.dataclass
class Share:
    """The share of the update that the weights contain, over many measurements.

    `value` is 0 for the base, 1 for the policy and 2 where the update was applied twice; its
    standard deviation is `deviation`.
    """

    projected: float = 0.0
    total: float = 0.0

    def add(self, expected: Expected, measured: torch.Tensor) -> None:
        variance = (expected.noise + expected.slack).square()
        self.projected += float(((measured - expected.base) * expected.moved / variance).sum())
        self.total += float((expected.moved.square() / variance).sum())

    @property
    def value(self) -> float:
        return self.projected / self.total if self.total > 0 else float("nan")

    @property
    def deviation(self) -> float:
        return self.total**-0.5 if self.total > 0 else float("inf")

    @property
    def is_off(self) -> bool:
        """True where the share measurably differs from 1."""
        return abs(self.value - 1) > max(NUM_SIGMA * self.deviation, 0.02)
