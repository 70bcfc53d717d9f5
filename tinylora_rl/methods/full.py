"""Full fine-tuning through verl: every weight is trained. For comparison."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from tinylora_rl.errors import ConfigError
from tinylora_rl.methods.base import Method, Size, register_method

if TYPE_CHECKING:
    import torch

    from tinylora_rl.base_model.dims import ModelDims


@register_method
class Full(Method):
    name = "full"
    title = "full fine-tuning"

    @classmethod
    def from_options(cls, options: Mapping[str, Any]) -> Full:
        for key, value in options.items():
            raise ConfigError(f"adapter.{key}={value!r}: full fine-tuning has no options")
        return cls()

    def describe(self, model: torch.nn.Module) -> str:
        count = sum(parameter.numel() for parameter in model.parameters())
        return f"none: all {count} numbers of the model"

    def size(self, dims: ModelDims) -> Size:
        return Size(
            what=f"all {dims.num_parameters:,} numbers of the model",
            num_parameters=dims.num_parameters,
            adapted_numbers=dims.num_parameters,
            is_whole=True,
        )
