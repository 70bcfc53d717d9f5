"""The settings by which a run survives are in range and fit each other."""

from __future__ import annotations

from omegaconf import DictConfig, OmegaConf

from tinylora_rl.errors import ConfigError
from tinylora_rl.runs.time_limit import ENDING_S
from tinylora_rl.verl_plugin.settings import MODEL_TYPE


def check_run(config: DictConfig) -> None:
    """Limits are positive, every step of an adapter is saved, and one key says where to begin.

    Raises:
        ConfigError: with key, value and mend.
    """
    limit_s = config.run.time_limit_s
    if limit_s is not None and not limit_s > ENDING_S:
        raise ConfigError(
            f"run.time_limit_s={limit_s}: ending alone may take {ENDING_S:g} s; use more seconds, "
            "or null for no limit"
        )
    if not config.run.rollout_deadline_s > 0:
        raise ConfigError(
            f"run.rollout_deadline_s={config.run.rollout_deadline_s}: use a positive number of "
            "seconds"
        )
    for key, ours in (("resume_mode", "auto"), ("resume_from_path", None)):
        value = OmegaConf.select(config, f"trainer.{key}")
        if value != ours:
            raise ConfigError(
                f"trainer.{key}={value}: set trainer.resume to auto, never, a checkpoint or a run "
                "directory instead"
            )
    if config.verb != "train":
        return
    every = config.trainer.save_freq
    if config.actor_rollout_ref.model.model_type == MODEL_TYPE and every != 1:
        raise ConfigError(
            f"trainer.save_freq={every}: a killed run would lose more than the step in progress, "
            "and a checkpoint is a few kilobytes; use 1"
        )
    if config.actor_rollout_ref.actor.checkpoint.async_save:
        raise ConfigError(
            "actor_rollout_ref.actor.checkpoint.async_save=true: a checkpoint's manifest is "
            "written when its files are; use false"
        )
