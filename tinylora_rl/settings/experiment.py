"""An experiment: everything that a run of `train` or `sft` needs to know, read once."""

from __future__ import annotations

import copy
import dataclasses
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

from omegaconf import DictConfig, OmegaConf, open_dict

from tinylora_rl import plugins
from tinylora_rl.base_model import BaseModel
from tinylora_rl.errors import ConfigError
from tinylora_rl.methods import Method, make_method
from tinylora_rl.settings import sections, verl_sections
from tinylora_rl.settings.checks import UnreadError, check
from tinylora_rl.settings.in_workers import SyncConfig
from tinylora_rl.settings.section import (
    base_model,
    unresolved_as_config_error,
    whole_number,
)
from tinylora_rl.tasks import RunRows, Task, benchmark_tasks, make_task, run_rows, task_names

Command = Literal["train", "sft"]
RL_ONLY = ("algorithm", "critic", "distillation", "model_engine", "ray_kwargs", "transfer_queue")
"""Nodes of the tree that only rollouts and rewards read."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Experiment:
    """One run of `train` or `sft`, typed and checked.

    Attributes:
        supervised: the settings of `sft`; None for `train`.
        rates, num_parameters: for cost estimates; the second only where it is stated.
        tree: the composed configuration, verl's own tree in it; see `for_verl`.
    """

    command: Command
    seed: int
    task: Task
    base: BaseModel
    method: Method
    sync: SyncConfig
    batch: sections.Batch
    validation: sections.Validation
    grading: sections.Grading
    grading_limits: sections.GradingLimits
    hardware: verl_sections.Hardware
    actor: verl_sections.Actor
    optim: verl_sections.Optim
    rollout: verl_sections.Rollout
    ray: verl_sections.RayStart
    duration: verl_sections.Duration
    run: sections.Run
    checkpoints: sections.Checkpoints
    tracking: sections.Tracking
    engine: sections.Engine
    supervised: sections.Supervised | None
    rates: sections.CostRates
    num_parameters: int | None
    plugins: tuple[str, ...]
    tree: DictConfig = dataclasses.field(repr=False, compare=False)

    @property
    def is_rl(self) -> bool:
        return self.command == "train"

    @property
    def update_rows(self) -> int:
        """Rows (`sft`) or prompts (`train`) of one update."""
        return self.batch.prompts if self.supervised is None else self.supervised.batch

    @property
    def num_replicas(self) -> int:
        hardware = self.hardware
        devices = hardware.rollout_per_node * hardware.rollout_nodes or hardware.num_ranks
        return devices // self.rollout.tensor_parallel_size

    def total_steps(self, num_rows: int) -> int:
        """Counts the steps on so many training rows: as stated, at most what the epochs have."""
        per_epoch = num_rows // self.update_rows
        if self.supervised is None:
            steps = per_epoch * self.duration.epochs
            stated = self.duration.steps
            return steps if stated is None else min(stated, steps)
        return self.supervised.steps or per_epoch * self.supervised.epochs

    def supervised_steps(self, num_sequences: int) -> tuple[int, int]:
        """Returns (updates, epochs begun) of `sft` on so many sequences.

        Each rank has an equal share of the sequences and fills its part of a batch from it alone.
        """
        assert self.supervised is not None
        ranks = self.hardware.per_node
        per_epoch = (num_sequences // ranks) // (self.supervised.batch // ranks)
        steps = self.supervised.steps or self.supervised.epochs * per_epoch
        return steps, math.ceil(steps / per_epoch)

    def rows(self) -> RunRows:
        """Loads the training rows, and the held-out rows of the task and of further benchmarks.

        Raises:
            ConfigError: rows are missing, malformed or fewer than one batch.
        """
        return run_rows(
            self.task,
            benchmark_tasks(self.task, self.validation.benchmarks),
            least=self.batch.prompts,
            limit=self.validation.rows,
            judge=self.grading.judge,
        )

    def provenance(self) -> dict[str, Any]:
        """Returns the description of this run for an adapter's manifest."""
        node = OmegaConf.select(self.tree, "actor_rollout_ref.model.lora.tinylora.provenance")
        stated: Any = OmegaConf.to_container(node, resolve=True)
        return {str(name): value for name, value in stated.items()}

    def for_verl(
        self,
        *,
        model_dir: Path | None = None,
        checkpoint: Path | None = None,
        env_vars: Mapping[str, str] | None = None,
        py_executable: str | None = None,
        total_steps: tuple[int, int] | None = None,
    ) -> DictConfig:
        """Returns verl's tree, resolved, with what was found out since it was composed.

        Args:
            model_dir: folder of the base model, read by every process instead of the hub.
            checkpoint: folder `global_step_N` that the run goes on from; None: from step 0.
            env_vars: further environment variables of Ray's workers.
            py_executable: command that starts a Ray worker; None is Ray's own.
            total_steps: (steps, epochs) where they are known only from the data.
        """
        tree = copy.deepcopy(self.tree)
        with open_dict(tree):
            tree.run.dir = str(self.run.dir)
            if model_dir is not None:
                tree.actor_rollout_ref.model.path = str(model_dir)
            tree.trainer.resume_mode = "disable" if checkpoint is None else "resume_path"
            tree.trainer.resume_from_path = None if checkpoint is None else str(checkpoint)
            if total_steps is not None:
                tree.trainer.total_training_steps, tree.trainer.total_epochs = total_steps
            runtime_env = "ray_kwargs.ray_init.runtime_env"
            for name, value in (env_vars or {}).items():
                OmegaConf.update(tree, f"{runtime_env}.env_vars.{name}", value, force_add=True)
            if py_executable is not None:
                OmegaConf.update(
                    tree, f"{runtime_env}.py_executable", py_executable, force_add=True
                )
        OmegaConf.resolve(tree)
        return tree

    def stored(self, tree: DictConfig) -> str:
        """Returns the YAML that the run directory keeps of `tree`, as `for_verl` returned it."""
        if self.supervised is None:
            return OmegaConf.to_yaml(tree)
        kept = [str(name) for name in tree if name not in RL_ONLY]
        return OmegaConf.to_yaml(OmegaConf.masked_copy(tree, kept))


def read(config: DictConfig) -> Experiment:
    """Reads and checks the configuration of `train` or `sft`.

    Raises:
        ConfigError: the first value of another type, out of range or that does not fit the others.
    """
    experiment, errors = problems(config)
    if errors:
        raise errors[0]
    assert experiment is not None
    return experiment


def problems(config: DictConfig) -> tuple[Experiment | None, list[ConfigError]]:
    """Reads a configuration and finds all that is wrong with its values, not the first alone.

    The experiment is None where some part cannot be read.
    """
    parts: dict[str, Any] = {}
    errors: list[ConfigError] = []
    for name, part in _PARTS.items():
        try:
            with unresolved_as_config_error():
                parts[name] = part(config)
        except ConfigError as error:
            errors.append(error)
            if name == "task":
                return None, errors  # too much of the rest follows from the data set
    partial: Any = _Partial(parts)
    errors += check(partial)
    return (None if len(parts) < len(_PARTS) else Experiment(**parts)), errors


class _Partial:
    """An experiment of which some parts are missing."""

    def __init__(self, parts: dict[str, Any]) -> None:
        self._parts = parts

    def __getattr__(self, name: str) -> Any:
        if name in self._parts:
            return self._parts[name]
        if name in _PARTS:
            raise UnreadError(name)
        return getattr(Experiment, name).fget(self)


def _plain(config: DictConfig, key: str) -> dict[str, Any]:
    node = OmegaConf.select(config, key)
    plain: Any = OmegaConf.to_container(node, resolve=True) if node is not None else {}
    return {str(name): value for name, value in plain.items()}


def _plugins(config: DictConfig) -> tuple[str, ...]:
    names = plugins.names_of(OmegaConf.select(config, "plugins"))
    plugins.load(names)
    return tuple(names)


def _task(config: DictConfig) -> Task:
    if config.data.get("name") is None:
        raise ConfigError(
            "data.name=None: no data set is chosen; give a recipe (+recipe=arithmetic_cpu), or "
            f"data= one of {', '.join(task_names('train'))}"
        )
    return make_task(str(config.data.name), _plain(config, "data"), split="train")


def _rates(config: DictConfig) -> sections.CostRates:
    return sections.CostRates.read_for(str(config.trainer.device), config)


_PARTS: dict[str, Callable[[DictConfig], Any]] = {
    "command": lambda config: str(config.command),
    "plugins": _plugins,  # before what they may define
    "seed": lambda config: whole_number("seed", config.seed),
    "task": _task,
    "base": base_model,
    "method": lambda config: make_method(config.method, _plain(config, "adapter")),
    "sync": lambda config: SyncConfig.from_options(_plain(config, "sync")),
    "grading": sections.Grading.read,
    "grading_limits": sections.GradingLimits.read,
    "validation": sections.Validation.read,
    "batch": sections.Batch.read,
    "hardware": verl_sections.Hardware.read,
    "actor": verl_sections.Actor.read,
    "optim": verl_sections.Optim.read,
    "rollout": verl_sections.Rollout.read,
    "ray": verl_sections.RayStart.read,
    "duration": verl_sections.Duration.read,
    "run": sections.Run.read,
    "checkpoints": sections.Checkpoints.read,
    "tracking": sections.Tracking.read,
    "engine": sections.Engine.read,
    "supervised": lambda config: (
        sections.Supervised.read(config) if config.command == "sft" else None
    ),
    "rates": _rates,
    "num_parameters": lambda config: whole_number(
        "cost.num_parameters", config.cost.num_parameters, int | None
    ),
    "tree": lambda config: config,
}
"""{field of Experiment: its reader}, in the order in which errors are found."""
