"""What can be known to be wrong with a supervised run before anything is started."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable
from importlib.metadata import entry_points
from importlib.util import find_spec

from omegaconf import DictConfig

from tinylora_rl.errors import ConfigError, MachineError
from tinylora_rl.settings.evaluation_checks import check_engine

READ = (
    "sft",
    "seed",
    "sweep",
    "cost",
    "dry_run",
    "run",
    "adapter",
    "model",
    "base_model",
    "platform",
    "engine",
    "recipe",
    "hydra",
    "data",
    "sync.rounding",
    "task.recipe",
    "task.prompts_per_step",
    "task.max_prompt_tokens",
    "task.max_response_tokens",
    "task.eval_",
    "task.judge",
    "task.log_judges",
    "actor_rollout_ref.model",
    "actor_rollout_ref.actor.strategy",
    "actor_rollout_ref.actor.optim",
    "actor_rollout_ref.actor.fsdp_config",
    "actor_rollout_ref.actor.checkpoint",
    "actor_rollout_ref.actor.use_dynamic_bsz",
    "actor_rollout_ref.actor.ppo_max_token_len_per_gpu",
    "actor_rollout_ref.actor.ppo_micro_batch_size_per_gpu",
    "reward.custom_reward_function.reward_kwargs",
    "trainer.project_name",
    "trainer.experiment_name",
    "trainer.logger",
    "trainer.device",
    "trainer.nnodes",
    "trainer.n_gpus_per_node",
    "trainer.default_local_dir",
    "trainer.val_before_train",
    "trainer.resume",
)
"""Beginnings of the keys that a supervised run reads. A recipe may set others, for `train`."""


def check_overrides(overrides: Iterable[str]) -> None:
    """Nothing on the command line is without effect.

    Raises:
        ConfigError: an override that only reinforcement learning reads.
    """
    for override in overrides:
        key = override.lstrip("+~").partition("=")[0].partition("@")[0]
        if not key.startswith(READ):
            mend = "leave it out"
            if key in ("trainer.total_training_steps", "trainer.total_epochs"):
                mend = "use sft.steps or sft.epochs"
            elif key in ("trainer.save_freq", "trainer.max_actor_ckpt_to_keep"):
                mend = "use sft.save_freq or sft.max_checkpoints"
            raise ConfigError(f"{key}: a supervised run does not read it; {mend}")


def check_sft(config: DictConfig) -> None:
    """The settings under `sft` are in range and fit the rest.

    Raises:
        ConfigError: with key, value and mend.
    """
    sft = config.sft
    for key in ("epochs", "batch_size", "save_freq", "max_checkpoints"):
        if not _is_whole(sft[key]):
            raise ConfigError(f"sft.{key}={sft[key]}: use a whole number of at least 1")
    if sft.steps is not None and not _is_whole(sft.steps):
        raise ConfigError(f"sft.steps={sft.steps}: use a whole number of at least 1, or null")
    if sft.max_checkpoints == 1:
        raise ConfigError(
            "sft.max_checkpoints=1: verl removes the old checkpoint before the new one is "
            "complete; use 2 or more"
        )
    if config.trainer.nnodes != 1:
        raise ConfigError(
            f"trainer.nnodes={config.trainer.nnodes}: a supervised run takes one node; use 1 and "
            "trainer.n_gpus_per_node"
        )
    if sft.batch_size % config.trainer.n_gpus_per_node:
        raise ConfigError(
            f"sft.batch_size={sft.batch_size}: no multiple of trainer.n_gpus_per_node="
            f"{config.trainer.n_gpus_per_node}; change one of them"
        )
    if sft.evaluate and not (config.task.eval_greedy or config.task.eval_samples):
        raise ConfigError(
            "task.eval_samples=0: nothing to evaluate; set task.eval_greedy=true, "
            "task.eval_samples=1 or sft.evaluate=false"
        )


def check_devices(config: DictConfig) -> None:
    """The platform chosen is the machine's, and verl will see this package.

    Raises:
        MachineError: with what is missing and the mend.
    """
    import torch

    names = {entry_point.value for entry_point in entry_points(group="verl.plugins")}
    if "tinylora_rl.verl_plugin.entry_point" not in names:
        raise MachineError(
            "verl plugin: verl does not see the tinylora_rl plugin; install the package "
            "(pip install -e .) first"
        )
    num_ranks = config.trainer.n_gpus_per_node
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if config.trainer.device == "cuda":
        if count < num_ranks:
            raise MachineError(
                f"platform=cuda: {count} GPUs are visible, trainer.n_gpus_per_node={num_ranks}; "
                "use platform=cpu, or as many GPUs as there are"
            )
        attention = config.actor_rollout_ref.model.override_config.get("attn_implementation")
        if attention in (None, "flash_attention_2") and find_spec("flash_attn") is None:
            raise MachineError(
                "flash_attn: not installed, and verl's packed sequences need it; compile it as "
                "docker/Dockerfile.gpu does, or set model.use_remove_padding=false and "
                "+model.override_config.attn_implementation=sdpa under actor_rollout_ref"
            )
    elif count and os.environ.get("VLLM_TARGET_DEVICE") != "cpu":
        raise MachineError(
            f"platform=cpu: {count} GPUs are visible and verl would take them; use platform=cuda"
        )
    if config.sft.evaluate:
        check_engine(config.engine)


def steps_of(config: DictConfig, num_sequences: int) -> tuple[int, int]:
    """(updates, passes over the rows begun) of the run, on so many training sequences."""
    num_ranks = config.trainer.n_gpus_per_node
    # each rank has an equal share, and fills its part of a batch from that alone
    steps_per_epoch = (num_sequences // num_ranks) // (config.sft.batch_size // num_ranks)
    steps = config.sft.steps or config.sft.epochs * steps_per_epoch
    return steps, math.ceil(steps / steps_per_epoch)


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1
