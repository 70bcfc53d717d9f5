"""Conventional LoRA through verl and PEFT. For comparison."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tinylora_rl.errors import ConfigError
from tinylora_rl.methods.base import (
    Method,
    Size,
    TrainedPolicy,
    gathered_by_rank_zero,
    register_method,
)

if TYPE_CHECKING:
    import torch

    from tinylora_rl.base_model.dims import ModelDims


@register_method
@dataclasses.dataclass(frozen=True, kw_only=True)
class Lora(Method):
    """W + (alpha / r) B A, with A and B trained.

    Attributes:
        r: rank.
        alpha: numerator of the scale.
        target_modules: last components of the names of the adapted linears.
    """

    name = "lora"
    title = "LoRA"

    r: int
    alpha: float
    target_modules: tuple[str, ...]

    @classmethod
    def from_options(cls, options: Mapping[str, Any]) -> Lora:
        known = {field.name for field in dataclasses.fields(cls)}
        for key, value in options.items():
            if key not in known:
                raise ConfigError(
                    f"adapter.{key}={value!r}: LoRA has no such field; choose from "
                    f"{', '.join(sorted(known))}"
                )
        for key in ("r", "alpha", "target_modules"):
            if options.get(key) is None:
                raise ConfigError(f"adapter.{key}: is missing; adapter=lora sets it")
        rank = options["r"]
        if isinstance(rank, bool) or not isinstance(rank, int) or rank < 1:
            raise ConfigError(f"adapter.r={rank!r}: use an integer of at least 1")
        alpha, modules = options["alpha"], options["target_modules"]
        if isinstance(alpha, bool) or not isinstance(alpha, int | float) or not alpha > 0:
            raise ConfigError(f"adapter.alpha={alpha!r}: use a number above 0")
        if not isinstance(modules, list | tuple):
            raise ConfigError(f"adapter.target_modules={modules!r}: give a list, as [q_proj]")
        return cls(**{**options, "target_modules": tuple(options["target_modules"])})

    @property
    def verl_rank(self) -> int:
        return self.r

    @property
    def transfer(self) -> str:
        # verl 0.9.1 casts what it merges (_merged_lora_per_tensor_param), whatever the rollout's
        # dtype
        return "whole weights, merged by verl in bfloat16"

    def describe(self, model: torch.nn.Module) -> str:
        names = set(self.target_modules)
        shapes = [
            tuple(module.weight.shape)
            for name, module in model.named_modules()
            if name.rpartition(".")[2] in names
        ]
        if not shapes:
            raise ConfigError(
                f"adapter.target_modules={sorted(names)}: the model has no such linear"
            )
        count = self.r * sum(num_out + num_in for num_out, num_in in shapes)
        return f"LoRA r={self.r} alpha={self.alpha}, {count} numbers over {len(shapes)} modules"

    def size(self, dims: ModelDims) -> Size:
        linears = dims.adapted(self.target_modules)
        numbers = self.r * sum(num_out + num_in for num_out, num_in in linears)
        return Size(
            what=f"{numbers:,} numbers over {len(linears)} modules: LoRA r={self.r}",
            num_parameters=numbers,
            adapted_numbers=sum(num_out * num_in for num_out, num_in in linears),
            factor_numbers=numbers,
        )

    def trained_policy(self, run_dir: Path) -> TrainedPolicy:
        return TrainedPolicy(lora=run_dir / "adapter", rank=self.r)

    def save_policy(self, module: torch.nn.Module, tokenizer: Any, run_dir: Path) -> None:
        """Writes a PEFT folder: of a PEFT model `save_pretrained` saves the factors alone."""
        with gathered_by_rank_zero(module, run_dir / "adapter") as fresh:
            if fresh is not None:
                (fresh / "README.md").unlink(missing_ok=True)  # PEFT's form, left blank
