"""The parts of an experiment that are our own: what is asked, graded, kept and reported."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from tinylora_rl.errors import ConfigError
from tinylora_rl.rewards import CONTROLS, JUDGES, GradingPool
from tinylora_rl.runs.stopping import ENDING_S
from tinylora_rl.settings.section import Section, key


@dataclasses.dataclass(frozen=True, kw_only=True)
class Batch(Section):
    """The prompts and samples of one step.

    Attributes:
        samples: of each prompt.
        mini_batch: prompts of one update; equal to `prompts` is strictly on-policy.
        max_prompt_tokens, max_response_tokens: what the task asks for, or the model can if less.
        seed: of the order of the rows.
    """

    prompts: int = key("data.train_batch_size", at_least=1)
    samples: int = key("actor_rollout_ref.rollout.n", rl=True, at_least=1)
    mini_batch: int = key("actor_rollout_ref.actor.ppo_mini_batch_size", rl=True, at_least=1)
    max_prompt_tokens: int = key("data.max_prompt_length", at_least=1)
    max_response_tokens: int = key("data.max_response_length", at_least=1)
    train_file: Path = key("data.train_files")
    validation_file: Path = key("data.val_files")
    seed: int = key("data.seed")
    num_workers: int = key("data.dataloader_num_workers")

    @property
    def sample_tokens(self) -> int:
        return self.max_prompt_tokens + self.max_response_tokens


@dataclasses.dataclass(frozen=True, kw_only=True)
class Validation(Section):
    """Questions and answers of a validation during a run.

    Attributes:
        samples: of each row, at `temperature`; `greedy`: each row once more at temperature 0.
        rows: the first so many of each held-out set; None: all.
        benchmarks: held-out sets beside the data's own.
        before_training: also at step 0.
        every: steps between validations; 0 or less: none but the last.
    """

    samples: int | None = key("task.eval_samples", at_least=0)
    temperature: float = key("task.eval_temperature", at_least=0)
    greedy: bool = key("task.eval_greedy")
    rows: int | None = key("task.eval_rows", at_least=1)
    benchmarks: tuple[str, ...] = key("task.eval_benchmarks")
    before_training: bool = key("trainer.val_before_train")
    every: int = key("trainer.test_freq", rl=True, default=-1)

    @property
    def draws(self) -> int:
        """Counts the responses to each row."""
        return (self.samples or 0) + int(self.greedy)


@dataclasses.dataclass(frozen=True, kw_only=True)
class GradingLimits(Section):
    """Limits of one verdict; a judge that takes more has timed out.

    Attributes:
        deadline_s: processor seconds of one answer.
        memory_limit_mb: address space of a grading process.
    """

    deadline_s: float = key("grading.deadline_s", above=0)
    memory_limit_mb: int = key("grading.memory_limit_mb", at_least=64)
    num_workers: int = key("grading.num_workers", at_least=1)

    def pool(self, plugins: Sequence[str]) -> GradingPool:
        """Makes grading processes with these limits, that have imported the user's plugins."""
        return GradingPool(
            num_workers=self.num_workers,
            deadline_s=self.deadline_s,
            memory_limit_bytes=self.memory_limit_mb << 20,
            plugins=plugins,
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Grading(Section):
    """The judges of a run.

    Attributes:
        judge: the accuracy, and the reward unless `control` is set.
        log_judges: judges whose verdicts are metrics.
        control: a reward that teaches nothing true, for comparison.
    """

    judge: str = key("task.judge")
    log_judges: tuple[str, ...] = key("task.log_judges")
    control: str | None = key("task.control", rl=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, names, choices in (
            ("judge", (self.judge,), JUDGES),
            ("log_judges", self.log_judges, JUDGES),
            ("control", (self.control,) if self.control else (), CONTROLS),
        ):
            for each in names:
                if each not in choices:
                    raise ConfigError(f"task.{name}={each}: choose from {', '.join(choices)}")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Run(Section):
    """The run directory and what bounds the run.

    Attributes:
        bank_cache_dir: of decompositions; None: the user's cache.
        poll_interval_s: between two looks whether a rollout is complete.
        rollout_deadline_s: within which one more prompt must be finished during a rollout.
        time_limit_s: seconds from the start by which the process has ended; None: no limit.
        fork_workers: Ray's workers are forks of one process that has imported what they need.
        resume: auto, never, a checkpoint or a run directory.
    """

    dir: Path = key("run.dir")
    recipe: str = key("task.recipe")
    bank_cache_dir: Path | None = key("run.bank_cache_dir")
    poll_interval_s: float = key("run.poll_interval_s", rl=True, above=0)
    rollout_deadline_s: float = key("run.rollout_deadline_s", rl=True, above=0)
    time_limit_s: float | None = key("run.time_limit_s")
    fork_workers: bool = key("run.fork_workers")
    resume: str = key("trainer.resume")
    resume_mode: str = key("trainer.resume_mode")
    resume_from_path: str | None = key("trainer.resume_from_path", default=None)

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "dir", self.dir.resolve())  # Ray's workers may stand elsewhere
        if self.time_limit_s is not None and not self.time_limit_s > ENDING_S:
            raise ConfigError(
                f"run.time_limit_s={self.time_limit_s:g}: ending alone may take {ENDING_S:g} s; "
                "use more seconds, or null for no limit"
            )
        for name, ours in (("resume_mode", "auto"), ("resume_from_path", None)):
            if getattr(self, name) != ours:
                raise ConfigError(
                    f"trainer.{name}={getattr(self, name)}: set trainer.resume to auto, never, a "
                    "checkpoint or a run directory instead"
                )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Checkpoints(Section):
    """Training checkpoints.

    Attributes:
        every: steps between two.
        keep: how many of the newest stay; None: all.
    """

    dir: Path = key("trainer.default_local_dir")
    every: int = key("trainer.save_freq", rl=True, default=1)
    keep: int | None = key("trainer.max_actor_ckpt_to_keep", rl=True)
    hdfs_dir: str | None = key("trainer.default_hdfs_dir", rl=True, default=None)
    async_save: bool = key("actor_rollout_ref.actor.checkpoint.async_save")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.hdfs_dir is not None:
            raise ConfigError(
                "trainer.default_hdfs_dir: not supported; a checkpoint is a few kilobytes, copy it"
            )
        if self.keep == 1:
            raise ConfigError(
                "trainer.max_actor_ckpt_to_keep=1: verl removes the old checkpoint before the new "
                "one is complete; use 2 or more, or null"
            )


LOGGERS = (
    *("wandb", "mlflow", "swanlab", "vemlp_wandb", "tensorboard", "console", "clearml"),
    *("trackio", "file", "rl_insight"),
)
"""`verl.utils.tracking.Tracking.supported_backend`, which a test compares."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Tracking(Section):
    """Trackers of metrics besides the run directory."""

    project: str = key("trainer.project_name")
    name: str = key("trainer.experiment_name")
    loggers: tuple[str, ...] = key("trainer.logger")
    wandb_proxy: str | None = key("trainer.wandb_proxy", default=None)

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in self.loggers:
            if name not in LOGGERS:
                raise ConfigError(f"trainer.logger={name}: choose from {', '.join(LOGGERS)}")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Supervised(Section):
    """The settings of a supervised run.

    Attributes:
        steps: updates instead of `epochs`; None: as many as these have.
        batch: rows in one update.
        keep_calculator_marks: GSM8K's <<48/2=24>> stay in the worked answers.
        save_every: updates between two checkpoints, of which `max_checkpoints` stay.
        evaluate: accuracy on held-out rows at the end.
    """

    epochs: int = key("sft.epochs", at_least=1)
    steps: int | None = key("sft.steps", at_least=1)
    batch: int = key("sft.batch_size", at_least=1)
    keep_calculator_marks: bool = key("sft.keep_calculator_marks")
    save_every: int = key("sft.save_freq", at_least=1)
    max_checkpoints: int = key("sft.max_checkpoints", at_least=1)
    evaluate: bool = key("sft.evaluate")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.max_checkpoints == 1:
            raise ConfigError(
                "sft.max_checkpoints=1: verl removes the old checkpoint before the new one is "
                "complete; use 2 or more"
            )


ENGINE_DTYPES = ("bfloat16", "float16", "float32")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Engine(Section):
    """The vLLM engine of an evaluation, on this machine.

    Attributes:
        options: keyword arguments of vllm.LLM.
        env: environment variables that its process needs.
    """

    device: str = key("device.name", choices=("cpu", "cuda"))
    options: Mapping[str, Any] = key("device.engine.options")
    env: Mapping[str, Any] = key("device.engine.env")

    def __post_init__(self) -> None:
        super().__post_init__()
        dtype, tensor_parallel = self.options.get("dtype"), self.tensor_parallel_size
        if dtype not in ENGINE_DTYPES:
            shown = "null" if dtype is None else dtype
            raise ConfigError(
                f"device.engine.options.dtype={shown}: choose from {', '.join(ENGINE_DTYPES)}"
            )
        if not isinstance(tensor_parallel, int) or tensor_parallel < 1:
            raise ConfigError(
                f"device.engine.options.tensor_parallel_size={tensor_parallel}: use a whole "
                "number of at least 1"
            )

    @property
    def dtype(self) -> str:
        return str(self.options["dtype"])

    @property
    def tensor_parallel_size(self) -> int:
        size: int = self.options.get("tensor_parallel_size", 1)
        return size


@dataclasses.dataclass(frozen=True, kw_only=True)
class CostRates(Section):
    """Assumed speed of a device, for a model of 1e9 parameters; see configs/sweepable.yaml."""

    start_s: float = key("start_s", above=0)
    step_s: float = key("step_s", above=0)
    tokens_per_s: float = key("tokens_per_s", above=0)
    sft_tokens_per_s: float = key("sft_tokens_per_s", above=0)

    @classmethod
    def read_for(cls, device: str, config: DictConfig) -> CostRates:
        """Reads the rates of one kind of device, `cost.DEVICE`."""
        rates = OmegaConf.select(config, f"cost.{device}")
        if rates is None:
            raise ConfigError(f"trainer.device={device}: choose from cpu, cuda")
        try:
            return cls.read(rates)
        except ConfigError as error:
            raise ConfigError(f"cost.{device}.{error}") from error
