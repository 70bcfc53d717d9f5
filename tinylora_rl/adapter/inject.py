"""Surgery: a Hugging Face model becomes the base plus one adapter, in place."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterable, Iterator

import torch
from torch import nn

from tinylora_rl.adapter.bank import Bank, Identity, build_bank, identify
from tinylora_rl.adapter.config import TinyLoraConfig
from tinylora_rl.adapter.delta import delta_norm, lora_factors
from tinylora_rl.adapter.layer import Site, unwrap, wrap
from tinylora_rl.adapter.merge import Rounding, Survival, merge_weight
from tinylora_rl.adapter.projection import seeded_generator
from tinylora_rl.adapter.targets import Target, find_targets, linear_named
from tinylora_rl.adapter.tying import assign_groups


class Adapter:
    """One TinyLoRA adapter on one model: v, and everything it takes to use it.

    Not an nn.Module: v is shared by modules in different FSDP units, so no module may own it. It is
    replicated, and whoever trains in parallel averages its gradient by hand.

    Attributes:
        config: what the adapter is.
        targets: the adapted modules in depth order.
        groups: {module name: index of its row in v}.
        v: nn.Parameter (G, u), float32, zero at first, so that the model starts as the base.
        bank: {module name: frozen factors}.
        is_enabled: whether forward passes include the update.
    """

    def __init__(
        self, model: nn.Module, targets: list[Target], config: TinyLoraConfig, bank: Bank
    ) -> None:
        self.config = config
        self.targets = targets
        self.groups = assign_groups(targets, config)
        self.bank = bank
        self.is_enabled = True
        self._model = model
        num_groups = config.num_groups(num_modules=len(targets))
        device = bank[targets[0].name].left_OR.device
        self.v = nn.Parameter(
            torch.zeros((num_groups, config.u), dtype=torch.float32, device=device)
        )
        self._by_weight_name = {target.weight_name: target.name for target in targets}

    @functools.cached_property
    def identity(self) -> Identity:
        """What v means anything relative to. Reads whole weights: first use it before sharding
        them.
        """
        return identify(self._model, self.targets, self.bank)

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

    def lora_factors(self) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
        """{module name: (A (r, I), B (O, r))}, fp32, detached, with B @ A == dW."""
        v_GU = self.v.detach()
        return {
            name: lora_factors(factors, v_GU[self.groups[name]])
            for name, factors in self.bank.items()
        }

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

    def merge(
        self,
        weights: Iterable[tuple[str, torch.Tensor]],
        *,
        dtype: torch.dtype | None = None,
        rounding: Rounding = "nearest",
        seed: int | str = 0,
        survival: Survival | None = None,
    ) -> Iterator[tuple[str, torch.Tensor]]:
        """`weights` with every target merged and all others as they came, lazily, one at a time.

        Raises:
            ValueError: when `weights` ends and a target was not among them.
        """
        v_GU = self.v.detach()
        missing = dict.fromkeys(self._by_weight_name)
        for weight_name, weight in weights:
            name = self._by_weight_name.get(weight_name)
            if name is None:
                yield weight_name, weight
                continue
            del missing[weight_name]
            generator = None
            if rounding == "stochastic":
                noise_seed = seeded_generator("rounding", seed, weight_name).initial_seed()
                generator = torch.Generator(weight.device).manual_seed(noise_seed)
            yield (
                weight_name,
                merge_weight(
                    weight,
                    self.bank[name].to(weight.device),
                    v_GU[self.groups[name]].to(weight.device),
                    dtype=dtype,
                    rounding=rounding,
                    generator=generator,
                    survival=survival,
                ),
            )
        if missing:
            raise ValueError(
                f"{len(missing)} adapted weights were not among those to merge, first "
                f"{next(iter(missing))}"
            )

    def relative_delta_norm(self) -> float:
        """|dW| / |W| in Frobenius norm over all adapted modules."""
        with torch.no_grad():
            v_GU = self.v.detach()
            square = sum(
                delta_norm(f, v_GU[self.groups[name]]).double() ** 2
                for name, f in self.bank.items()
            )
        base_square = sum(factors.weight_norm**2 for factors in self.bank.values())
        return float(square) ** 0.5 / base_square**0.5

    def remove(self) -> None:
        """The model is what it was before `inject`, gradients of the base still off."""
        for target in self.targets:
            unwrap(linear_named(self._model, target.name))


def inject(model: nn.Module, config: TinyLoraConfig, *, bank: Bank | None = None) -> Adapter:
    """`model` carries a new adapter, its base is frozen, its outputs are unchanged (v = 0).

    Args:
        model: a Hugging Face causal language model; changed in place.
        bank: the factors, where the caller has them; None builds them from the model's weights.

    Raises:
        ValueError: `config` does not fit the model; see `find_targets`, `assign_groups`,
            `build_bank`.
    """
    targets = find_targets(model, config)
    if bank is None:
        bank = build_bank(model, targets, config)
    adapter = Adapter(model, targets, config, bank)
    model.requires_grad_(False)
    for target in targets:
        site = Site(adapter=adapter, name=target.name, group=adapter.groups[target.name])
        wrap(linear_named(model, target.name), site)
    return adapter
