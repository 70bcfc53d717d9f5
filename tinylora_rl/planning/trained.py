"""What a run trains and sends, counted from the base model's shape alone."""

from __future__ import annotations

import dataclasses

from omegaconf import DictConfig

from tinylora_rl.base_model.dims import ModelDims
from tinylora_rl.settings.config_checks import check_adapter

DTYPE_BYTES = {"fp32": 4, "float32": 4, "float": 4}  # every other dtype here takes two


def dtype_bytes(name: str | None) -> int:
    """Bytes of one number; verl trains in fp32 where no dtype is stated."""
    return DTYPE_BYTES.get(name or "fp32", 2)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Trained:
    """The trained part of a run.

    Attributes:
        what: in words.
        num_parameters: numbers that the optimiser moves.
        adapted_numbers: of the weights that an update changes.
        factor_numbers: of rank-r factors for those.
        vector_bytes: of v as it travels, fp32; 0 where there is none.
        bank_bytes: U, S, Vt and P in fp32; 0 where there is none.
        is_whole: every weight has a gradient and an optimiser's state.
    """

    what: str
    num_parameters: int
    adapted_numbers: int
    factor_numbers: int
    vector_bytes: int
    bank_bytes: int
    is_whole: bool


def trained_by(config: DictConfig, shape: ModelDims) -> Trained:
    """What `config` (of `train` or `sft`, checked) trains on a model of this shape.

    Raises:
        ConfigError: see `check_adapter`.
    """
    adapter = check_adapter(config)
    model = config.actor_rollout_ref.model
    if adapter is None and not model.lora_rank:
        return Trained(
            what=f"all {shape.num_parameters:,} numbers of the model",
            num_parameters=shape.num_parameters,
            adapted_numbers=shape.num_parameters,
            factor_numbers=0,
            vector_bytes=0,
            bank_bytes=0,
            is_whole=True,
        )
    linears = shape.adapted(model.target_modules if adapter is None else adapter.target_modules)
    rank = model.lora_rank if adapter is None else adapter.r
    factor_numbers = rank * sum(num_out + num_in for num_out, num_in in linears)
    count, bank_bytes = factor_numbers, 0
    what = f"LoRA r={rank}"
    if adapter is not None:
        count = adapter.num_parameters(num_modules=len(linears))
        bank_bytes = 4 * (factor_numbers + len(linears) * adapter.u * rank * rank)
        what = f"TinyLoRA r={rank} u={adapter.u} n_tie={adapter.n_tie} {adapter.tie_mode}"
    return Trained(
        what=f"{count:,} numbers over {len(linears)} modules: {what}",
        num_parameters=count,
        adapted_numbers=sum(num_out * num_in for num_out, num_in in linears),
        factor_numbers=factor_numbers,
        vector_bytes=0 if adapter is None else 4 * count,
        bank_bytes=bank_bytes,
        is_whole=False,
    )


def sync_bytes(config: DictConfig, shape: ModelDims, trained: Trained) -> int:
    """What travels to each rollout replica in one sync (`sync/bytes` counts all of them)."""
    number = dtype_bytes(config.actor_rollout_ref.rollout.dtype)
    if not trained.vector_bytes:
        return shape.num_parameters * number  # verl sends whole models
    if config.sync.mode == "vector":
        return trained.vector_bytes
    if config.sync.mode == "factors":
        return trained.factor_numbers * number
    whole = config.sync.sleep_level == 2
    return (shape.num_parameters if whole else trained.adapted_numbers) * number
