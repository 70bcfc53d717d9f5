"""TinyLoRA, and LoRA-XS, which is TinyLoRA with the canonical basis for P."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tinylora_rl.adapter.config import TinyLoraConfig
from tinylora_rl.errors import ConfigError, first_line
from tinylora_rl.methods.base import Method, Size, TrainedPolicy, register_method

if TYPE_CHECKING:
    import torch

    from tinylora_rl.base_model.dims import ModelDims


@register_method
@dataclasses.dataclass(frozen=True)
class TinyLora(Method):
    """W + U S (sum_i v_i P_i) Vt, with v trained."""

    name = "tinylora"
    title = "TinyLoRA"
    model_type = "tinylora"  # without our plugin verl knows no such type
    sync_modes = ("merged", "vector", "factors")
    has_vector = True
    sync_rounds = True

    config: TinyLoraConfig

    @classmethod
    def from_options(cls, options: Mapping[str, Any]) -> TinyLora:
        try:
            return cls(TinyLoraConfig.from_dict(options))
        except (TypeError, ValueError) as error:
            raise ConfigError(f"adapter.{first_line(error)}") from error

    @property
    def label(self) -> str:
        return "lora_xs" if self.config.projection == "basis" else "tinylora"

    def describe(self, model: torch.nn.Module) -> str:
        from tinylora_rl.adapter.targets import find_targets

        config = self.config
        try:
            targets = find_targets(model, config)
            count = config.num_parameters(num_modules=len(targets))
        except ValueError as error:
            raise ConfigError(f"adapter.{first_line(error)}") from error
        weights = [model.get_submodule(target.name).weight for target in targets]
        smallest = min(min(weight.shape) for weight in weights)  # type: ignore[arg-type]
        if config.r > smallest:
            raise ConfigError(
                f"adapter.r={config.r}: the smallest adapted weight has rank {smallest}; use r <= "
                f"{smallest}"
            )
        std = "" if config.projection == "basis" else f"std {config.std:.4f} "
        return (
            f"{count} numbers over {len(targets)} modules: r={config.r} u={config.u} "
            f"n_tie={config.n_tie} {config.tie_mode}, P {config.projection} {std}"
            f"seed {config.seed}, S {config.svd_split}, v {config.v_dtype}"
        )

    def size(self, dims: ModelDims) -> Size:
        config = self.config
        linears = dims.adapted(config.target_modules)
        factors = config.r * sum(num_out + num_in for num_out, num_in in linears)
        count = config.num_parameters(num_modules=len(linears))
        return Size(
            what=f"{count:,} numbers over {len(linears)} modules: TinyLoRA r={config.r} "
            f"u={config.u} n_tie={config.n_tie} {config.tie_mode}",
            num_parameters=count,
            adapted_numbers=sum(num_out * num_in for num_out, num_in in linears),
            factor_numbers=factors,
            vector_bytes=4 * count,
            bank_bytes=4 * (factors + len(linears) * config.u * config.r * config.r),
        )

    def check_resumes(self, checkpoint: str, manifest: Mapping[str, Any] | None) -> None:
        if manifest is None:
            raise ConfigError(
                f"trainer.resume={checkpoint}: is of no TinyLoRA adapter, this run trains a "
                "TinyLoRA adapter"
            )
        saved = TinyLoraConfig.from_dict(manifest["config"]).to_dict()
        different = [
            f"adapter.{key}={value} here, {saved[key]} there"
            for key, value in self.config.to_dict().items()
            if value != saved[key]
        ]
        if different:
            raise ConfigError(
                f"trainer.resume={checkpoint}: is of another adapter ({'; '.join(different)}); "
                "resume with the same, or give another run.dir"
            )

    def trained_policy(self, run_dir: Path) -> TrainedPolicy:
        return TrainedPolicy(artifact=run_dir / "adapter")

    def save_policy(self, module: torch.nn.Module, tokenizer: Any, run_dir: Path) -> None:
        """Writes nothing: the newest checkpoint has the adapter already."""
