"""Applies one adapter's update dW(v) to base weights, with or without a model around them."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator, Sequence

import torch
from torch import nn

from tinylora_rl.adapter.bank import Bank, Identity, identify
from tinylora_rl.adapter.config import TinyLoraConfig
from tinylora_rl.adapter.delta import acting_vector, delta_norm, lora_factors
from tinylora_rl.adapter.merge import Rounding, Survival, merge_weight
from tinylora_rl.adapter.projection import seeded_generator
from tinylora_rl.adapter.targets import Target, assign_groups
from tinylora_rl.adapter.weights import Weights, as_weights


class Update:
    """v and everything needed to compute dW(v) of every target.

    Attributes:
        config: the description of the adapter.
        targets: the adapted modules in depth order.
        groups: {module name: index of its row in v}.
        v: (G, u), zero at first. float32, unless config.v_master is off: then v_dtype.
        v_dtype: dtype that v is rounded to wherever it acts.
        bank: {module name: frozen factors}.
        base: the weights that the bank was built from; `identity` reads them.
    """

    v: torch.Tensor

    def __init__(
        self,
        base: nn.Module | Weights,
        targets: Sequence[Target],
        config: TinyLoraConfig,
        bank: Bank,
    ) -> None:
        self.config = config
        self.targets = list(targets)
        self.groups = assign_groups(targets, config)
        self.bank = bank
        self.base = as_weights(base)
        num_groups = config.num_groups(num_modules=len(targets))
        device = bank[targets[0].name].left_OR.device
        self.v_dtype: torch.dtype = getattr(torch, config.v_dtype)
        moved_dtype = torch.float32 if config.v_master else self.v_dtype
        self.v = torch.zeros((num_groups, config.u), dtype=moved_dtype, device=device)
        self._by_weight_name = {target.weight_name: target.name for target in targets}

    @functools.cached_property
    def identity(self) -> Identity:
        """Digests of base weights and P. Reads whole weights: first use it before sharding them."""
        return identify(self.base, self.targets, self.bank)

    @functools.cached_property
    def base_dtype(self) -> str:
        """Dtype of the weights in `identity`: bfloat16, float16 or float32.

        Raises:
            ValueError: the adapted weights are not all of one of these.
        """
        dtypes = {self.base.dtype(target.weight_name) for target in self.targets}
        names = sorted(str(dtype).removeprefix("torch.") for dtype in dtypes)
        if len(names) > 1 or names[0] not in ("bfloat16", "float16", "float32"):
            raise ValueError(
                f"base_dtype={', '.join(names)}: the adapted weights must all be bfloat16, float16 "
                "or float32; convert the base model"
            )
        return names[0]

    @property
    def acting_v(self) -> torch.Tensor:
        """v as forward passes and merges see it: (G, u), rounded to v_dtype, fp32, detached."""
        return acting_vector(self.v, self.v_dtype)

    def lora_factors(self) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
        """Returns {module name: (A (r, I), B (O, r))}, fp32, detached, with B @ A == dW."""
        v_GU = self.acting_v
        return {
            name: lora_factors(factors, v_GU[self.groups[name]])
            for name, factors in self.bank.items()
        }

    def merge(
        self,
        weights: Iterable[tuple[str, torch.Tensor]],
        *,
        dtype: torch.dtype | None = None,
        rounding: Rounding = "nearest",
        seed: int | str = 0,
        survival: Survival | None = None,
    ) -> Iterator[tuple[str, torch.Tensor]]:
        """Yields `weights` with every target merged and all others as they came, one at a time.

        Args:
            seed: seeds stochastic rounding, together with each weight's name.

        Raises:
            ValueError: when `weights` ends and a target was not among them.
        """
        v_GU = self.acting_v
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

    def relative_delta_norm(self, v_GU: torch.Tensor | None = None) -> float:
        """Computes |dW| / |W| in Frobenius norm over all adapted modules.

        Args:
            v_GU: another v than the adapter's own. dW is linear in v, so that a step of v gives
                the step of the weights.
        """
        with torch.no_grad():
            acting_GU = self.acting_v if v_GU is None else v_GU
            square = sum(
                delta_norm(f, acting_GU[self.groups[name]]).double() ** 2
                for name, f in self.bank.items()
            )
        base_square = sum(factors.weight_norm**2 for factors in self.bank.values())
        return float(square) ** 0.5 / base_square**0.5
