"""Runs GRPO through verl, from a checked experiment to its summary."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any, TextIO

from omegaconf import DictConfig

from tinylora_rl.atomic import write_text
from tinylora_rl.errors import EXIT_FAILED, EXIT_SIGNAL
from tinylora_rl.runs.checkpoints import kept
from tinylora_rl.runs.console import ProgressLines, closing_summary, library_noise_to
from tinylora_rl.runs.directory import RunDirectory, exclusive
from tinylora_rl.runs.exit_codes import end_now, stop_on_signals
from tinylora_rl.runs.figure import draw_reward
from tinylora_rl.runs.samples_page import records_from_validation, write_samples_page
from tinylora_rl.runs.status import RecordedRun
from tinylora_rl.runs.stopping import StopFile, TimeLimit
from tinylora_rl.settings.experiment import Experiment
from tinylora_rl.settings.security import check_trust
from tinylora_rl.tasks import RunRows, validation_rows, write_parquet
from tinylora_rl.training.preflight import check_machine, check_model, check_slots, check_verl
from tinylora_rl.training.ray_setup import (
    check_ray,
    close_own_ray,
    cluster_address,
    forked_workers,
    require_on_every_node,
)
from tinylora_rl.training.resume import choose_beginning
from tinylora_rl.training.tracking import check_tracking, prepare_tracking
from tinylora_rl.training.watchdog import Watchdog


def train(experiment: Experiment) -> int:
    """Checks, prepares and trains.

    Returns:
        The exit code: 0 done, 1 the run failed, 75 it was asked to stop, and did after a step.

    Raises:
        ConfigError, MachineError: before anything expensive was started.
        KeyboardInterrupt: on SIGTERM and SIGINT, with Ray shut down and the summary printed.
    """
    start_s = time.monotonic()
    warnings = check_trust(experiment) + check_ray(experiment.ray)
    close_own_ray(experiment.ray)  # before anything imports Ray
    check_tracking(experiment.tracking)
    run = RunDirectory(experiment.run.dir)
    stop = StopFile(run.path)
    with exclusive(run.path), RecordedRun(run.path, experiment.command) as recorded:
        beginning = choose_beginning(experiment)
        stop.clear()
        rows = write_rows(experiment)
        num_train, num_test = len(rows.train), len(rows.held_out)
        recorded.expect(experiment.total_steps(num_train))
        print(f"run directory     {run.path}", flush=True)
        for warning in (*warnings, *rows.remarks):
            print(f"warning           {warning}", flush=True)
        limit_s = experiment.run.time_limit_s
        try:
            with (
                library_noise_to(run.log) as console,
                TimeLimit(limit_s, start_s, run.metrics, ask=stop.ask, end=end_now),
                forked_workers(experiment) as py_executable,
            ):
                check_machine(experiment)
                check_slots(experiment)
                trained = check_model(experiment)
                env_vars, tracking_lines = prepare_tracking(experiment.tracking, run.path)

                def tree(py_executable: str | None = None) -> DictConfig:
                    return experiment.for_verl(
                        model_dir=experiment.base.folder,
                        checkpoint=beginning.checkpoint,
                        env_vars=env_vars,
                        py_executable=py_executable,
                    )

                check_verl(tree())
                # without py_executable, which is of this moment only
                write_text(run.config, experiment.stored(tree()))
                opening = _opening(experiment, trained, num_train, num_test)
                for line in (*opening, *tracking_lines, *beginning.lines):
                    print(line, file=console)
                    print(line)  # into the log, too
                recorded.exit_code = _train(
                    experiment, tree(py_executable), run, stop, console, start_s
                )
        finally:
            early = kept(run.checkpoints) if recorded.exit_code else []
            for line in (*closing_summary(run), *early):
                print(line)
    return recorded.exit_code


def write_rows(experiment: Experiment) -> RunRows:
    """Writes `data.train_files` and `data.val_files`; returns the rows."""
    rows, validation = experiment.rows(), experiment.validation
    asked = validation_rows(
        rows.held_out, samples=validation.samples or 0, greedy=validation.greedy
    )
    write_parquet(rows.train, experiment.batch.train_file)
    write_parquet(asked, experiment.batch.validation_file)
    return rows


def _train(
    experiment: Experiment,
    tree: DictConfig,
    run: RunDirectory,
    stop: StopFile,
    console: TextIO,
    start_s: float,
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
        with ProgressLines(run.metrics, console, experiment.duration.steps), watchdog:
            runner = _AfterRayInit(TinyLoraTaskRunner, experiment, stop.ask, watchdog)
            run_ppo(tree, task_runner_class=runner)
    except ray.exceptions.RayError as error:
        print(
            f"the run failed: {watchdog.found or _cause(error)}\nthe whole story is in {run.log}",
            file=console,
        )
        return EXIT_FAILED
    finally:
        ray.shutdown()
        _illustrate(experiment, run)
    if stop.stopped_after_step is not None:
        print(f"stopped after step {stop.stopped_after_step}: {stop.reason}", file=console)
        return EXIT_SIGNAL
    return 0


def _illustrate(experiment: Experiment, run: RunDirectory) -> None:
    """Draws figure and page of what there is; a run's outcome does not depend on them."""
    title = experiment.tracking.name
    try:
        draw_reward(run.metrics, run.figure, title=title)
        dumps = sorted(run.samples.glob("*.jsonl"), key=lambda dump: int(dump.stem))
        records: list[dict[str, Any]] = []
        for dump in dict.fromkeys([*dumps[:1], *dumps[-1:]]):  # the first validation and the last
            records += records_from_validation(dump, benchmark=experiment.task.name)
        if records:
            write_samples_page(records, run.samples_page, title=title)
    except (OSError, ValueError) as error:
        print(f"figure or page not written: {error}")


def _opening(experiment: Experiment, trained: str, num_train: int, num_test: int) -> list[str]:
    batch, optim, grading = experiment.batch, experiment.optim, experiment.grading
    duration, sync, method = experiment.duration, experiment.sync, experiment.method
    rounded = f"{sync.mode}, {sync.dtype} {sync.rounding}"
    return [
        f"model             {experiment.base}",
        f"adapter           {trained}",
        f"algorithm         GRPO, {batch.prompts} prompts x {batch.samples} samples, {optim.name} "
        f"lr {optim.lr:g} decay {optim.weight_decay:g}, "
        f"TIS {duration.correction} <= {duration.correction_cap}",
        f"data              {experiment.task.name}, {num_train} training and {num_test} "
        f"held-out rows, prompt <= {batch.max_prompt_tokens}, response <= "
        f"{batch.max_response_tokens} tokens",
        f"reward            {grading.control or grading.judge}, accuracy by {grading.judge}",
        f"sync              {rounded if method.has_vector else method.transfer}",
    ]


class _AfterRayInit:
    """An actor class whose creation takes the signals back first, and is watched afterwards.

    `ray.init`, which verl's `run_ppo` calls, puts its own handlers in place of ours, and its core
    aborts on SIGTERM. Creating the task runner is what `run_ppo` does next. On a cluster each node
    has the base model before that.
    """

    def __init__(
        self,
        actor_class: Any,
        experiment: Experiment,
        ask: Callable[[str], None],
        watchdog: Watchdog,
    ) -> None:
        self._actor_class = actor_class
        self._experiment = experiment
        self._ask = ask
        self._watchdog = watchdog

    def options(self, **options: Any) -> _AfterRayInit:
        actor_class = self._actor_class.options(**options)
        return _AfterRayInit(actor_class, self._experiment, self._ask, self._watchdog)

    def remote(self) -> Any:
        stop_on_signals(self._ask)
        if cluster_address(self._experiment.ray) is not None:
            base = self._experiment.base
            wants_gpu = self._experiment.hardware.kind == "cuda"
            require_on_every_node(base.folder, base.commit, base.id, wants_gpu=wants_gpu)
        return self._watchdog.watch(self._actor_class.remote())


def _cause(error: BaseException) -> str:
    """Returns the last line of the innermost error, which is what went wrong."""
    cause = getattr(error, "cause", None) or error
    lines = [line for line in str(cause).strip().splitlines() if line.strip()]
    return lines[-1].strip() if lines else type(cause).__name__
