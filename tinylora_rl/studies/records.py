"""Reads a training run for a study: its configuration, its metrics, how it ended. Read-only.

A record comes from a run directory (`read_run`) or from Weights & Biases (`wandb_server`); the rest
of the package does not ask which.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import yaml

from tinylora_rl.artifact.manifest import MANIFEST, read_manifest
from tinylora_rl.errors import ConfigError
from tinylora_rl.runs.directory import RunDirectory, held_out, read_metrics
from tinylora_rl.runs.status import STATUS_FILE, is_active, read_status
from tinylora_rl.studies.questions import count_questions
from tinylora_rl.studies.size import Size, size_of

State = Literal["finished", "running", "stopped", "failed", "unknown"]

LEARNING_RATE_KEYS = ("actor_rollout_ref.actor.optim.lr", "optim.lr")
LOGGED_PARAMETERS = "tinylora/num_parameters"
SEED_KEYS = ("seed", "data.seed", "adapter.seed")


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunRecord:
    """One training run.

    Attributes:
        name: unique within a report.
        source: the directory or W&B address that it was read from.
        config: as the run resolved it, plain values.
        metrics: one dictionary a step, in order, each with `step`.
        num_items: {held-out name: number of questions}, as far as known.
        digest: of the adapter in the directory; "" where there is none.
    """

    name: str
    source: str
    config: Mapping[str, Any]
    metrics: Sequence[Mapping[str, Any]]
    state: State
    size: Size
    num_items: Mapping[str, int] = dataclasses.field(default_factory=dict)
    digest: str = ""

    @property
    def command(self) -> str:
        """`train` for GRPO, `sft` for supervised fine-tuning."""
        stated = self.config.get("command") or self.config.get("verb")  # verb: until 0.1
        return str(stated or ("train" if "actor_rollout_ref" in self.config else "sft"))

    @property
    def task(self) -> str:
        """The task of the accuracies: data set and, where one is named, its judge."""
        judge = setting(self.config, "task.judge")
        return f"{setting(self.config, 'data.name')}" + (f" ({judge})" if judge else "")

    @property
    def benchmark(self) -> str:
        """The data set's name."""
        return str(setting(self.config, "data.name"))

    @property
    def model(self) -> str:
        """The base model's last name: `Qwen2.5-7B-Instruct`, `base_model`."""
        path = setting(self.config, "base_model.path")
        return str(path).rstrip("/").rpartition("/")[2] if path else "unknown model"

    @property
    def learning_rate(self) -> float | None:
        keys = LEARNING_RATE_KEYS if self.command == "train" else LEARNING_RATE_KEYS[::-1]
        found = [setting(self.config, key) for key in keys]
        return next((float(value) for value in found if value is not None), None)

    @property
    def seed(self) -> str:
        """The run's `seed`; without that key the seeds of the data and of P."""
        found = [setting(self.config, key) for key in SEED_KEYS]
        if found[0] is not None:
            return str(found[0])
        return "/".join(dict.fromkeys(str(value) for value in found[1:] if value is not None))

    @property
    def num_steps(self) -> int:
        return max((row["step"] for row in self.metrics), default=0)

    def series(self, metric: str) -> list[tuple[int, float]]:
        """Returns (step, value) wherever `metric` was logged and is a number."""
        return [
            (row["step"], float(row[metric]))
            for row in self.metrics
            if isinstance(row.get(metric), int | float)
        ]

    def accuracies(self) -> dict[str, list[tuple[int, float]]]:
        """Returns {held-out name: [(step, accuracy)]}; step 0 is the untrained model."""
        found: dict[str, list[tuple[int, float]]] = {}
        for row in self.metrics:
            for name, accuracy in held_out(row).items():
                if accuracy is not None:
                    found.setdefault(name, []).append((row["step"], accuracy))
        return found

    def last_accuracy(self, name: str) -> float:
        """Returns the last held-out accuracy under `name`, which must have been measured."""
        return self.accuracies()[name][-1][1]


def read_run(directory: Path, name: str | None = None) -> RunRecord:
    """Reads the run in `directory`, finished or not.

    Raises:
        ConfigError: `config.yaml` is missing or no configuration, or the adapter is damaged.
    """
    run = RunDirectory(Path(directory))
    config = _read_config(run.config)
    metrics = read_metrics(run.metrics)
    try:
        found = (run.adapter / MANIFEST).is_file()
        manifest = read_manifest(run.adapter) if found else None
    except ValueError as error:
        raise ConfigError(str(error)) from error
    return RunRecord(
        name=name or run.path.name,
        source=str(run.path),
        config=config,
        metrics=metrics,
        state=_state(run.path, config, metrics),
        size=size_of(config, manifest, logged_parameters(metrics)),
        num_items=count_questions(run),
        digest=manifest["digest"] if manifest else "",
    )


def is_run(directory: Path) -> bool:
    """Returns True where a training wrote `directory`: evaluations have no metrics."""
    run = RunDirectory(directory)
    return run.config.is_file() and (run.metrics.is_file() or (directory / STATUS_FILE).is_file())


def setting(config: Mapping[str, Any], key: str) -> Any:
    """Returns the value under the dotted `key`; None where there is none."""
    value: Any = config
    for part in key.split("."):
        if not isinstance(value, Mapping) or part not in value:
            return None
        value = value[part]
    return value


def state_by_steps(config: Mapping[str, Any], metrics: Sequence[Mapping[str, Any]]) -> State:
    """Returns the state of a run without a status: finished when its last step is there."""
    total = setting(config, "trainer.total_training_steps")
    last = max((row["step"] for row in metrics), default=-1)
    return "finished" if isinstance(total, int) and 0 < total <= last else "unknown"


def logged_parameters(metrics: Sequence[Mapping[str, Any]]) -> float | None:
    """Returns the number of trained parameters that the run logged, if it did."""
    return next((row[LOGGED_PARAMETERS] for row in metrics if LOGGED_PARAMETERS in row), None)


def _state(
    directory: Path, config: Mapping[str, Any], metrics: Sequence[Mapping[str, Any]]
) -> State:
    status = read_status(directory)
    if status is None:
        return state_by_steps(config, metrics)
    if status.state == "running" and not is_active(directory):
        return "stopped"  # killed: no process has locked the directory
    return status.state


def _read_config(path: Path) -> dict[str, Any]:
    try:
        config = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(
            f"run={path.parent}: no config.yaml; give a folder that a run wrote"
        ) from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        problem = " ".join(str(error).split())
        raise ConfigError(f"{path}: no YAML ({problem:.120}); leave this run out") from error
    if not isinstance(config, dict):
        raise ConfigError(f"{path}: no mapping of settings; leave this run out")
    return config
