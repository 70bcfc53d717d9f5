"""A checked configuration, trained on worked answers and evaluated, told line by line."""

from __future__ import annotations

import os
import re
import shutil
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TextIO

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf, open_dict

from tinylora_rl.artifact import MANIFEST, Provenance, read_manifest
from tinylora_rl.artifact.manifest import restated
from tinylora_rl.atomic import replacing_directory, write_bytes, write_json, write_text
from tinylora_rl.base_model import BaseModel
from tinylora_rl.errors import EXIT_FAILED, EXIT_SIGNAL, ConfigError
from tinylora_rl.evaluation.items import read_items
from tinylora_rl.evaluation.plan import BASE
from tinylora_rl.runs.checkpoints import kept
from tinylora_rl.runs.console import ProgressLines, exit_noise_to, library_noise_to
from tinylora_rl.runs.directory import MetricsFile, RunDirectory, exclusive, read_metrics
from tinylora_rl.runs.exit_codes import end_now, stop_on_signals
from tinylora_rl.runs.metric_names import held_out
from tinylora_rl.runs.samples_page import write_samples_page
from tinylora_rl.runs.status import RecordedRun, last_step
from tinylora_rl.runs.stopping import StopFile
from tinylora_rl.runs.summary import closing_summary
from tinylora_rl.runs.time_limit import TimeLimit
from tinylora_rl.settings.run_checks import check_run
from tinylora_rl.settings.security import check_trust
from tinylora_rl.settings.sft_checks import check_devices, check_overrides, check_sft, steps_of
from tinylora_rl.supervised.data import Supervised, prepare_supervised
from tinylora_rl.supervised.evaluation import TRAINED, HeldOut, Trained
from tinylora_rl.supervised.figure import draw_loss, loss_lines
from tinylora_rl.supervised.ranks import run_ranks
from tinylora_rl.training.nodes import pin_base_model
from tinylora_rl.training.preflight import check_config, check_model, check_tracking
from tinylora_rl.training.resume import Beginning, choose_beginning
from tinylora_rl.training.tracking import track_offline_if_unreachable
from tinylora_rl.verl_plugin.settings import MODEL_TYPE

RANK_MODULE = "tinylora_rl.supervised.rank"
NOT_READ = ("algorithm", "critic", "distillation", "model_engine", "ray_kwargs", "transfer_queue")
MODEL_DIR = "model"
ERROR = re.compile(r"^(?:\[rank\d+\]: )?((?:\w+\.)*\w+Error: .*)$", re.MULTILINE)
PROVENANCE = "provenance.json"  # in folders of PEFT and Hugging Face, which have no place for it


def sft(config: DictConfig) -> int:
    """Checks, prepares, trains and evaluates; what is done already is not done again.

    Returns:
        The exit code: 0 done, 1 the run failed, 75 it was asked to stop, and did after an update.

    Raises:
        ConfigError, MachineError: before anything expensive was started.
        KeyboardInterrupt: on SIGTERM and SIGINT, with the summary printed; the update in progress
            is finished and saved, if that takes no longer than `ranks.GRACE_S`.
    """
    start_s = time.monotonic()
    check_overrides(HydraConfig.get().overrides.task)
    adapter = check_config(config)
    check_sft(config)
    warnings = check_trust(config)
    check_run(config)
    check_tracking(config)
    config.run.dir = str(Path(config.run.dir).expanduser().resolve())
    for key, value in config.engine.env.items():
        os.environ.setdefault(key, str(value))
    run = RunDirectory(Path(config.run.dir))
    stop = StopFile(run.path)
    with exclusive(run.path), RecordedRun(run.path, config.verb) as record:
        beginning = choose_beginning(config, adapter)
        stop.clear()
        print(f"run directory     {run.path}", flush=True)
        for warning in warnings:
            print(f"warning           {warning}", flush=True)
        exit_noise_to(run.log)
        try:
            with (
                library_noise_to(run.log) as console,
                TimeLimit(config.run.time_limit_s, start_s, run.metrics, ask=stop.ask, end=end_now),
            ):
                check_devices(config)
                model = pin_base_model(config)
                loaded = BaseModel(config.actor_rollout_ref.model.path)
                base, tokenizer = loaded.folder, loaded.tokenizer
                trained = check_model(config, adapter)
                data = prepare_supervised(config, tokenizer)
                with open_dict(config):
                    steps, epochs = steps_of(config, data.num_train)
                    config.trainer.total_training_steps, config.trainer.total_epochs = steps, epochs
                _check_progress(run, steps)
                record.expect(steps)
                write_text(run.config, OmegaConf.to_yaml(_read_part(config), resolve=True))
                opening = _opening(config, model, trained, data)
                opening += track_offline_if_unreachable(config, run.path)
                for line in (*opening, *beginning.lines):
                    print(line, file=console)
                    print(line)  # into the log, too
                seconds = time.monotonic() - start_s
                print(f"checked in        {seconds:.0f} s; starting verl ...", file=console)
                code = _train(config, run, stop, beginning, console)
                if code == 0 and config.sft.evaluate:
                    stop_on_signals()  # items are kept one by one: nothing to wait for
                    _evaluate(config, run, console, base, tokenizer, data)
                record.exit_code = code
                return code
        finally:
            _illustrate(run, config)
            lines = [*loss_lines(run.metrics), *closing_summary(run)]
            for line in lines + (kept(run.checkpoints) if record.exit_code else []):
                print(line)


def _check_progress(run: RunDirectory, steps: int) -> None:
    reached = last_step(run.path)
    if reached > steps:
        raise ConfigError(
            f"run.dir={run.path}: has made {reached} updates already, this run would end after "
            f"{steps}; give another run.dir"
        )


def _train(
    config: DictConfig, run: RunDirectory, stop: StopFile, beginning: Beginning, console: TextIO
) -> int:
    stop_on_signals(stop.ask)
    arguments = [str(run.config), str(os.getpid())]
    arguments += [str(beginning.checkpoint)] if beginning.checkpoint else []
    runtime = config.ray_kwargs.ray_init.get("runtime_env") or {}  # the platform's, for workers
    with ProgressLines(run.metrics, console, config.trainer.total_training_steps):
        code = run_ranks(
            RANK_MODULE,
            arguments,
            num_ranks=config.trainer.n_gpus_per_node,
            env={
                "WANDB_DIR": str(run.path),
                **{key: str(value) for key, value in (runtime.get("env_vars") or {}).items()},
            },
        )
    if code == EXIT_SIGNAL:
        print(f"stopped after an update: {stop.reason}", file=console)
        return EXIT_SIGNAL
    if code:
        print(
            f"the run failed: {_last_error(run.log) or f'a rank ended with code {code}'}\n"
            f"the whole story is in {run.log}",
            file=console,
        )
        return EXIT_FAILED
    _publish(config, run)
    return 0


def _last_error(log: Path) -> str | None:
    """The last line of the last error in the log, where a rank's traceback ends."""
    found = ERROR.findall(log.read_text(encoding="utf-8", errors="replace"))
    return found[-1] if found else None


def _publish(config: DictConfig, run: RunDirectory) -> None:
    """`adapter/` is the last checkpoint's; PEFT's folder, which a rank wrote, says what it is."""
    if config.actor_rollout_ref.model.model_type == MODEL_TYPE:
        step = config.trainer.total_training_steps
        newest = run.checkpoints / f"global_step_{step}" / "adapter"
        with replacing_directory(run.adapter) as fresh:
            shutil.copytree(newest, fresh, dirs_exist_ok=True)
    else:
        _state_metrics(config, run, {})


def _state_metrics(config: DictConfig, run: RunDirectory, metrics: Mapping[str, float]) -> None:
    """The adapter's manifest, or the provenance of a peer, tells how good it is."""
    if config.actor_rollout_ref.model.model_type == MODEL_TYPE:
        manifest = restated(read_manifest(run.adapter), {"metrics": metrics})
        write_bytes(run.adapter / MANIFEST, manifest)
        return
    stated = config.actor_rollout_ref.model.lora.tinylora.provenance
    provenance = Provenance(
        **{str(key): value for key, value in stated.items()},
        base_model=str(config.base_model.path),
        global_step=config.trainer.total_training_steps,
        metrics=metrics,
    )
    folder = run.adapter if config.actor_rollout_ref.model.lora_rank else run.path / MODEL_DIR
    write_json(folder / PROVENANCE, provenance.to_dict())


def _evaluate(
    config: DictConfig,
    run: RunDirectory,
    console: TextIO,
    base: Path,
    tokenizer: Any,
    data: Supervised,
) -> None:
    from tqdm import tqdm

    step = config.trainer.total_training_steps
    rows = read_metrics(run.metrics)
    done = {row["step"] for row in rows if held_out(row)}
    wanted = [(BASE, 0)] if config.trainer.val_before_train else []
    wanted = [(policy, at) for policy, at in [*wanted, (TRAINED, step)] if at not in done]
    if not wanted:
        return
    model = config.actor_rollout_ref.model
    is_ours = model.model_type == MODEL_TYPE
    trained = Trained(
        artifact=run.adapter if is_ours else None,
        lora=run.adapter if model.lora_rank else None,
        lora_rank=max(1, model.lora_rank),
        model=None if is_ours or model.lora_rank else run.path / MODEL_DIR,
    )
    questions = HeldOut(config, data.held_out, base, tokenizer, trained)
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
                _state_metrics(config, run, core)
            metrics.log(found, at)  # last: a step with accuracies is not evaluated again
    write_samples_page(
        (item for path in (_items(run, 0), _items(run, step)) for item in _read(path)),
        run.samples_page,
        title=config.trainer.experiment_name,
    )


def _items(run: RunDirectory, step: int) -> Path:
    return run.samples / f"{step}.items.jsonl"


def _read(path: Path) -> Iterator[dict[str, Any]]:
    return read_items(path) if path.exists() else iter(())


def _illustrate(run: RunDirectory, config: DictConfig) -> None:
    """Figure of what there is; a run's outcome does not depend on it."""
    try:
        draw_loss(run.metrics, run.figure, title=config.trainer.experiment_name)
    except (OSError, ValueError) as error:
        print(f"figure not written: {error}", file=sys.stderr)


def _read_part(config: DictConfig) -> DictConfig:
    """The configuration without what only rollouts and rewards read."""
    return OmegaConf.masked_copy(config, [str(key) for key in config if key not in NOT_READ])


def _opening(config: DictConfig, model: str, trained: str, data: Supervised) -> list[str]:
    """What is going to be computed: everything that changes the mathematics."""
    optim = config.actor_rollout_ref.actor.optim
    steps = config.trainer.total_training_steps
    left_out = data.num_wrong + data.num_long
    return [
        f"model             {model}",
        f"adapter           {trained}",
        "objective         mean cross-entropy of the worked answers' tokens, end of turn included; "
        "no rollouts, no reward, no KL term",
        f"algorithm         SFT, {steps} updates of {config.sft.batch_size} rows "
        f"({steps * config.sft.batch_size / data.num_train:.2f} passes), {optim.optimizer} "
        f"lr {optim.lr:g} decay {optim.weight_decay:g}, "
        f"{optim.lr_scheduler_type}",
        f"data              {config.data.name}, {data.num_train} training rows"
        + (f" ({data.num_wrong} wrong and {data.num_long} too long left out)" if left_out else "")
        + f", loss on {data.num_val} and accuracy on {len(data.held_out)} held-out rows",
        f"accuracy by       {config.task.judge}",
    ]
