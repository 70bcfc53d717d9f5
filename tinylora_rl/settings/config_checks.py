"""What can be wrong with the values of a configuration, one idea a check; imports no verl.

Each check raises ConfigError with key, value and mend. A run stops at the first; the doctor makes
them all and tells every one that failed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from omegaconf import DictConfig, OmegaConf

from tinylora_rl.adapter.config import TinyLoraConfig
from tinylora_rl.errors import ConfigError, first_line
from tinylora_rl.rewards import CONTROLS, JUDGES
from tinylora_rl.tasks import TEMPLATES, make_task, task_names
from tinylora_rl.verl_plugin.settings import (
    MODEL_TYPE,
    PEER_MODEL_TYPE,
    ROLLOUT_NAME,
    SEPARATE_TRAINER_MODE,
    TRAINER_MODES,
    SyncConfig,
)


def check_data(config: DictConfig) -> None:
    """A data set is chosen, and its keys fit."""
    names = task_names("train")
    if config.data.get("name") not in names:
        raise ConfigError(
            f"data.name={config.data.get('name')}: no data set is chosen; give a recipe "
            f"(+recipe=arithmetic_cpu), or data= one of {', '.join(names)}"
        )
    make_task(config.data.name, config.data)


def check_adapter(config: DictConfig) -> TinyLoraConfig | None:
    """What is trained is one of ours.

    Returns:
        The adapter; None where verl trains LoRA or the whole model (adapter=lora, adapter=full).
    """
    model = config.actor_rollout_ref.model
    if model.model_type == MODEL_TYPE:
        return checked(
            "adapter",
            TinyLoraConfig.from_dict,
            OmegaConf.to_container(config.adapter, resolve=True),
        )
    if not is_peer(config):
        raise ConfigError(
            f"actor_rollout_ref.model.model_type={model.model_type}: choose adapter=tinylora, "
            "lora_xs, lora or full, and leave it as they set it"
        )
    return None


def is_peer(config: DictConfig) -> bool:
    """Whether verl's own engine trains: LoRA, or the whole model."""
    model = config.actor_rollout_ref.model
    return bool(model.model_type == PEER_MODEL_TYPE and model.lora.rank == model.lora_rank)


def check_sync_settings(config: DictConfig) -> None:
    """The fields of `sync` are in range and fit each other."""
    checked(
        "sync",
        lambda values: SyncConfig(**values),
        OmegaConf.to_container(config.sync, resolve=True),
    )


def check_reward(config: DictConfig) -> None:
    """Judges and control are known, and grading has a limit."""
    for key, names, choices in (
        ("judge", [config.task.judge], JUDGES),
        ("log_judges", config.task.log_judges, JUDGES),
        ("control", [config.task.control] if config.task.control else [], CONTROLS),
    ):
        for name in names:
            if name not in choices:
                raise ConfigError(f"task.{key}={name}: choose from {', '.join(choices)}")
    kwargs = config.reward.custom_reward_function.reward_kwargs
    for key in ("deadline_s", "memory_limit_mb", "num_workers"):
        if not kwargs[key] > 0:
            raise ConfigError(
                f"reward.custom_reward_function.reward_kwargs.{key}={kwargs[key]}: must be above 0"
            )


def check_judge(config: DictConfig) -> None:
    """The judge reads what the prompt asks for: otherwise no answer would ever be right."""
    template = TEMPLATES.get(config.data.get("template") or "")
    if template is None or config.task.judge not in JUDGES:
        return
    reads, asked = JUDGES[config.task.judge].extractor, JUDGES[template.judge].extractor
    if reads not in (asked, "flexible"):
        raise ConfigError(
            f"task.judge={config.task.judge}: data.template={config.data.template} asks for an "
            f"answer that it does not read; use task.judge={template.judge}, or another template"
        )


def check_validation(config: DictConfig) -> None:
    """Validation has rows and samples to count."""
    for key in ("task.eval_rows", "task.eval_samples"):
        value = OmegaConf.select(config, key)
        least = 0 if key == "task.eval_samples" else 1
        if value is not None and (not isinstance(value, int) or value < least):
            raise ConfigError(f"{key}={value}: use a whole number of at least {least}, or null")


def check_names(config: DictConfig) -> None:
    """Rollout and trainer are ours."""
    for key, value, ours in (
        ("actor_rollout_ref.rollout.name", config.actor_rollout_ref.rollout.name, (ROLLOUT_NAME,)),
        ("trainer.v1.trainer_mode", config.trainer.v1.trainer_mode, TRAINER_MODES),
    ):
        if value not in ours:
            raise ConfigError(f"{key}={value}: a run needs {' or '.join(ours)}; leave it as it is")


def check_sync(config: DictConfig) -> None:
    """The policy reaches the rollout where it is, in the way that was chosen."""
    rollout, mode = config.actor_rollout_ref.rollout, config.sync.mode
    trains_peer = is_peer(config)
    if trains_peer and mode != "merged":
        raise ConfigError(
            f"sync.mode={mode}: only a TinyLoRA adapter has so few numbers; use sync=merged with "
            "adapter=lora and adapter=full"
        )
    if rollout.load_format == "dummy" and config.sync.sleep_level == 1:
        raise ConfigError(
            "actor_rollout_ref.rollout.load_format=dummy: a sync brings only what training "
            "changed; use auto, or sync=merged sync.sleep_level=2"
        )
    if rollout.quantization is not None and not trains_peer:
        raise ConfigError(
            f"actor_rollout_ref.rollout.quantization={rollout.quantization}: what quantised "
            "weights hold cannot be proved; use null"
        )
    if trains_peer and config.sync.rounding != "nearest":
        raise ConfigError(
            f"sync.rounding={config.sync.rounding}: verl merges and rounds the weights of "
            "adapter=lora and adapter=full itself; use nearest"
        )


def check_placement(config: DictConfig) -> None:
    """A rollout with GPUs of its own gets policies that can travel."""
    if config.trainer.v1.trainer_mode != SEPARATE_TRAINER_MODE:
        return
    mode = config.sync.mode
    backend = config.actor_rollout_ref.rollout.checkpoint_engine.backend
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


def check_checkpoints(config: DictConfig) -> None:
    """What is saved can be loaded again."""
    if config.trainer.default_hdfs_dir is not None:
        raise ConfigError(
            "trainer.default_hdfs_dir: not supported; a checkpoint is a few kilobytes, copy it"
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


def check_strategy(config: DictConfig) -> None:
    """The actor is sharded in a way that its device knows."""
    if config.actor_rollout_ref.actor.strategy not in ("fsdp", "fsdp2"):
        raise ConfigError(
            f"actor_rollout_ref.actor.strategy={config.actor_rollout_ref.actor.strategy}: choose "
            "from fsdp2, fsdp"
        )
    if config.trainer.device == "cpu" and config.actor_rollout_ref.actor.strategy == "fsdp":
        raise ConfigError(
            "actor_rollout_ref.actor.strategy=fsdp: torch's FSDP1 needs CUDA; use fsdp2"
        )


def check_ranks(config: DictConfig) -> None:
    """Ranks divide what they share."""
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


def checked(group: str, check: Callable[[Any], Any], values: Any = None) -> Any:
    """What `check` returns; its complaint, named by the group of the configuration.

    Raises:
        ConfigError: it complained.
    """
    try:
        return check(values)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{group}.{first_line(error)}") from error


CONFIG_CHECKS: tuple[Callable[[DictConfig], object], ...] = (
    check_data,
    check_adapter,
    check_sync_settings,
    check_reward,
    check_judge,
    check_validation,
    check_names,
    check_sync,
    check_placement,
    check_checkpoints,
    check_strategy,
    check_ranks,
)
"""In the order in which a run makes them."""
