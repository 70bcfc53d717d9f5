"""Refuses overrides of `sft` that only reinforcement learning reads."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

from tinylora_rl.errors import ConfigError
from tinylora_rl.settings.section import Section
from tinylora_rl.settings.sections import (
    Batch,
    Checkpoints,
    Grading,
    Run,
    Supervised,
    Tracking,
    Validation,
)
from tinylora_rl.settings.spellings import current_keys
from tinylora_rl.settings.verl_sections import Actor, Hardware, Optim

SECTIONS: tuple[type[Section], ...] = (
    Actor,
    Batch,
    Checkpoints,
    Grading,
    Hardware,
    Optim,
    Run,
    Supervised,
    Tracking,
    Validation,
)
NODES = (
    "actor_rollout_ref.actor.checkpoint.",
    "actor_rollout_ref.actor.fsdp_config.",
    "actor_rollout_ref.actor.optim.",
    "actor_rollout_ref.model.",
    "adapter",
    "base_model.",
    "cost.",
    "data",
    "device",
    "dry_run",
    "grading.",
    "hydra",
    "method",
    "model",
    "plugins",
    "recipe",
    "run.",
    "seed",
    "sft.",
    "sweep",
    "sync.rounding",
    "task.recipe",
    "task.prompts_per_step",
    "task.max_prompt_tokens",
    "task.max_response_tokens",
)
"""Beginnings of keys and groups that a supervised run reads as a whole."""

INSTEAD = {
    "trainer.total_training_steps": "use sft.steps or sft.epochs",
    "trainer.total_epochs": "use sft.steps or sft.epochs",
    "trainer.save_freq": "use sft.save_freq or sft.max_checkpoints",
    "trainer.max_actor_ckpt_to_keep": "use sft.save_freq or sft.max_checkpoints",
}


def check_overrides(overrides: Iterable[str]) -> None:
    """Checks that every override on the command line of `sft` has an effect there.

    A recipe may set other keys, for `train`.

    Raises:
        ConfigError: an override that only reinforcement learning reads.
    """
    read = {
        field.metadata["key"].path
        for section in SECTIONS
        for field in dataclasses.fields(section)
        if "key" in field.metadata and not field.metadata["key"].rl
    }
    for override in overrides:
        [key] = current_keys([override.lstrip("+~").partition("=")[0].partition("@")[0]])
        if key not in read and (not key.startswith(NODES) or key in INSTEAD):
            fix = INSTEAD.get(key, "leave it out")
            raise ConfigError(f"{key}: a supervised run does not read it; {fix}")
