"""Estimates the signal-to-noise ratio of v's gradient: too small a rate, or no signal?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch


def moment_snr(state: Mapping[str, Any], betas: tuple[float, float]) -> torch.Tensor | None:
    """Estimates the ratio for each tied group from Adam's moments: (G,) in [0, 1].

    |m| / |sqrt(s)| over the group's numbers, both corrected for their start at zero. 1: every
    gradient so far was the same. Gradients that are all noise give sqrt((1 - b1) / (1 + b1)) in the
    long run, 0.23 at b1 = 0.9.

    `state` is Adam's, of v (G, u). None before the second step: one gradient has no spread.
    """
    if "exp_avg_sq" not in state or float(state["step"]) < 2:
        return None
    step = float(state["step"])
    m_GU = state["exp_avg"].float() / (1 - betas[0] ** step)
    s_GU = state["exp_avg_sq"].float() / (1 - betas[1] ** step)
    return m_GU.norm(dim=1) / s_GU.sum(dim=1).sqrt().clamp_min(1e-30)


class MicroBatchNoise:
    """Collects the gradients of the micro-batches of one update, on one rank.

    A gradient is a sum over micro-batches; were they independent, the sum's noise would be theirs.
    """

    def __init__(self, v: torch.nn.Parameter) -> None:
        self._parts: list[torch.Tensor] = []
        self._sum: torch.Tensor | None = None
        v.register_post_accumulate_grad_hook(self._after_backward)

    # autograd calls it after every micro-batch; v.grad is then the sum of all so far
    def _after_backward(self, v: torch.Tensor) -> None:
        assert v.grad is not None
        so_far = v.grad.detach().float().clone()
        self._parts.append(so_far if self._sum is None else so_far - self._sum)
        self._sum = so_far

    def take_snr(self) -> float | None:
        """Computes |g|^2 over the variance of g and starts anew; None below two micro-batches.

        About 1 (or below) where the update is mostly noise.
        """
        parts, self._parts, self._sum = self._parts, [], None
        count = len(parts)
        if count < 2:
            return None
        g = torch.stack(parts)
        variance = count * g.var(dim=0).sum()
        return float(g.sum(dim=0).square().sum() / variance.clamp_min(1e-30))
