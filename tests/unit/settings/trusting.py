"""Configurations to check, composed once: composing one takes a second."""

import os
import re
from functools import cache

import pytest
import yaml
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig, OmegaConf

from tinylora_rl.settings.resolvers import config_dir, register_resolvers

COMMIT = "a09a35458c702b33eeacc393d103063234e8bc28"


def on_cpu(*settings: str) -> DictConfig:
    """The quickstart's configuration with these `key=value`."""
    return _with(_composed("arithmetic_cpu"), settings)


def on_gpus(*settings: str) -> DictConfig:
    """The 7B recipe's, whose base model comes from the hub."""
    return _with(_composed("gsm8k_qwen7b_u13"), settings)


@pytest.fixture(autouse=True)
def nothing_in_the_environment(monkeypatch, tmp_path):
    for name in list(os.environ):
        if name.startswith("RAY_") or re.search("TOKEN|KEY|SECRET|PASSWORD", name):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))  # where Ray's token would lie


@cache
def _composed(recipe: str) -> DictConfig:
    register_resolvers()
    with initialize_config_dir(str(config_dir()), version_base="1.3"):
        config = compose(
            "train", overrides=["run.dir=/nowhere", "task.recipe=test", f"+recipe={recipe}"]
        )
    GlobalHydra.instance().clear()
    return config


def _with(config: DictConfig, settings: tuple[str, ...]) -> DictConfig:
    config = config.copy()
    for setting in settings:
        key, _, value = setting.partition("=")
        OmegaConf.update(config, key, yaml.safe_load(value), force_add=True)
    return config
