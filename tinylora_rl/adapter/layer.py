"""The adapted linear.

The class of the nn.Linear is swapped in place: Hugging Face names, state dict, FSDP units and
vLLM's expectations stay as they were, and v, which modules of different shapes and FSDP units
share, stays outside all of them.
"""

from __future__ import annotations

import dataclasses
from typing import Protocol

import torch
from torch import nn

from tinylora_rl.adapter.bank import Bank
from tinylora_rl.adapter.delta import Factors, delta_forward

_SITE = "_tinylora_site"


class State(Protocol):
    """What a linear looks up at every call: an adapter moves, trains and is switched off."""

    v: nn.Parameter
    bank: Bank
    is_enabled: bool


@dataclasses.dataclass(frozen=True, kw_only=True)
class Site:
    """Where one linear meets the adapter: the adapter, the module's name and its group."""

    adapter: State
    name: str
    group: int

    @property
    def factors(self) -> Factors:
        return self.adapter.bank[self.name]


class TinyLoraLinear(nn.Linear):
    """An nn.Linear whose output is x W^T + b + x dW(v)^T, or the base's while the adapter is
    disabled.
    """

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        output = super().forward(input)
        site: Site = self.__dict__[_SITE]
        if not site.adapter.is_enabled:
            return output
        return output + delta_forward(
            input.to(output.dtype), site.factors, site.adapter.v[site.group]
        )


def wrap(linear: nn.Linear, site: Site) -> None:
    """`linear` is a TinyLoraLinear from here on; its parameters are the same objects."""
    assert type(linear) is nn.Linear, type(linear)
    linear.__class__ = TinyLoraLinear
    linear.__dict__[_SITE] = site  # past nn.Module.__setattr__, which would register what it finds


def unwrap(linear: nn.Linear) -> None:
    """`linear` is a plain nn.Linear again."""
    assert type(linear) is TinyLoraLinear, type(linear)
    linear.__class__ = nn.Linear  # type: ignore[assignment]
    del linear.__dict__[_SITE]
