"""Configurations as the command line composes them, in this process."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig, OmegaConf

from tinylora_rl.settings.resolvers import config_dir, register_resolvers

Compose = Callable[..., DictConfig]


@pytest.fixture
def composed(tmp_path: Path) -> Iterator[Compose]:
    """`composed("sft", "+recipe=arithmetic_cpu", ...)`; the run directory is a temporary one."""
    register_resolvers()

    def with_overrides(verb: str, *overrides: str) -> DictConfig:
        GlobalHydra.instance().clear()
        with initialize_config_dir(str(config_dir()), version_base="1.3"):
            config = compose(
                verb, overrides=[f"run.dir={tmp_path}", "task.recipe=test", *overrides]
            )
        OmegaConf.resolve(config)
        return config

    yield with_overrides
    GlobalHydra.instance().clear()
