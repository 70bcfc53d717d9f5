"""Runs supervised training and its evaluation, from a checked experiment to its summary."""

from __future__ import annotations

import os
import re
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TextIO

from tinylora_rl import artifact
from tinylora_rl.artifact import Provenance
from tinylora_rl.atomic import write_json, write_text
from tinylora_rl.errors import EXIT_FAILED, EXIT_SIGNAL, ConfigError
from tinylora_rl.evaluation.plan import BASE
from tinylora_rl.evaluation.runner import read_items
from tinylora_rl.runs.checkpoints import kept
from tinylora_rl.runs.console import ProgressLines, closing_summary, exit_noise_to, library_noise_to
from tinylora_rl.runs.directory import MetricsFile, RunDirectory, exclusive, held_out, read_metrics
from tinylora_rl.runs.exit_codes import end_now, stop_on_signals
from tinylora_rl.runs.figure import panels, plot_held_out, series, write_figure
from tinylora_rl.runs.samples_page import write_samples_page
from tinylora_rl.runs.status import RecordedRun, last_step
from tinylora_rl.runs.stopping import StopFile, TimeLimit
from tinylora_rl.settings.experiment import Experiment
from tinylora_rl.settings.security import check_trust
from tinylora_rl.supervised.data import SupervisedData, prepare_data
from tinylora_rl.supervised.evaluation import TRAINED, HeldOut
from tinylora_rl.supervised.ranks import run_ranks
from tinylora_rl.training.preflight import check_model, check_supervised
from tinylora_rl.training.resume import choose_beginning
from tinylora_rl.training.tracking import check_tracking, prepare_tracking

RANK_MODULE = "tinylora_rl.supervised.rank"
ERROR = re.compile(r"^(?:\[rank\d+\]: )?((?:\w+\.)*\w+Error: .*)$", re.MULTILINE)
PROVENANCE = "provenance.json"  # in folders of PEFT and Hugging Face, which have no place for it


def sft(experiment: Experiment) -> int:
    """Checks, prepares, trains and evaluates; what is done already is not done again.

    Returns:
        The exit code: 0 done, 1 the run failed, 75 it was asked to stop, and did after an update.

    Raises:
        ConfigError, MachineError: before anything expensive was started.
        KeyboardInterrupt: on SIGTERM and SIGINT, with the summary printed; the update in progress
            is finished and saved, if that takes no longer than `ranks.GRACE_S`.
    """
    start_s = time.monotonic()
    warnings = check_trust(experiment)
    check_tracking(experiment.tracking)
    for name, value in experiment.engine.env.items():
        os.environ.setdefault(name, str(value))
    run = RunDirectory(experiment.run.dir)
    stop = StopFile(run.path)
    with exclusive(run.path), RecordedRun(run.path, experiment.command) as record:
        beginning = choose_beginning(experiment)
        stop.clear()
        print(f"run directory     {run.path}", flush=True)
        for warning in warnings:
            print(f"warning           {warning}", flush=True)
        exit_noise_to(run.log)
        limit_s = experiment.run.time_limit_s
        try:
            with (
                library_noise_to(run.log) as console,
                TimeLimit(limit_s, start_s, run.metrics, ask=stop.ask, end=end_now),
            ):
                check_supervised(experiment)
                trained = check_model(experiment)
                data = prepare_data(experiment)
                steps, epochs = experiment.supervised_steps(data.num_train)
                if (reached := last_step(run.path)) > steps:
                    raise ConfigError(
                        f"run.dir={run.path}: has made {reached} updates already, this run would "
                        f"end after {steps}; give another run.dir"
                    )
                record.expect(steps)
                tree = experiment.for_verl(
                    model_dir=experiment.base.folder,
                    checkpoint=beginning.checkpoint,
                    total_steps=(steps, epochs),
                )
                write_text(run.config, experiment.stored(tree))
                _, tracking_lines = prepare_tracking(experiment.tracking, run.path)
                opening = _opening(experiment, trained, data, steps)
                remarks = [f"warning           {remark}" for remark in data.remarks]
                for line in (*remarks, *opening, *tracking_lines, *beginning.lines):
                    print(line, file=console)
                    print(line)  # into the log, too
                seconds = time.monotonic() - start_s
                print(f"checked in        {seconds:.0f} s; starting verl ...", file=console)
                code = _train(experiment, run, stop, steps, console)
                if code == 0:
                    _publish(experiment, run, steps)
                    if experiment.supervised and experiment.supervised.evaluate:
                        stop_on_signals()  # items are kept one by one: nothing to wait for
                        _evaluate(experiment, run, console, data, steps)
                record.exit_code = code
                return code
        finally:
            _illustrate(run, experiment.tracking.name)
            lines = [*loss_lines(run.metrics), *closing_summary(run)]
            for line in lines + (kept(run.checkpoints) if record.exit_code else []):
                print(line)


def _train(
    experiment: Experiment,
    run: RunDirectory,
    stop: StopFile,
    steps: int,
    console: TextIO,
) -> int:
    stop_on_signals(stop.ask)
    with ProgressLines(run.metrics, console, steps):
        code = run_ranks(
            RANK_MODULE,
            [str(run.config), str(os.getpid())],
            num_ranks=experiment.hardware.per_node,
            env={
                "WANDB_DIR": str(run.path),
                # the device's, for workers
                **{name: str(value) for name, value in experiment.ray.env_vars.items()},
            },
        )
    if code == EXIT_SIGNAL:
        print(f"stopped after an update: {stop.reason}", file=console)
        return EXIT_SIGNAL
    if code:  # the last line of a rank's traceback
        errors = ERROR.findall(run.log.read_text(encoding="utf-8", errors="replace"))
        print(
            f"the run failed: {(errors or [f'a rank ended with code {code}'])[-1]}\n"
            f"the whole story is in {run.log}",
            file=console,
        )
        return EXIT_FAILED
    return 0


def _publish(experiment: Experiment, run: RunDirectory, steps: int) -> None:
    """Makes the last checkpoint's adapter `adapter/`; another policy states what it is."""
    if experiment.method.trained_policy(run.path).artifact is not None:
        newest = run.checkpoints / f"global_step_{steps}" / "adapter"
        artifact.open(newest).copy_to(run.adapter)
    else:
        _state_metrics(experiment, run, steps, {})


def _state_metrics(
    experiment: Experiment, run: RunDirectory, steps: int, metrics: Mapping[str, float]
) -> None:
    """Writes how good it is into the adapter's manifest, or beside another policy."""
    policy = experiment.method.trained_policy(run.path)
    if policy.artifact is not None:
        artifact.open(policy.artifact).copy_to(policy.artifact, metrics=metrics)
        return
    folder = policy.lora or policy.model
    assert folder is not None
    stated = {**experiment.provenance(), "base_model": experiment.base.id}
    provenance = Provenance(**stated, global_step=steps, metrics=metrics)
    write_json(folder / PROVENANCE, provenance.to_dict())


def _evaluate(
    experiment: Experiment, run: RunDirectory, console: TextIO, data: SupervisedData, steps: int
) -> None:
    from tqdm import tqdm

    rows = read_metrics(run.metrics)
    done = {row["step"] for row in rows if held_out(row)}
    wanted = [(BASE, 0)] if experiment.validation.before_training else []
    wanted = [(policy, at) for policy, at in [*wanted, (TRAINED, steps)] if at not in done]
    if not wanted:
        return
    questions = HeldOut(experiment, data.held_out, experiment.method.trained_policy(run.path))
    metrics = MetricsFile(run.metrics)
    with tqdm(
        total=len(wanted) * questions.num_responses,
        file=console,
        desc="evaluating",
        unit=" responses",
        mininterval=1.0 if console.isatty() else 30.0,
    ) as bar:
        for policy, at in wanted:
            found = questions.evaluate(policy, _items(run, at), bar.update)
            if policy == TRAINED:
                core = {key: found[key] for key in found if key.startswith("val-core/")}
                _state_metrics(experiment, run, steps, core)
            metrics.log(found, at)  # last: a step with accuracies is not evaluated again
    paths = _items(run, 0), _items(run, steps)
    write_samples_page(
        (item for path in paths if path.exists() for item in read_items(path)),
        run.samples_page,
        title=experiment.tracking.name,
    )


def _items(run: RunDirectory, step: int) -> Path:
    return run.samples / f"{step}.items.jsonl"


def _illustrate(run: RunDirectory, title: str) -> None:
    """Draws the figure of what there is; a run's outcome does not depend on it."""
    try:
        draw_loss(run.metrics, run.figure, title=title)
    except (OSError, ValueError) as error:
        print(f"figure not written: {error}", file=sys.stderr)


def _opening(experiment: Experiment, trained: str, data: SupervisedData, steps: int) -> list[str]:
    optim, batch = experiment.optim, experiment.update_rows
    left_out = data.num_wrong + data.num_long
    return [
        f"model             {experiment.base}",
        f"adapter           {trained}",
        "objective         mean cross-entropy of the worked answers' tokens, end of turn included; "
        "no rollouts, no reward, no KL term",
        f"algorithm         SFT, {steps} updates of {batch} rows "
        f"({steps * batch / data.num_train:.2f} passes), {optim.name} "
        f"lr {optim.lr:g} decay {optim.weight_decay:g}, {optim.scheduler}",
        f"data              {experiment.task.name}, {data.num_train} training rows"
        + (f" ({data.num_wrong} wrong and {data.num_long} too long left out)" if left_out else "")
        + f", loss on {data.num_val} and accuracy on {len(data.held_out)} held-out rows",
        f"accuracy by       {experiment.grading.judge}",
    ]


def loss_lines(metrics: Path) -> list[str]:
    """Returns lines for the closing summary; none where no update was made."""
    rows = read_metrics(metrics)
    lines = []
    for label, key in (("training loss", "train/loss"), ("held-out loss", "val/loss")):
        values = [row[key] for row in rows if row.get(key) is not None]
        if values:
            ends = " -> ".join(f"{value:.4f}" for value in dict.fromkeys((values[0], values[-1])))
            lines.append(f"{label:<18}{ends}   (nats per token)")
    return ["", *lines] if lines else []


def draw_loss(metrics: Path, figure: Path, title: str) -> bool:
    """Draws the run in `metrics` to `figure`; False, and no file, before the first update."""
    rows = read_metrics(metrics)
    losses = series(rows, "train/loss")
    if not losses[0]:
        return False
    canvas, (loss, accuracy) = panels(2)
    canvas.suptitle(title)
    loss.plot(*losses, ".-", color="tab:blue", label="training")
    if (unseen := series(rows, "val/loss"))[0]:
        loss.plot(*unseen, "o:", color="tab:green", label="held-out")
    loss.set(ylabel="loss, nats per token")
    plot_held_out(accuracy, rows)
    accuracy.set(xlabel="update", ylabel="accuracy", ylim=(-0.03, 1.03))
    write_figure(canvas, figure)
    return True
