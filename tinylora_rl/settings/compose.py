"""Composes a configuration in this process, as a command line would."""

from __future__ import annotations

from collections.abc import Sequence

from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig

from tinylora_rl.settings.resolvers import config_dir, register_resolvers
from tinylora_rl.settings.spellings import translated


def compose(
    command: str, overrides: Sequence[str] = (), *, run_dir: str = "/nowhere", recipe: str = "test"
) -> DictConfig:
    """Returns the configuration of `command` with `overrides`, unresolved.

    Args:
        command: train, sft or evaluate.
        run_dir, recipe: what Hydra fills in when a command runs.
    """
    register_resolvers()
    GlobalHydra.instance().clear()
    named = [f"run.dir={run_dir}"]
    if command != "evaluate":
        named.append(f"task.recipe={recipe}")
    current, _ = translated(overrides)
    try:
        with initialize_config_dir(str(config_dir()), version_base="1.3"):
            return hydra_compose(command, overrides=[*named, *current])
    finally:
        GlobalHydra.instance().clear()
