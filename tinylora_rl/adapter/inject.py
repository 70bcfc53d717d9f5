"""Puts an adapter into a Hugging Face model, in place."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

import torch
from torch import nn

from tinylora_rl.adapter.bank import Bank, build_bank
from tinylora_rl.adapter.config import TinyLoraConfig
from tinylora_rl.adapter.layer import Site, unwrap, wrap
from tinylora_rl.adapter.merge import Rounding
from tinylora_rl.adapter.targets import Target, find_targets, linear_named
from tinylora_rl.adapter.update import Update
from tinylora_rl.adapter.weights import Weights

REGISTERED_NAME = "tinylora"
"""The submodule of the model that owns v after `inject(..., register=True)`."""


class Adapter(Update):
    """One TinyLoRA adapter on one model: v, and everything it takes to use it.

    Not an nn.Module. Modules in different FSDP units share v, so by default no part of the model
    owns it: v is replicated, and parallel training must average its gradient by hand.

    Attributes:
        v: nn.Parameter (G, u), zero at first, so that the model starts as the base.
        is_enabled: true while forward passes include the update.
    """

    def __init__(
        self,
        model: nn.Module,
        targets: list[Target],
        config: TinyLoraConfig,
        bank: Bank,
        base: Weights | None = None,
    ) -> None:
        super().__init__(model if base is None else base, targets, config, bank)
        self.is_enabled = True
        self._model = model

    @property
    def v(self) -> nn.Parameter:
        return self._owner.v

    @v.setter
    def v(self, value: torch.Tensor) -> None:
        self._owner = _VectorOwner(self, value)

    def register(self) -> None:
        """Makes v a parameter of the model, called "tinylora.v"."""
        self._model.add_module(REGISTERED_NAME, self._owner)

    def to(self, device: torch.device | str) -> Adapter:
        """Moves v (it stays the same Parameter object) and all factors to `device`."""
        self._owner.to(device)
        return self

    @contextlib.contextmanager
    def disabled(self) -> Iterator[None]:
        """Makes the model the base model inside: the reference policy, without a second copy."""
        was_enabled, self.is_enabled = self.is_enabled, False
        try:
            yield
        finally:
            self.is_enabled = was_enabled

    def merged_weights(
        self,
        dtype: torch.dtype = torch.bfloat16,
        rounding: Rounding = "nearest",
        seed: int | str = 0,
    ) -> Iterator[tuple[str, torch.Tensor]]:
        """Yields (Hugging Face name, merged weight) of every target; the base is untouched.

        Args:
            seed: seeds stochastic rounding, together with each weight's name.
        """
        pristine = (
            (t.weight_name, linear_named(self._model, t.name).weight.detach()) for t in self.targets
        )
        return self.merge(pristine, dtype=dtype, rounding=rounding, seed=seed)

    def remove(self) -> None:
        """Makes the model what it was before `inject`, gradients of the base still off."""
        for target in self.targets:
            unwrap(linear_named(self._model, target.name))
        if getattr(self._model, REGISTERED_NAME, None) is self._owner:
            delattr(self._model, REGISTERED_NAME)


class _VectorOwner(nn.Module):
    """Owns v, and is a submodule of the model where v is registered.

    A model that moves to a device takes v and the frozen factors with it. A model that is cast
    (`model.to(torch.bfloat16)`) leaves v as it is: steps of v are far below a bf16 unit.
    """

    def __init__(self, adapter: Adapter, v_GU: torch.Tensor) -> None:
        super().__init__()
        self.adapter = adapter
        self.v = nn.Parameter(v_GU)

    def _apply(
        self, fn: Callable[[torch.Tensor], torch.Tensor], recurse: bool = True
    ) -> _VectorOwner:
        # every cast and move of an nn.Module comes here: to, cuda, half, to_empty
        super()._apply(lambda tensor: tensor.to(fn(tensor).device), recurse)
        device = self.v.device
        self.adapter.bank = {n: factors.to(device) for n, factors in self.adapter.bank.items()}
        return self


def inject(
    model: nn.Module,
    config: TinyLoraConfig,
    *,
    bank: Bank | None = None,
    base: Weights | None = None,
    register: bool = False,
) -> Adapter:
    """Adds a new adapter to `model` and freezes the base; outputs do not change (v = 0).

    Args:
        model: a Hugging Face causal language model; changed in place.
        bank: the factors, where the caller has them; None builds them from the base weights.
        base: the checkpoint that the model was loaded from, which then stands for the base's
            identity; None takes the model's own weights.
        register: makes v a parameter of the model, the only one that is trained. Any loop over
            `model.parameters()` then trains it, as Hugging Face's Trainer does; it is in the state
            dict as "tinylora.v", and DDP averages its gradient. Off, the model's parameters, state
            dict and FSDP units stay the base's.

    Raises:
        ValueError: `config` does not fit the model; see `find_targets`, `assign_groups`,
            `build_bank`.
    """
    targets = find_targets(model, config)
    if bank is None:
        bank = build_bank(model if base is None else base, targets, config)
    adapter = Adapter(model, targets, config, bank, base)
    model.requires_grad_(False)
    for target in targets:
        site = Site(
            adapter=adapter,
            name=target.name,
            group=adapter.groups[target.name],
            v_dtype=adapter.v_dtype,
        )
        wrap(linear_named(model, target.name), site)
    if register:
        adapter.register()
    return adapter
