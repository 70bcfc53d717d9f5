"""An evaluation: everything that a run of `evaluate` needs to know, decided once."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from tinylora_rl import plugins
from tinylora_rl.base_model import BaseModel
from tinylora_rl.errors import ConfigError
from tinylora_rl.rewards import JUDGES
from tinylora_rl.settings.compose import config_dir
from tinylora_rl.settings.section import (
    Section,
    base_model,
    key,
    unresolved_as_config_error,
)
from tinylora_rl.settings.sections import Engine, GradingLimits
from tinylora_rl.tasks import Task, make_task

WEIGHTS = ("factors", "merged")
ROUNDINGS = ("nearest", "stochastic")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Measurement(Section):
    """Settings by which policies are asked and compared; see configs/evaluate.yaml."""

    weights: str = key("evaluate.weights", choices=WEIGHTS)
    rounding: str = key("evaluate.rounding", choices=ROUNDINGS)
    greedy: bool = key("evaluate.greedy")
    samples: int = key("evaluate.samples", at_least=0)
    temperature: float = key("evaluate.temperature", above=0)
    top_p: float = key("evaluate.top_p", above=0)
    max_response_tokens: int = key("evaluate.max_response_tokens", at_least=1)
    seed: int = key("evaluate.seed", at_least=0)
    judges: tuple[str, ...] = key("evaluate.judges")
    judge: str | None = key("evaluate.judge")
    confidence: float = key("evaluate.confidence", above=0)
    page_responses: int = key("evaluate.page_responses", at_least=1)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.confidence < 1:
            raise ConfigError(f"evaluate.confidence={self.confidence:g}: use a number below 1")
        if self.top_p > 1:
            raise ConfigError(f"evaluate.top_p={self.top_p:g}: use a number in (0, 1]")
        if not self.draws:
            raise ConfigError(
                "evaluate.samples=0: nothing to draw; set evaluate.greedy=true or "
                "evaluate.samples >= 1"
            )
        for field, names in (("judges", self.judges), ("judge", (self.judge,))):
            for name in names:
                if name is not None and name not in JUDGES:
                    raise ConfigError(f"evaluate.{field}={name}: choose from {', '.join(JUDGES)}")

    @property
    def draws(self) -> int:
        """Counts the responses to each question of each policy."""
        return int(self.greedy) + self.samples


@dataclasses.dataclass(frozen=True, kw_only=True)
class Evaluation:
    """One run of `evaluate`, typed and checked.

    Attributes:
        adapters: (name or None, folder) of each adapter, as given.
        benchmarks: {name: task}; their held-out rows are the questions.
        rows: the first so many of each benchmark; None: all.
    """

    base: BaseModel
    adapters: tuple[tuple[str | None, str], ...]
    benchmarks: Mapping[str, Task]
    rows: int | None
    data_path: str | None
    measure: Measurement
    grading_limits: GradingLimits
    engine: Engine
    run_dir: Path
    plugins: tuple[str, ...]
    tree: DictConfig = dataclasses.field(repr=False, compare=False)

    def stored(self) -> str:
        return OmegaConf.to_yaml(self.tree, resolve=True)


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Data(Section):
    path: str | None = key("data.path")
    rows: int | None = key("data.rows", at_least=1)
    benchmarks: tuple[str, ...] = key("benchmarks")
    plugins: tuple[str, ...] = key("plugins")
    run_dir: Path = key("run.dir")


def read_evaluation(config: DictConfig) -> Evaluation:
    """Reads the configuration of `evaluate`.

    Raises:
        ConfigError: a value is of another type, out of range or does not fit the others.
    """
    with unresolved_as_config_error():
        return _read_evaluation(config)


def _read_evaluation(config: DictConfig) -> Evaluation:
    data = _Data.read(config)
    plugins.load(data.plugins)
    measure, engine = Measurement.read(config), Engine.read(config)
    if measure.rounding == "stochastic" and engine.dtype not in ("bfloat16", "float32"):
        raise ConfigError(
            "evaluate.rounding=stochastic: only to bfloat16, device.engine.options.dtype is "
            f"{engine.dtype}"
        )
    return Evaluation(
        base=base_model(config),
        adapters=named_adapters(config),
        benchmarks=_benchmarks(config, data.benchmarks),
        rows=data.rows,
        data_path=data.path,
        measure=measure,
        grading_limits=GradingLimits.read(config),
        engine=engine,
        run_dir=data.run_dir.resolve(),
        plugins=data.plugins,
        tree=config,
    )


def engine_for(device: str) -> Engine:
    """Reads the engine of an evaluation on `device` (cpu or cuda), unchanged by a command line."""
    options = OmegaConf.load(config_dir() / "device" / f"{device}.yaml")
    return Engine.read(OmegaConf.create({"device": options}))


def named_adapters(config: DictConfig) -> tuple[tuple[str | None, str], ...]:
    """Returns (name or None, folder) of each adapter: of null, a folder, a list or {name: folder}.

    Raises:
        ConfigError: something else was given.
    """
    given = OmegaConf.select(config, "adapters")
    named: list[tuple[str | None, Any]]
    if OmegaConf.is_dict(given):
        named = [(str(name), given[name]) for name in given]
    elif given is None or isinstance(given, str) or OmegaConf.is_list(given):
        entries = [] if given is None else [given] if isinstance(given, str) else list(given)
        named = [(None, entry) for entry in entries]
    else:
        raise ConfigError(f"adapters={given}: give folders, as [DIR, DIR] or {{NAME: DIR}}")
    for _, entry in named:
        if not isinstance(entry, str):
            raise ConfigError(f"adapters={entry}: give folders, as [DIR, DIR] or {{NAME: DIR}}")
    return tuple(named)


def _benchmarks(config: DictConfig, names: tuple[str, ...]) -> dict[str, Task]:
    options: Any = OmegaConf.to_container(config.data, resolve=True)
    if not names or len(set(names)) != len(names):
        raise ConfigError(f"benchmarks={list(names)}: name one or more, each once")
    return {name: make_task(name, options, split="test", key="benchmarks") for name in names}
