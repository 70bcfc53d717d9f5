"""Everything that can be known to be wrong before a worker starts, said in one line."""

from __future__ import annotations

import os
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from tinylora_rl.adapter.config import TinyLoraConfig
from tinylora_rl.data import TEMPLATES
from tinylora_rl.errors import ConfigError, MachineError
from tinylora_rl.launch.base_model import checked_tokenizer, first_line
from tinylora_rl.launch.datasets import DATA_SETS
from tinylora_rl.rewards import CONTROLS, JUDGES
from tinylora_rl.verl_plugin.settings import (
    MODEL_TYPE,
    PEER_MODEL_TYPE,
    ROLLOUT_NAME,
    SEPARATE_TRAINER_MODE,
    TRAINER_MODES,
    SyncConfig,
)

SLOTS_PER_RANK = 3  # verl reserves this many Ray CPUs with every logical GPU (max_colocate_count)
SLOTS_PER_ROLLOUT_RANK = 2  # with every one of a standalone rollout (init_standalone)
SLOTS_BESIDE = 2  # TransferQueue's controller, and one to schedule an actor on
MIN_SHM_BYTES = 64 << 20


def check_config(config: DictConfig) -> TinyLoraConfig | None:
    """The values are in range and fit each other. Cheap: imports no torch.

    Returns:
        The adapter; None where verl trains LoRA or the whole model (adapter=lora, adapter=full).

    Raises:
        ConfigError: with key, value and mend.
    """
    if config.data.get("name") not in DATA_SETS:
        raise ConfigError(
            f"data.name={config.data.get('name')}: no data set is chosen; give a recipe "
            f"(+recipe=arithmetic_cpu), or data= one of {', '.join(DATA_SETS)}"
        )
    model = config.actor_rollout_ref.model
    model_type = model.model_type
    is_peer = model_type == PEER_MODEL_TYPE and model.lora.rank == model.lora_rank
    if model_type != MODEL_TYPE and not is_peer:
        raise ConfigError(
            f"actor_rollout_ref.model.model_type={model_type}: choose adapter=tinylora, lora_xs, "
            "lora or full, and leave it as they set it"
        )
    adapter = None
    if model_type == MODEL_TYPE:
        adapter = _checked(
            "adapter",
            TinyLoraConfig.from_dict,
            OmegaConf.to_container(config.adapter, resolve=True),
        )
    _checked(
        "sync",
        lambda values: SyncConfig(**values),
        OmegaConf.to_container(config.sync, resolve=True),
    )
    for key, names, choices in (
        ("judge", [config.task.judge], JUDGES),
        ("log_judges", config.task.log_judges, JUDGES),
        ("control", [config.task.control] if config.task.control else [], CONTROLS),
    ):
        for name in names:
            if name not in choices:
                raise ConfigError(f"task.{key}={name}: choose from {', '.join(choices)}")
    _check_judge(config)
    for key in ("task.eval_rows", "task.eval_samples"):
        value = OmegaConf.select(config, key)
        least = 0 if key == "task.eval_samples" else 1
        if value is not None and (not isinstance(value, int) or value < least):
            raise ConfigError(f"{key}={value}: use a whole number of at least {least}, or null")
    kwargs = config.reward.custom_reward_function.reward_kwargs
    for key in ("deadline_s", "memory_limit_mb", "num_workers"):
        if not kwargs[key] > 0:
            raise ConfigError(
                f"reward.custom_reward_function.reward_kwargs.{key}={kwargs[key]}: must be above 0"
            )
    for key, value, ours in (
        ("actor_rollout_ref.rollout.name", config.actor_rollout_ref.rollout.name, (ROLLOUT_NAME,)),
        ("trainer.v1.trainer_mode", config.trainer.v1.trainer_mode, TRAINER_MODES),
    ):
        if value not in ours:
            raise ConfigError(f"{key}={value}: a run needs {' or '.join(ours)}; leave it as it is")
    _check_sync(config, is_peer=adapter is None)
    if config.trainer.default_hdfs_dir is not None:
        raise ConfigError(
            "trainer.default_hdfs_dir: not supported; a checkpoint is a few kilobytes, copy it"
        )
    if config.actor_rollout_ref.actor.strategy not in ("fsdp", "fsdp2"):
        raise ConfigError(
            f"actor_rollout_ref.actor.strategy={config.actor_rollout_ref.actor.strategy}: choose "
            "from fsdp2, fsdp"
        )
    if config.trainer.device == "cpu" and config.actor_rollout_ref.actor.strategy == "fsdp":
        raise ConfigError(
            "actor_rollout_ref.actor.strategy=fsdp: torch's FSDP1 needs CUDA; use fsdp2"
        )
    if config.trainer.max_actor_ckpt_to_keep == 1:
        raise ConfigError(
            "trainer.max_actor_ckpt_to_keep=1: verl removes the old checkpoint before the new one "
            "is complete; use 2 or more, or null"
        )
    optim = config.actor_rollout_ref.actor.optim
    if optim.optimizer not in ("Adam", "AdamW") or optim.optimizer_impl != "torch.optim":
        raise ConfigError(
            f"actor_rollout_ref.actor.optim.optimizer={optim.optimizer_impl}.{optim.optimizer}: "
            "checkpoints hold the state of torch.optim.Adam and AdamW; use one of them"
        )
    rollout = config.actor_rollout_ref.rollout
    for key in ("pipeline_model_parallel_size", "data_parallel_size"):
        if rollout[key] != 1:
            raise ConfigError(
                f"actor_rollout_ref.rollout.{key}={rollout[key]}: the weight sync does not reach "
                "such workers; use 1 (more replicas serve more prompts)"
            )
    num_ranks = config.trainer.nnodes * config.trainer.n_gpus_per_node
    if num_ranks % rollout.tensor_model_parallel_size:
        raise ConfigError(
            f"actor_rollout_ref.rollout.tensor_model_parallel_size="
            f"{rollout.tensor_model_parallel_size}: does not divide the {num_ranks} ranks"
        )
    samples = config.data.train_batch_size * rollout.n
    if samples % num_ranks:
        raise ConfigError(
            f"task.prompts_per_step={config.data.train_batch_size}: {samples} samples a step are "
            "no multiple of "
            f"{num_ranks} ranks; change task.prompts_per_step or trainer.n_gpus_per_node"
        )
    return adapter


def _check_sync(config: DictConfig, *, is_peer: bool) -> None:
    """The policy reaches the rollout where it is, in the way that was chosen."""
    rollout, mode = config.actor_rollout_ref.rollout, config.sync.mode
    if is_peer and mode != "merged":
        raise ConfigError(
            f"sync.mode={mode}: only a TinyLoRA adapter has so few numbers; use sync=merged with "
            "adapter=lora and adapter=full"
        )
    if rollout.load_format == "dummy" and config.sync.sleep_level == 1:
        raise ConfigError(
            "actor_rollout_ref.rollout.load_format=dummy: a sync brings only what training "
            "changed; use auto, or sync=merged sync.sleep_level=2"
        )
    if rollout.quantization is not None and not is_peer:
        raise ConfigError(
            f"actor_rollout_ref.rollout.quantization={rollout.quantization}: what quantised "
            "weights hold cannot be proved; use null"
        )
    if is_peer and config.sync.rounding != "nearest":
        raise ConfigError(
            f"sync.rounding={config.sync.rounding}: verl merges and rounds the weights of "
            "adapter=lora and adapter=full itself; use nearest"
        )
    if config.trainer.v1.trainer_mode != SEPARATE_TRAINER_MODE:
        return
    backend = rollout.checkpoint_engine.backend
    if config.actor_rollout_ref.hybrid_engine:
        raise ConfigError(
            "actor_rollout_ref.hybrid_engine=true: with placement=separate the rollout has GPUs of "
            "its own; leave it false"
        )
    if backend == "naive" or (backend == "tinylora" and mode == "merged"):
        raise ConfigError(
            f"sync.mode={mode}: whole weights do not travel by checkpoint_engine.backend={backend} "
            "to a rollout elsewhere; use sync=vector, sync=factors, or backend=nccl"
        )
    steps = config.trainer.v1.separate_async.parameter_sync_step
    batch, mini_batch = (
        config.data.train_batch_size,
        config.actor_rollout_ref.actor.ppo_mini_batch_size,
    )
    if batch != steps * mini_batch:
        raise ConfigError(
            f"trainer.v1.separate_async.parameter_sync_step={steps}: {batch} prompts a step are "
            f"not {steps} mini-batches of {mini_batch}"
        )


def _check_judge(config: DictConfig) -> None:
    """The judge reads what the prompt asks for: otherwise no answer would ever be right."""
    template = TEMPLATES.get(config.data.template or "")
    if template is None:
        return
    reads, asked = JUDGES[config.task.judge].extractor, JUDGES[template.judge].extractor
    if reads not in (asked, "flexible"):
        raise ConfigError(
            f"task.judge={config.task.judge}: data.template={config.data.template} asks for an "
            f"answer that it does not read; use task.judge={template.judge}, or another template"
        )


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
        ConfigError: with the number needed.
    """
    if os.environ.get("RAY_ADDRESS"):
        return  # a running cluster: its slots are another machine's
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
        raise ConfigError(
            f"ray_kwargs.ray_init.num_cpus={slots}: {available} CPU slots, verl needs {needed} "
            "here "
            f"and would wait for ever; set ray_kwargs.ray_init.num_cpus={needed} or more (slots, "
            "not cores)"
        )


def check_machine(config: DictConfig) -> None:
    """The platform chosen is the machine's, and verl sees this package.

    Raises:
        MachineError: with what is missing and the mend.
    """
    import torch

    device = config.trainer.device
    if device == "cpu" and os.environ.get("RAY_ADDRESS"):
        raise MachineError("RAY_ADDRESS: platform=cpu starts its own Ray; unset RAY_ADDRESS")
    if device == "cuda":
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
        attention = config.actor_rollout_ref.model.override_config.get("attn_implementation")
        if attention in (None, "flash_attention_2") and find_spec("flash_attn") is None:
            raise MachineError(
                "flash_attn: not installed, and verl's packed sequences need it; compile it as "
                "docker/Dockerfile.gpu does, or set model.use_remove_padding=false and "
                "+model.override_config.attn_implementation=sdpa under actor_rollout_ref"
            )
    if device == "cpu":
        shm = Path("/dev/shm")
        free = os.statvfs(shm).f_bavail * os.statvfs(shm).f_frsize if shm.is_dir() else 0
        if free < MIN_SHM_BYTES:
            raise MachineError(
                f"/dev/shm: {free >> 20} MB free, weights need 64; give the container --shm-size=1g"
            )
    try:
        from tinylora_rl.verl_plugin.registration import check_registration

        check_registration()
    except (ImportError, RuntimeError) as error:
        raise MachineError(f"verl plugin: {error}") from error
    from verl.utils.device import get_device_name

    if get_device_name() != device:
        raise MachineError(
            f"platform={device}: verl sees {get_device_name()} here; use "
            f"platform={get_device_name()}"
        )


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
        model_config = AutoConfig.from_pretrained(path)
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
    targets = _checked("adapter", lambda _: find_targets(model, adapter))
    count = _checked("adapter", lambda _: adapter.num_parameters(num_modules=len(targets)))
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


def _checked(group: str, check: Callable[[Any], Any], values: Any = None) -> Any:
    try:
        return check(values)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{group}.{first_line(error)}") from error
