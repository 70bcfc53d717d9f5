"""Examines a run of `train` or `sft` before it starts: makes every check, the costly ones last."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from omegaconf import DictConfig

from tinylora_rl.base_model import ModelDims, local_folder
from tinylora_rl.base_model.dims import dims_of
from tinylora_rl.errors import ConfigError
from tinylora_rl.methods import Size
from tinylora_rl.planning.devices import DeviceProbe, check_answers, gpus_in, seen
from tinylora_rl.planning.finding import (
    Finding,
    exit_code,
    failed,
    failures,
    outcome,
    passed,
    warned,
)
from tinylora_rl.planning.gpus import check_gpu_memory, with_needs
from tinylora_rl.planning.machine import (
    check_cores,
    check_disk,
    check_memory,
    check_ports,
    check_ray_disk,
    check_shared_memory,
)
from tinylora_rl.planning.memory import training_phases
from tinylora_rl.planning.run_plan import Rows, training_plan
from tinylora_rl.planning.sources import (
    check_boundaries,
    check_data_sources,
    check_model_source,
    check_wandb,
)
from tinylora_rl.planning.storage import disk, host_memory, shared_memory
from tinylora_rl.planning.versions import check_versions
from tinylora_rl.settings.experiment import Experiment
from tinylora_rl.settings.read import problems
from tinylora_rl.settings.supervised_keys import check_overrides
from tinylora_rl.supervised.preflight import check_machine
from tinylora_rl.tasks import benchmark_tasks
from tinylora_rl.training.data import load_rows
from tinylora_rl.training.preflight import (
    check_attention,
    check_cluster,
    check_gpus,
    check_model,
    check_plugin,
    check_shm,
    check_slots,
    check_verl,
)
from tinylora_rl.training.ray_token import check_ray
from tinylora_rl.training.tracking import check_tracking

PORTS_BESIDE, PORTS_PER_RANK = 16, 6  # of Ray and TransferQueue; of an actor and its vLLM


def examine_training(
    config: DictConfig, overrides: Sequence[str], probe: DeviceProbe
) -> tuple[Rows, list[Finding]]:
    """Returns the plan of the run (none of a wrong configuration), and what every check found.

    Args:
        overrides: of the command line.
    """
    experiment, values = check_values(config, overrides)
    installed = [*check_versions(str(config.trainer.device)), *values]
    if experiment is None or exit_code(values):
        return [], [*installed, _not_made("plan and machine", "the configuration")]
    kind = experiment.hardware.kind
    folder = local_folder(experiment.base.id, revision=experiment.base.revision)
    dims = dims_of(experiment.base.id, folder)
    size = None if dims is None else experiment.method.size(dims)
    plan: Rows = []
    found = []
    if dims is None or size is None:
        found.append(_unknown_dims(experiment))
    else:
        plan = training_plan(experiment, dims, size)
        found += _room(experiment, dims, size, has_model=folder is not None)
    found += [*_machine(experiment), *_sources(experiment, folder)]
    answers = probe.answers()
    gpus = gpus_in(answers)
    found += check_answers(answers, kind, has_ray=experiment.is_rl)
    if kind == "cuda" and dims is not None and size is not None:
        phases = training_phases(experiment, dims, size)
        if gpus:
            found.append(check_gpu_memory(phases, gpus))
        else:
            instead = "device=cpu model=tiny"
            found = [with_needs(each, phases, seen(answers), instead) for each in found]
    findings = [*installed, *found]
    if experiment.is_rl:
        findings += (
            [_not_made("verl's checks", "what failed")]
            if exit_code(findings)
            else _through_verl(experiment)
        )
    return plan, findings


def check_values(
    config: DictConfig, overrides: Sequence[str] = ()
) -> tuple[Experiment | None, list[Finding]]:
    """Reads the configuration: every value that is wrong, or one line that none is."""
    experiment, errors = problems(config)
    if config.command == "sft":
        try:
            check_overrides(overrides)
        except ConfigError as error:
            errors.append(error)
    found = [failed("configuration", error) for error in errors]
    return experiment, found or [passed("configuration", "all values are in range and fit")]


def _unknown_dims(experiment: Experiment) -> Finding:
    return warned(
        "plan",
        f"base_model.path={experiment.base.id}: a model whose shape is not known here, so "
        "nothing is planned; give a folder with its config.json, of a dense model of the Llama "
        "family",
    )


def _not_made(what: str, because: str) -> Finding:
    return warned(what, f"not looked at; fix {because} first")


def _room(experiment: Experiment, dims: ModelDims, size: Size, *, has_model: bool) -> list[Finding]:
    """Compares host memory, shared memory and disk with the plan."""
    found = [check_memory(*host_memory(experiment, dims, size))]
    if experiment.is_rl:
        found.append(check_shared_memory(*shared_memory(experiment, dims, size)))
    found += check_disk(disk(experiment, dims, size, has_model=has_model))
    longest, actor = experiment.batch.sample_tokens, experiment.actor
    if actor.dynamic_batches and actor.max_tokens < longest:
        found.append(
            warned(
                "tokens",
                f"actor_rollout_ref.actor.ppo_max_token_len_per_gpu={actor.max_tokens}: a sample "
                f"may have {longest} tokens, and verl stops at one that is longer; use {longest} "
                "or more",
            )
        )
    return found


def _machine(experiment: Experiment) -> list[Finding]:
    """Checks what needs no plan; of checks that say nothing when they pass, the failures."""
    ranks = experiment.hardware.per_node
    found = [check_cores(ranks), check_ports(PORTS_BESIDE + PORTS_PER_RANK * ranks)]
    if not experiment.is_rl:
        return [*found, *failures("GPUs", [partial(check_machine, experiment)])]
    return [
        *found,
        *check_ray_disk(),
        *failures("Ray's slots", [partial(check_slots, experiment)]),
        *failures("cluster", [partial(check_cluster, experiment)]),
        *failures("GPUs", [partial(check_gpus, experiment)]),
        *failures("attention", [partial(check_attention, experiment)]),
        *failures("shared memory", [partial(check_shm, experiment)]),
    ]


def _sources(experiment: Experiment, folder: Path | None) -> list[Finding]:
    """Checks that base model, rows and dashboard are to be had, and whom the run would trust."""
    found = [check_model_source(experiment.base, folder)]
    if folder is not None and not exit_code(found):
        found.append(outcome("adapter", partial(check_model, experiment)))
    task = experiment.task
    wanted = {task.name: (*task.sources("train"), *task.sources("test"))}
    for benchmark in benchmark_tasks(task, experiment.validation.benchmarks):
        wanted[benchmark.name] = benchmark.sources("test")
    found += check_data_sources(wanted) or [outcome("data", partial(_rows, experiment))]
    tracking = experiment.tracking
    found += failures("W&B", [partial(check_tracking, tracking)]) or check_wandb(tracking)
    open_to = [*check_boundaries(experiment)]
    if experiment.is_rl:
        lines: list[str] = []
        open_to += failures("trust", [lambda: lines.extend(check_ray(experiment.ray))])
        open_to += [warned("trust", line) for line in lines]
    return [*found, *open_to]


def _rows(experiment: Experiment) -> str:
    rows = load_rows(experiment)
    counts = f"{len(rows.train):,} training and {len(rows.held_out):,} held-out rows"
    return "; ".join([f"{experiment.task.name}: {counts}", *rows.remarks])


def _through_verl(experiment: Experiment) -> list[Finding]:
    """Asks verl; importing it takes as long as all that came before."""
    plugin = outcome(
        "verl plugin", partial(check_plugin, experiment), "registered, on its platform"
    )
    if exit_code([plugin]):
        return [plugin]
    tree = experiment.for_verl(model_dir=experiment.base.folder)
    return [plugin, outcome("verl", partial(check_verl, tree), "takes the configuration")]
