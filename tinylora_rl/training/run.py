"""A checked configuration, run to its end through verl, told to a person line by line."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TextIO

from omegaconf import DictConfig, OmegaConf

from tinylora_rl.atomic import write_text
from tinylora_rl.base_model import commit_of
from tinylora_rl.errors import EXIT_FAILED, EXIT_SIGNAL
from tinylora_rl.planning.cost import total_steps
from tinylora_rl.runs.checkpoints import kept
from tinylora_rl.runs.console import ProgressLines, library_noise_to
from tinylora_rl.runs.directory import RunDirectory, exclusive
from tinylora_rl.runs.exit_codes import end_now, stop_on_signals
from tinylora_rl.runs.figure import draw_reward
from tinylora_rl.runs.samples_page import records_from_validation, write_samples_page
from tinylora_rl.runs.status import RecordedRun
from tinylora_rl.runs.stopping import StopFile
from tinylora_rl.runs.summary import closing_summary
from tinylora_rl.runs.time_limit import TimeLimit
from tinylora_rl.settings.run_checks import check_run
from tinylora_rl.settings.security import check_trust
from tinylora_rl.tasks.prepare import prepare_datasets
from tinylora_rl.training.nodes import pin_base_model, require_on_every_node
from tinylora_rl.training.preflight import (
    check_config,
    check_machine,
    check_model,
    check_slots,
    check_tracking,
    check_verl,
)
from tinylora_rl.training.ray_start import forked_workers, start_with
from tinylora_rl.training.ray_token import close_own_ray, cluster_address
from tinylora_rl.training.resume import begin_at, choose_beginning
from tinylora_rl.training.tracking import track_offline_if_unreachable
from tinylora_rl.training.watchdog import Watchdog
from tinylora_rl.verl_plugin.settings import MODEL_TYPE


def train(config: DictConfig) -> int:
    """Checks, prepares and trains.

    Returns:
        The exit code: 0 done, 1 the run failed, 75 it was asked to stop, and did after a step.

    Raises:
        ConfigError, MachineError: before anything expensive was started.
        KeyboardInterrupt: on SIGTERM and SIGINT, with Ray shut down and the summary printed.
    """
    start_s = time.monotonic()
    adapter = check_config(config)
    warnings = check_trust(config)
    close_own_ray(config)  # before anything imports Ray
    check_run(config)
    check_tracking(config)
    # absolute, because Ray's workers may stand elsewhere
    config.run.dir = str(Path(config.run.dir).expanduser().resolve())
    run = RunDirectory(Path(config.run.dir))
    stop = StopFile(run.path)
    with exclusive(run.path), RecordedRun(run.path, config.verb) as recorded:
        beginning = choose_beginning(config, adapter)
        stop.clear()
        num_train, num_test = prepare_datasets(config)
        recorded.expect(total_steps(config, num_train))
        print(f"run directory     {run.path}", flush=True)
        for warning in warnings:
            print(f"warning           {warning}", flush=True)
        try:
            with (
                library_noise_to(run.log) as console,
                TimeLimit(config.run.time_limit_s, start_s, run.metrics, ask=stop.ask, end=end_now),
                forked_workers(config) as py_executable,
            ):
                check_machine(config)
                check_slots(config)
                model = pin_base_model(config)
                trained = check_model(config, adapter)
                OmegaConf.resolve(config)
                check_verl(config)
                write_text(run.config, OmegaConf.to_yaml(config))
                opening = _opening(config, model, trained, num_train, num_test)
                opening += track_offline_if_unreachable(config, run.path)
                begin_at(config, beginning.checkpoint)
                start_with(config, py_executable)
                for line in (*opening, *beginning.lines):
                    print(line, file=console)
                    print(line)  # into the log, too
                recorded.exit_code = _train(config, run, stop, console, start_s)
        finally:
            early = kept(run.checkpoints) if recorded.exit_code else []
            for line in (*closing_summary(run), *early):
                print(line)
    return recorded.exit_code


def _train(
    config: DictConfig, run: RunDirectory, stop: StopFile, console: TextIO, start_s: float
) -> int:
    import ray
    from verl.trainer.main_ppo import run_ppo

    from tinylora_rl.verl_plugin.trainer import TinyLoraTaskRunner

    # else W&B writes where the command was given
    os.environ.setdefault("WANDB_DIR", str(run.path))
    seconds = time.monotonic() - start_s
    print(f"checked in        {seconds:.0f} s; starting Ray, actor and vLLM ...", file=console)
    watchdog = Watchdog()
    try:
        with ProgressLines(run.metrics, console, config.trainer.total_training_steps), watchdog:
            runner = _AfterRayInit(TinyLoraTaskRunner, config, stop.ask, watchdog)
            run_ppo(config, task_runner_class=runner)
    except ray.exceptions.RayError as error:
        print(
            f"the run failed: {watchdog.found or _cause(error)}\nthe whole story is in {run.log}",
            file=console,
        )
        return EXIT_FAILED
    finally:
        ray.shutdown()
        _illustrate(run, config)
    if stop.stopped_after_step is not None:
        print(f"stopped after step {stop.stopped_after_step}: {stop.reason}", file=console)
        return EXIT_SIGNAL
    return 0


def _illustrate(run: RunDirectory, config: DictConfig) -> None:
    """Figure and page of what there is; a run's outcome does not depend on them."""
    title = config.trainer.experiment_name
    try:
        draw_reward(run.metrics, run.figure, title=title)
        dumps = sorted(run.samples.glob("*.jsonl"), key=lambda dump: int(dump.stem))
        records: list[dict[str, Any]] = []
        for dump in dict.fromkeys([*dumps[:1], *dumps[-1:]]):  # the first validation and the last
            records += records_from_validation(dump, benchmark=config.data.name)
        if records:
            write_samples_page(records, run.samples_page, title=title)
    except (OSError, ValueError) as error:
        print(f"figure or page not written: {error}")


def _opening(
    config: DictConfig, model: str, adapter: str, num_train: int, num_test: int
) -> list[str]:
    """What is going to be computed: everything that changes the mathematics."""
    optim = config.actor_rollout_ref.actor.optim
    correction = config.algorithm.rollout_correction
    return [
        f"model             {model}",
        f"adapter           {adapter}",
        f"algorithm         GRPO, {config.data.train_batch_size} prompts x "
        f"{config.actor_rollout_ref.rollout.n} samples, {optim.optimizer} lr {optim.lr:g} decay "
        f"{optim.weight_decay:g}, "
        f"TIS {correction.rollout_is} <= {correction.rollout_is_threshold}",
        f"data              {config.data.name}, {num_train} training and {num_test} held-out rows, "
        f"prompt <= {config.data.max_prompt_length}, response <= {config.data.max_response_length} "
        "tokens",
        f"reward            {config.task.control or config.task.judge}, accuracy by "
        f"{config.task.judge}",
        f"sync              {_sync(config)}",
    ]


def _sync(config: DictConfig) -> str:
    model = config.actor_rollout_ref.model
    if model.model_type == MODEL_TYPE:
        return f"{config.sync.mode}, {config.sync.dtype} {config.sync.rounding}"
    # verl 0.9.1 casts what it merges (_merged_lora_per_tensor_param), whatever the rollout's dtype
    return "whole weights, merged by verl in bfloat16" if model.lora_rank else "whole weights"


class _AfterRayInit:
    """An actor class whose creation takes the signals back first, and is watched afterwards.

    On a cluster each node has the base model before anything is started on it.

    `ray.init`, which verl's `run_ppo` calls, puts its own handlers in place of ours, and its core
    aborts on SIGTERM. Creating the task runner is what `run_ppo` does next.
    """

    def __init__(
        self,
        actor_class: Any,
        config: DictConfig,
        ask: Callable[[str], None],
        watchdog: Watchdog,
    ) -> None:
        self._actor_class = actor_class
        self._config = config
        self._ask = ask
        self._watchdog = watchdog

    def options(self, **options: Any) -> _AfterRayInit:
        actor_class = self._actor_class.options(**options)
        return _AfterRayInit(actor_class, self._config, self._ask, self._watchdog)

    def remote(self) -> Any:
        stop_on_signals(self._ask)
        if cluster_address(self._config) is not None:
            folder = Path(self._config.actor_rollout_ref.model.path)
            require_on_every_node(
                folder,
                commit_of(folder),
                str(self._config.base_model.path),
                wants_gpu=self._config.trainer.device == "cuda",
            )
        return self._watchdog.watch(self._actor_class.remote())


def _cause(error: BaseException) -> str:
    """The last line of the innermost error, which is what went wrong."""
    cause = getattr(error, "cause", None) or error
    lines = [line for line in str(cause).strip().splitlines() if line.strip()]
    return lines[-1].strip() if lines else type(cause).__name__
