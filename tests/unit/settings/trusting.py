"""Experiments to check, composed once: composing one takes a second."""

import os
import re
from functools import cache

import pytest
import yaml
from omegaconf import DictConfig, OmegaConf

from tinylora_rl.settings.compose import compose
from tinylora_rl.settings.experiment import Experiment, read

COMMIT = "a09a35458c702b33eeacc393d103063234e8bc28"


def on_cpu(*settings: str) -> Experiment:
    """The quickstart's configuration with these `key=value`."""
    return read(_with(_composed("arithmetic_cpu"), settings))


def on_gpus(*settings: str) -> Experiment:
    """The 7B recipe's, whose base model comes from the hub."""
    return read(_with(_composed("gsm8k_qwen7b_u13"), settings))


@pytest.fixture(autouse=True)
def nothing_in_the_environment(monkeypatch, tmp_path):
    for name in list(os.environ):
        if name.startswith("RAY_") or re.search("TOKEN|KEY|SECRET|PASSWORD", name):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))  # where Ray's token would lie


@cache
def _composed(recipe: str) -> DictConfig:
    return compose("train", [f"+recipe={recipe}"])


def _with(config: DictConfig, settings: tuple[str, ...]) -> DictConfig:
    config = config.copy()
    for setting in settings:
        key, _, value = setting.partition("=")
        OmegaConf.update(config, key, yaml.safe_load(value), force_add=True)
    return config
