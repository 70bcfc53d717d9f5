"""Surgery: a Hugging Face model becomes the base plus one adapter, in place."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch
from torch import nn

from tinylora_rl.adapter.bank import Bank, build_bank
from tinylora_rl.adapter.config import TinyLoraConfig
from tinylora_rl.adapter.layer import Site, unwrap, wrap
from tinylora_rl.adapter.merge import Rounding
from tinylora_rl.adapter.targets import Target, find_targets, linear_named
from tinylora_rl.adapter.update import Update
from tinylora_rl.adapter.weights import Weights


class Adapter(Update):
    """One TinyLoRA adapter on one model: v, and everything it takes to use it.

    Not an nn.Module: v is shared by modules in different FSDP units, so no module may own it. It is
    replicated, and whoever trains in parallel averages its gradient by hand.

    Attributes:
        v: nn.Parameter (G, u), zero at first, so that the model starts as the base.
        is_enabled: whether forward passes include the update.
    """

    v: nn.Parameter

    def __init__(
        self,
        model: nn.Module,
        targets: list[Target],
        config: TinyLoraConfig,
        bank: Bank,
        base: Weights | None = None,
    ) -> None:
        super().__init__(model if base is None else base, targets, config, bank)
        self.v = nn.Parameter(self.v)
        self.is_enabled = True
        self._model = model

    def to(self, device: torch.device | str) -> Adapter:
        """v (the same Parameter object) and all factors are on `device`."""
        self.v.data = self.v.data.to(device)
        self.bank = {name: factors.to(device) for name, factors in self.bank.items()}
        return self

    @contextlib.contextmanager
    def disabled(self) -> Iterator[None]:
        """Inside, the model is the base model: the reference policy, without a second copy."""
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
        """(Hugging Face name, merged weight) of every target; the base is untouched.

        Args:
            seed: seeds stochastic rounding, together with each weight's name.
        """
        pristine = (
            (t.weight_name, linear_named(self._model, t.name).weight.detach()) for t in self.targets
        )
        return self.merge(pristine, dtype=dtype, rounding=rounding, seed=seed)

    def remove(self) -> None:
        """The model is what it was before `inject`, gradients of the base still off."""
        for target in self.targets:
            unwrap(linear_named(self._model, target.name))


def inject(
    model: nn.Module,
    config: TinyLoraConfig,
    *,
    bank: Bank | None = None,
    base: Weights | None = None,
) -> Adapter:
    """`model` carries a new adapter, its base is frozen, its outputs are unchanged (v = 0).

    Args:
        model: a Hugging Face causal language model; changed in place.
        bank: the factors, where the caller has them; None builds them from the base weights.
        base: the checkpoint that the model was loaded from, which then stands for the base's
            identity; None takes the model's own weights.

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
    return adapter
