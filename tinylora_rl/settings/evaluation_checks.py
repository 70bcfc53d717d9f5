"""What can be known to be wrong with an evaluation before anything is downloaded or started."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from importlib.util import find_spec
from typing import Any

from omegaconf import DictConfig, OmegaConf

from tinylora_rl.errors import ConfigError, MachineError
from tinylora_rl.evaluation.plan import WEIGHTS, Sampling
from tinylora_rl.rewards import JUDGES
from tinylora_rl.tasks import TEMPLATES, task_names

POLICY_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
"""Names of policies are names of folders too."""


def check_evaluation(config: DictConfig) -> None:
    """The values are of their types, in range and fit each other.

    Raises:
        ConfigError: with key, value and mend.
    """
    known = task_names("test")
    names = _list(config.benchmarks, "benchmarks")
    config.benchmarks = names
    for name in names:
        if name not in known:
            raise ConfigError(f"benchmarks={name}: choose from {', '.join(known)}")
    if not names or len(set(names)) != len(names):
        raise ConfigError(f"benchmarks={names}: name one or more, each once")
    if config.data.template is not None and config.data.template not in TEMPLATES:
        raise ConfigError(
            f"data.template={config.data.template}: choose from {', '.join(TEMPLATES)}, or null"
        )
    chosen = config.evaluate
    for key, value, least in (
        ("data.rows", config.data.rows, 1),
        ("evaluate.samples", chosen.samples, 0),
        ("evaluate.max_response_tokens", chosen.max_response_tokens, 1),
        ("evaluate.seed", chosen.seed, 0),
        ("evaluate.page_responses", chosen.page_responses, 1),
        ("grading.num_workers", config.grading.num_workers, 1),
        ("grading.memory_limit_mb", config.grading.memory_limit_mb, 64),
    ):
        if value is None and key == "data.rows":
            continue
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise ConfigError(f"{key}={value}: use a whole number of at least {least}")
    for key, value in (
        ("evaluate.temperature", chosen.temperature),
        ("evaluate.top_p", chosen.top_p),
        ("evaluate.confidence", chosen.confidence),
        ("grading.deadline_s", config.grading.deadline_s),
    ):
        if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
            raise ConfigError(f"{key}={value}: use a number above 0")
    if not chosen.confidence < 1:
        raise ConfigError(f"evaluate.confidence={chosen.confidence}: use a number below 1")
    try:
        Sampling(
            greedy=chosen.greedy,
            num_samples=chosen.samples,
            temperature=chosen.temperature,
            top_p=chosen.top_p,
        )
    except ValueError as error:
        message = str(error).replace("num_samples", "samples", 1)
        raise ConfigError(f"evaluate.{message}") from error
    chosen.judges = _list(chosen.judges, "evaluate.judges")
    for name in [*chosen.judges, chosen.judge]:
        if name is not None and name not in JUDGES:
            raise ConfigError(f"evaluate.judges={name}: choose from {', '.join(JUDGES)}")
    if chosen.weights not in WEIGHTS:
        raise ConfigError(f"evaluate.weights={chosen.weights}: choose from {', '.join(WEIGHTS)}")
    if chosen.rounding not in ("nearest", "stochastic"):
        raise ConfigError(f"evaluate.rounding={chosen.rounding}: choose from nearest, stochastic")
    dtype = config.engine.options.dtype
    if chosen.rounding == "stochastic" and dtype not in ("bfloat16", "float32"):
        raise ConfigError(
            f"evaluate.rounding=stochastic: only to bfloat16, engine.options.dtype is {dtype}"
        )


def check_engine(engine: DictConfig) -> None:
    """The engine chosen is the machine's.

    Raises:
        MachineError: with what is missing and the mend.
    """
    if find_spec("vllm") is None:
        raise MachineError("vllm: not installed; install this package with its cpu or gpu extra")
    import torch

    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if engine.device == "cpu":
        if count and not os.environ.get("VLLM_TARGET_DEVICE") == "cpu":
            raise MachineError(
                f"engine=cpu: {count} GPUs are visible, and vLLM would take one with settings made "
                "for a CPU; use engine=cuda"
            )
        return
    wanted = engine.options.get("tensor_parallel_size", 1)
    if count < wanted:
        raise MachineError(
            f"engine=cuda: {count} GPUs are visible, engine.options.tensor_parallel_size={wanted} "
            "needs as many; use engine=cpu, or start on a GPU node"
        )


def named_adapters(given: Any) -> Iterable[tuple[str | None, str]]:
    """(name or None, folder) of each adapter: from null, a folder, a list, or {name: folder}.

    Raises:
        ConfigError: something else was given.
    """
    if OmegaConf.is_dict(given):
        named: list[tuple[str | None, Any]] = [(str(name), given[name]) for name in given]
    else:
        named = [(None, entry) for entry in _list(given, "adapters")]
    for _, entry in named:
        if not isinstance(entry, str):
            raise ConfigError(f"adapters={entry}: give folders, as [DIR, DIR] or {{NAME: DIR}}")
    return named


def _list(given: Any, key: str) -> list[Any]:
    if given is None:
        return []
    if isinstance(given, str):
        return [given]
    if OmegaConf.is_list(given):
        return list(given)
    raise ConfigError(f"{key}={given}: give a list, as [A, B]")
