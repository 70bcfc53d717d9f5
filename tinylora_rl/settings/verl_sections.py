"""Typed views of the keys of verl's own tree that this package reads."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from tinylora_rl.errors import ConfigError
from tinylora_rl.settings.in_workers import ROLLOUT_NAME, SEPARATE_TRAINER_MODE, TRAINER_MODES
from tinylora_rl.settings.section import Section, key

_MODEL = "actor_rollout_ref.model"
_ACTOR = "actor_rollout_ref.actor"
_ROLLOUT = "actor_rollout_ref.rollout"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Actor(Section):
    """The trained model and how it is sharded and computed.

    Attributes:
        dynamic_batches: micro-batches are filled up to `max_tokens` tokens a rank.
        model_dtype: of the weights; None is verl's fp32.
        compute_dtype: of verl's mixed precision; None is its bf16.
        attention: `attn_implementation`; None is flash attention.
        packs: sequences are packed without padding (`use_remove_padding`).
    """

    strategy: str = key(f"{_ACTOR}.strategy", choices=("fsdp2", "fsdp"))
    use_kl_loss: bool = key(f"{_ACTOR}.use_kl_loss", rl=True)
    dynamic_batches: bool = key(f"{_ACTOR}.use_dynamic_bsz")
    max_tokens: int = key(f"{_ACTOR}.ppo_max_token_len_per_gpu")
    micro_batch: int | None = key(f"{_ACTOR}.ppo_micro_batch_size_per_gpu")
    model_dtype: str | None = key(f"{_ACTOR}.fsdp_config.model_dtype")
    fsdp_size: int = key(f"{_ACTOR}.fsdp_config.fsdp_size")
    reshard_after_forward: bool = key(f"{_ACTOR}.fsdp_config.reshard_after_forward")
    param_offload: bool = key(f"{_ACTOR}.fsdp_config.param_offload")
    compute_dtype: str | None = key(
        f"{_ACTOR}.fsdp_config.mixed_precision.param_dtype", default=None
    )
    gradient_checkpointing: bool = key(f"{_MODEL}.enable_gradient_checkpointing")
    attention: str | None = key(f"{_MODEL}.override_config.attn_implementation", default=None)
    packs: bool = key(f"{_MODEL}.use_remove_padding")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Optim(Section):
    """The optimiser of the actor."""

    name: str = key(f"{_ACTOR}.optim.optimizer")
    implementation: str = key(f"{_ACTOR}.optim.optimizer_impl")
    lr: float = key(f"{_ACTOR}.optim.lr", at_least=0)
    weight_decay: float = key(f"{_ACTOR}.optim.weight_decay")
    scheduler: str = key(f"{_ACTOR}.optim.lr_scheduler_type")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.name not in ("Adam", "AdamW") or self.implementation != "torch.optim":
            raise ConfigError(
                f"{_ACTOR}.optim.optimizer={self.implementation}.{self.name}: checkpoints hold the "
                "state of torch.optim.Adam and AdamW; use one of them"
            )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Rollout(Section):
    """vLLM in verl's rollout."""

    name: str = key(f"{_ROLLOUT}.name")
    dtype: str = key(f"{_ROLLOUT}.dtype")
    load_format: str = key(f"{_ROLLOUT}.load_format")
    quantization: str | None = key(f"{_ROLLOUT}.quantization", default=None)
    tensor_parallel_size: int = key(f"{_ROLLOUT}.tensor_model_parallel_size", at_least=1)
    pipeline_parallel_size: int = key(f"{_ROLLOUT}.pipeline_model_parallel_size")
    data_parallel_size: int = key(f"{_ROLLOUT}.data_parallel_size")
    gpu_memory_utilization: float = key(f"{_ROLLOUT}.gpu_memory_utilization", above=0)
    max_model_len: int = key(f"{_ROLLOUT}.max_model_len")
    max_num_seqs: int = key(f"{_ROLLOUT}.max_num_seqs", at_least=1)
    max_num_batched_tokens: int = key(f"{_ROLLOUT}.max_num_batched_tokens")
    free_cache_engine: bool = key(f"{_ROLLOUT}.free_cache_engine")
    checkpoint_backend: str = key(f"{_ROLLOUT}.checkpoint_engine.backend")
    bucket_mb: int = key(f"{_ROLLOUT}.checkpoint_engine.update_weights_bucket_megabytes")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.name != ROLLOUT_NAME:
            raise ConfigError(
                f"{_ROLLOUT}.name={self.name}: a run needs {ROLLOUT_NAME}; leave it as it is"
            )
        for name in ("pipeline_model_parallel_size", "data_parallel_size"):
            value = getattr(self, name.replace("_model", ""))
            if value != 1:
                raise ConfigError(
                    f"{_ROLLOUT}.{name}={value}: the weight sync does not reach such workers; use "
                    "1 (more replicas serve more prompts)"
                )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Hardware(Section):
    """The devices of a run.

    Attributes:
        nodes, per_node: of the trainer.
        rollout_per_node, rollout_nodes: devices of the rollout's own; 0 where it shares the
            trainer's.
    """

    kind: str = key("trainer.device", choices=("cpu", "cuda"))
    nodes: int = key("trainer.nnodes", at_least=1)
    per_node: int = key("trainer.n_gpus_per_node", at_least=1)
    rollout_per_node: int = key("placement.rollout_gpus", rl=True, at_least=0)
    rollout_nodes: int = key(f"{_ROLLOUT}.nnodes", rl=True)
    shares_engine: bool = key("actor_rollout_ref.hybrid_engine", rl=True)
    trainer_mode: str = key("trainer.v1.trainer_mode", rl=True)
    sync_every: int = key("trainer.v1.separate_async.parameter_sync_step", rl=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.trainer_mode not in TRAINER_MODES:
            raise ConfigError(
                f"trainer.v1.trainer_mode={self.trainer_mode}: a run needs "
                f"{' or '.join(TRAINER_MODES)}; leave it as it is"
            )

    @property
    def num_ranks(self) -> int:
        return self.nodes * self.per_node

    @property
    def is_separate(self) -> bool:
        return self.trainer_mode == SEPARATE_TRAINER_MODE

    @property
    def num_devices(self) -> int:
        return self.num_ranks + self.rollout_per_node * self.rollout_nodes


@dataclasses.dataclass(frozen=True, kw_only=True)
class RayStart(Section):
    """The start of Ray, or its address.

    Attributes:
        num_cpus: slots, not cores; None: as many as there are cores.
        storage_units: processes of TransferQueue.
    """

    num_cpus: int | None = key("ray_kwargs.ray_init.num_cpus", default=None)
    address: str | None = key("ray_kwargs.ray_init.address", default=None)
    dashboard_host: str | None = key("ray_kwargs.ray_init.dashboard_host", default=None)
    object_store_bytes: int = key("ray_kwargs.ray_init.object_store_memory", default=0)
    storage_units: int = key("transfer_queue.backend.SimpleStorage.num_data_storage_units")
    env_vars: Mapping[str, Any] = key("ray_kwargs.ray_init.runtime_env.env_vars", default=None)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Duration(Section):
    """Length of reinforcement learning, and the correction for its sampler."""

    epochs: int = key("trainer.total_epochs", at_least=1)
    steps: int | None = key("trainer.total_training_steps", at_least=1)
    correction: str | None = key("algorithm.rollout_correction.rollout_is")
    correction_cap: float | None = key("algorithm.rollout_correction.rollout_is_threshold")
