"""Adapts a linear: y = x W^T + b + ((x right^T) R^T) left^T, as one differentiable operation.

Legend: O out, I in, R rank, U len(v), T tokens (all leading dimensions).

The class of the nn.Linear is swapped in place: Hugging Face names, state dict, FSDP units and
vLLM's expectations stay as they were, and v, which modules of different shapes and FSDP units
share, stays outside all of them.

The update costs two thin products forward and two backward. What costs more than their arithmetic
is memory traffic, so the base's products are accumulated in place onto theirs: no second (T, O) or
(T, I) tensor exists, and no (O, I) one ever. R(v) is worked out at each call (one small product),
not once per model pass: code that recomputes, shards, compiles or calls a block by itself never
sees a stale one.
"""

from __future__ import annotations

import dataclasses
from typing import Any, Protocol

import torch
from torch import nn
from torch.autograd.function import once_differentiable

from tinylora_rl.adapter.bank import Bank
from tinylora_rl.adapter.delta import acting_vector, mixing_matrix

_SITE = "_tinylora_site"


class State(Protocol):
    """The part of an adapter that a linear looks up at every call, since all of it may change."""

    v: nn.Parameter
    bank: Bank
    is_enabled: bool


@dataclasses.dataclass(frozen=True, kw_only=True)
class Site:
    """A linear's link to its adapter: the module's name, its group and the dtype v acts in."""

    adapter: State
    name: str
    group: int
    v_dtype: torch.dtype = torch.float32


class TinyLoraLinear(nn.Linear):
    """An nn.Linear that adds x dW(v)^T to its output, except while the adapter is disabled.

    Raises:
        ValueError: W or b asks for a gradient, which this layer does not give.
    """

    _tinylora_site: Site

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        site = self._tinylora_site
        adapter = site.adapter
        if not adapter.is_enabled:
            return super().forward(input)
        x = input
        weight_OI: torch.Tensor = self.weight
        bias_O: torch.Tensor | None = self.bias
        if weight_OI.requires_grad or (bias_O is not None and bias_O.requires_grad):
            raise ValueError(
                f"{site.name}: requires_grad=True, but the base is frozen under an adapter; "
                "freeze it, or call adapter.remove()"
            )
        device_type = x.device.type
        if torch.is_autocast_enabled(device_type):  # a Function's insides are not autocast
            dtype = torch.get_autocast_dtype(device_type)
            x, weight_OI = x.to(dtype), weight_OI.to(dtype)
            bias_O = None if bias_O is None else bias_O.to(dtype)
        factors = adapter.bank[site.name]
        return _AdaptedLinear.apply(
            x,
            weight_OI,
            bias_O,
            factors.left_OR,
            factors.right_RI,
            factors.P_URR,
            adapter.v[site.group],
            site.v_dtype,
        )


class _AdaptedLinear(torch.autograd.Function):
    """Differentiates the adapted linear in x and v_U.

    Wide tensors are in x's dtype; R and all that v's gradient sums over are in fp32. Of the
    activations only x right^T (R, T) is kept for backward.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: torch.Tensor,
        weight_OI: torch.Tensor,
        bias_O: torch.Tensor | None,
        left_OR: torch.Tensor,
        right_RI: torch.Tensor,
        P_URR: torch.Tensor,
        v_U: torch.Tensor,
        v_dtype: torch.dtype,
    ) -> torch.Tensor:
        num_out, num_in = weight_OI.shape
        with torch.autocast(x.device.type, enabled=False):
            x_TI = x.reshape(-1, num_in)
            # thin products have tokens last, as (R, T): BLAS does them up to twice as fast so
            z_RT = right_RI.to(x.dtype) @ x_TI.T
            R_RR = mixing_matrix(acting_vector(v_U, v_dtype), P_URR)
            mixed_RT = (R_RR @ z_RT.float()).to(x.dtype)
            left_RO = left_OR.to(x.dtype).T
            # The update first, the base's product on top of it: the sum is rounded once, so that an
            # update below half a unit of y's last place is not lost (in bf16, |v| below 1e-3).
            y_TO = mixed_RT.T @ left_RO if bias_O is None else bias_O.addmm(mixed_RT.T, left_RO)
            y = y_TO.addmm_(x_TI, weight_OI.T).view(*x.shape[:-1], num_out)
        ctx.save_for_backward(weight_OI, left_OR, right_RI, P_URR, R_RR, z_RT)
        ctx.v_dtype = v_U.dtype
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        weight_OI, left_OR, right_RI, P_URR, R_RR, z_RT = ctx.saved_tensors
        num_out, num_in = weight_OI.shape
        dx, dv_U = None, None
        with torch.autocast(dy.device.type, enabled=False):
            dy_TO = dy.reshape(-1, num_out)
            g_RT = (left_OR.to(dy.dtype).T @ dy_TO.T).float()
            if ctx.needs_input_grad[6]:
                dR_RR = g_RT @ z_RT.float().T
                dv_U = (P_URR.flatten(1) @ dR_RR.flatten()).to(ctx.v_dtype)
            if ctx.needs_input_grad[0]:
                dx_TI = (R_RR.T @ g_RT).to(dy.dtype).T @ right_RI.to(dy.dtype)
                dx_TI.addmm_(dy_TO, weight_OI)
                dx = dx_TI.view(*dy.shape[:-1], num_in)
        return dx, None, None, None, None, None, dv_U, None


def wrap(linear_: nn.Linear, site: Site) -> None:
    """Turns `linear_` into a TinyLoraLinear; its parameters stay the same objects."""
    assert type(linear_) is nn.Linear, type(linear_)
    linear_.__class__ = TinyLoraLinear
    linear_.__dict__[_SITE] = site  # past nn.Module.__setattr__, which would register what it finds


def unwrap(linear_: nn.Linear) -> None:
    """Turns `linear_` back into a plain nn.Linear."""
    assert type(linear_) is TinyLoraLinear, type(linear_)
    linear_.__class__ = nn.Linear  # type: ignore[assignment]
    del linear_.__dict__[_SITE]
