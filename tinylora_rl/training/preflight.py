"""Everything that can be known to be wrong before a worker starts, said in one line."""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from tinylora_rl.adapter.config import TinyLoraConfig
from tinylora_rl.base_model.model import checked_tokenizer
from tinylora_rl.errors import ConfigError, MachineError, first_line
from tinylora_rl.settings.config_checks import CONFIG_CHECKS, check_adapter, checked
from tinylora_rl.training.ray_token import cluster_address

SLOTS_PER_RANK = 3  # verl reserves this many Ray CPUs with every logical GPU (max_colocate_count)
SLOTS_PER_ROLLOUT_RANK = 2  # with every one of a standalone rollout (init_standalone)
SLOTS_BESIDE = 2  # TransferQueue's controller, and one to schedule an actor on
MIN_SHM_BYTES = 64 << 20


def check_config(config: DictConfig) -> TinyLoraConfig | None:
    """The values are in range and fit each other. Cheap: imports no verl.

    Returns:
        The adapter; None where verl trains LoRA or the whole model (adapter=lora, adapter=full).

    Raises:
        ConfigError: the first of `CONFIG_CHECKS` that fails, with key, value and mend.
    """
    for check in CONFIG_CHECKS:
        check(config)
    return check_adapter(config)


def check_tracking(config: DictConfig) -> None:
    """W&B, where configured, can log in or does not need to.

    Raises:
        ConfigError: with the mend.
    """
    if "wandb" not in config.trainer.logger:
        return
    if os.environ.get("WANDB_MODE", "online") in ("offline", "disabled", "dryrun"):
        return
    import wandb

    if not wandb.api.api_key:
        raise ConfigError(
            "trainer.logger: wandb has no API key; run `wandb login`, or set WANDB_MODE=offline"
        )


def check_slots(config: DictConfig) -> None:
    """Ray has the CPU slots that verl will wait for; too few and it waits for ever.

    Raises:
        ConfigError: too few are stated; with the number needed.
        MachineError: none are stated, and the machine has fewer cores.
    """
    if cluster_address(config) is not None:
        return  # its slots are other machines'
    if config.trainer.nnodes > 1:
        raise ConfigError(
            f"trainer.nnodes={config.trainer.nnodes}: no Ray cluster is named; start one with "
            "scripts/cluster, and set RAY_ADDRESS"
        )
    storage = config.transfer_queue.backend.SimpleStorage.num_data_storage_units
    needed = (
        SLOTS_PER_RANK * config.trainer.n_gpus_per_node * config.trainer.nnodes
        + SLOTS_PER_ROLLOUT_RANK * config.placement.rollout_gpus
        + storage
        + SLOTS_BESIDE
    )
    slots = config.ray_kwargs.ray_init.num_cpus
    available = os.cpu_count() or 1 if slots is None else slots
    if available < needed:
        error = MachineError if slots is None else ConfigError
        raise error(
            f"ray_kwargs.ray_init.num_cpus={slots}: {available} CPU slots, verl needs {needed} "
            "here "
            f"and would wait for ever; set ray_kwargs.ray_init.num_cpus={needed} or more (slots, "
            "not cores)"
        )


def check_machine(config: DictConfig) -> None:
    """The platform chosen is the machine's, and verl sees this package.

    Raises:
        MachineError: the first of `DEVICE_CHECKS` and `check_plugin` that fails, with the mend.
    """
    for check in DEVICE_CHECKS:
        check(config)
    check_plugin(config)


def check_cluster(config: DictConfig) -> None:
    """A CPU run has a Ray of its own."""
    if config.trainer.device == "cpu" and os.environ.get("RAY_ADDRESS"):
        raise MachineError("RAY_ADDRESS: platform=cpu starts its own Ray; unset RAY_ADDRESS")


def check_gpus(config: DictConfig) -> None:
    """There are as many GPUs as the run takes."""
    if config.trainer.device != "cuda":
        return
    import torch

    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if count == 0:
        raise MachineError(
            "platform=cuda: no GPU is visible here; use platform=cpu, or start from a GPU node "
            "with the gpu extra installed"
        )
    if count < config.trainer.n_gpus_per_node and not os.environ.get("RAY_ADDRESS"):
        raise MachineError(
            f"trainer.n_gpus_per_node={config.trainer.n_gpus_per_node}: {count} GPUs are "
            f"visible; set trainer.n_gpus_per_node={count}"
        )


def check_attention(config: DictConfig) -> None:
    """The attention that verl's packed sequences need is installed."""
    attention = config.actor_rollout_ref.model.override_config.get("attn_implementation")
    if config.trainer.device != "cuda" or attention not in (None, "flash_attention_2"):
        return
    if find_spec("flash_attn") is None:
        raise MachineError(
            "flash_attn: not installed, and verl's packed sequences need it; compile it as "
            "docker/Dockerfile.gpu does, or set model.use_remove_padding=false and "
            "+model.override_config.attn_implementation=sdpa under actor_rollout_ref"
        )


def check_shm(config: DictConfig) -> None:
    """Weights have room to travel in, where they travel through shared memory."""
    if config.trainer.device != "cpu":
        return
    shm = Path("/dev/shm")
    free = os.statvfs(shm).f_bavail * os.statvfs(shm).f_frsize if shm.is_dir() else 0
    if free < MIN_SHM_BYTES:
        raise MachineError(
            f"/dev/shm: {free >> 20} MB free, weights need 64; give the container --shm-size=1g"
        )


def check_plugin(config: DictConfig) -> None:
    """verl sees this package, and takes the device of the platform chosen. Imports verl."""
    try:
        from tinylora_rl.verl_plugin.registration import check_registration

        check_registration()
    except (ImportError, RuntimeError) as error:
        raise MachineError(f"verl plugin: {error}") from error
    from verl.utils.device import get_device_name

    device = config.trainer.device
    if get_device_name() != device:
        raise MachineError(
            f"platform={device}: verl sees {get_device_name()} here; use "
            f"platform={get_device_name()}"
        )


DEVICE_CHECKS = (check_cluster, check_gpus, check_attention, check_shm)
"""What can be known of the machine without verl, in the order in which a run asks."""


def check_verl(config: DictConfig) -> None:
    """verl's own checks of the configuration pass.

    Raises:
        ConfigError: with what verl says.
    """
    from hydra.errors import HydraException
    from verl.trainer.ppo.utils import need_critic, need_reference_policy
    from verl.utils.config import validate_config

    try:
        validate_config(
            config=config,
            use_reference_policy=need_reference_policy(config),
            use_critic=need_critic(config),
        )
    except (AssertionError, TypeError, ValueError, HydraException) as error:
        # Hydra wraps what verl's dataclasses raise
        reason = first_line(error.__cause__ or error)
        raise ConfigError(f"verl refuses the configuration: {reason}") from error


def check_model(config: DictConfig, adapter: TinyLoraConfig | None) -> str:
    """The base model has a tokenizer, a supported architecture and every target.

    Reads configuration and tokenizer only; the modules are built without weights.

    Returns:
        What is going to be trained, in one line.

    Raises:
        ConfigError: with key, value and mend.
    """
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    from tinylora_rl.adapter.targets import find_targets

    path = config.actor_rollout_ref.model.path
    if str(path).startswith(("/", ".", "~")) and not Path(path).expanduser().is_dir():
        raise ConfigError(f"base_model.path={path}: no such folder; give a folder or a hub id")
    try:
        model_config = AutoConfig.from_pretrained(path, trust_remote_code=False)
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"base_model.path={path}: {first_line(error)}; give a folder or a hub id"
        ) from error
    checked_tokenizer(path, path)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(model_config)
    limit = getattr(model_config, "max_position_embeddings", None)
    wanted = config.data.max_prompt_length + config.data.max_response_length
    if limit is not None and wanted > limit:
        raise ConfigError(
            f"task.max_response_tokens={config.data.max_response_length}: prompt and response of "
            f"{wanted} tokens exceed "
            f"the model's {limit}; use at most {limit - config.data.max_prompt_length}"
        )
    if adapter is None:
        return _peer(config, model)
    targets = checked("adapter", lambda _: find_targets(model, adapter))
    count = checked("adapter", lambda _: adapter.num_parameters(num_modules=len(targets)))
    smallest = min(min(model.get_submodule(target.name).weight.shape) for target in targets)
    if adapter.r > smallest:
        raise ConfigError(
            f"adapter.r={adapter.r}: the smallest adapted weight has rank {smallest}; use r <= "
            f"{smallest}"
        )
    return (
        f"{count} numbers over {len(targets)} modules: r={adapter.r} u={adapter.u} "
        f"n_tie={adapter.n_tie} {adapter.tie_mode}, P {adapter.projection} "
        f"{'' if adapter.projection == 'basis' else f'std {adapter.std:.4f} '}"
        f"seed {adapter.seed}, S {adapter.svd_split}, v {adapter.v_dtype}"
    )


def _peer(config: DictConfig, model: Any) -> str:
    rank = config.actor_rollout_ref.model.lora_rank
    if not rank:
        return f"none: all {model.num_parameters()} numbers of the model"
    names = set(config.actor_rollout_ref.model.target_modules)
    shapes = [
        tuple(module.weight.shape)
        for name, module in model.named_modules()
        if name.rpartition(".")[2] in names
    ]
    if not shapes:
        raise ConfigError(f"adapter.target_modules={sorted(names)}: the model has no such linear")
    count = rank * sum(num_out + num_in for num_out, num_in in shapes)
    return f"LoRA r={rank} alpha={config.adapter.alpha}, {count} numbers over {len(shapes)} modules"
