"""Examines a run of `train` or `sft` before it starts: makes every check, the costly ones last."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from omegaconf import DictConfig

from tinylora_rl.base_model import local_folder
from tinylora_rl.base_model.dims import dims_of
from tinylora_rl.errors import ConfigError
from tinylora_rl.planning import machine, sources
from tinylora_rl.planning.devices import DeviceProbe, check_answers, gpus_in, seen
from tinylora_rl.planning.finding import Finding, code_of, failed, failures, outcome, passed, warned
from tinylora_rl.planning.memory import check_gpu_memory, training_phases, with_needs
from tinylora_rl.planning.run_plan import Rows, training_plan
from tinylora_rl.planning.versions import check_versions
from tinylora_rl.settings.checks import check_overrides
from tinylora_rl.settings.experiment import Experiment, problems
from tinylora_rl.tasks import benchmark_tasks
from tinylora_rl.training import preflight
from tinylora_rl.training.ray_setup import check_ray
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
    if experiment is None or code_of(values):
        return [], [*installed, _not_made("plan and machine", "the configuration")]
    kind, base = experiment.hardware.kind, experiment.base
    folder = local_folder(base.id, revision=base.revision)
    dims = dims_of(base.id, folder)
    machine_and_sources = [*_machine(experiment), *_sources(experiment, folder)]
    answers = probe.answers()
    found = [*machine_and_sources, *check_answers(answers, kind, has_ray=experiment.is_rl)]
    plan: Rows = []
    if dims is None:
        unknown = f"base_model.path={base.id}: a model whose shape is not known here, so nothing "
        unknown += "is planned; give a folder with its config.json, of a dense model of the Llama "
        found = [warned("plan", unknown + "family"), *found]
    else:
        size = experiment.method.size(dims)
        plan = training_plan(experiment, dims, size)
        needed = machine.check_needs(experiment, dims, size, has_model=folder is not None)
        found = [*needed, *_tokens(experiment), *found]
        if kind == "cuda":
            phases = training_phases(experiment, dims, size)
            if gpus := gpus_in(answers):
                found.append(check_gpu_memory(phases, gpus))
            instead, here = "device=cpu model=tiny", seen(answers)
            if not gpus:
                found = [with_needs(each, phases, here, instead) for each in found]
    findings = [*installed, *found]
    if not experiment.is_rl:
        return plan, findings
    if code_of(findings):
        return plan, [*findings, _not_made("verl's checks", "what failed")]
    return plan, [*findings, *_through_verl(experiment)]


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


def _not_made(what: str, because: str) -> Finding:
    return warned(what, f"not looked at; fix {because} first")


def _tokens(experiment: Experiment) -> list[Finding]:
    longest, actor = experiment.batch.sample_tokens, experiment.actor
    if not actor.dynamic_batches or actor.max_tokens >= longest:
        return []
    message = f"actor_rollout_ref.actor.ppo_max_token_len_per_gpu={actor.max_tokens}: a sample may "
    message += f"have {longest} tokens, and verl stops at one that is longer; use {longest} or more"
    return [warned("tokens", message)]


def _machine(experiment: Experiment) -> list[Finding]:
    """Checks what needs no plan; of checks that say nothing when they pass, the failures."""
    ranks = experiment.hardware.per_node
    found = [machine.check_cores(ranks), machine.check_ports(PORTS_BESIDE + PORTS_PER_RANK * ranks)]
    if not experiment.is_rl:
        return [*found, *failures("GPUs", [partial(preflight.check_supervised, experiment)])]
    found += machine.check_ray_disk()
    checks = {"Ray's slots": preflight.check_slots, **preflight.DEVICE_CHECKS}
    for subject, check in checks.items():
        found += failures(subject, [partial(check, experiment)])
    return found


def _sources(experiment: Experiment, folder: Path | None) -> list[Finding]:
    """Checks that base model, rows and dashboard are to be had, and whom the run would trust."""
    found = [sources.check_model_source(experiment.base, folder)]
    if folder is not None and not code_of(found):
        found.append(outcome("adapter", partial(preflight.check_model, experiment)))
    task = experiment.task
    wanted = {task.name: (*task.sources("train"), *task.sources("test"))}
    for benchmark in benchmark_tasks(task, experiment.validation.benchmarks):
        wanted[benchmark.name] = benchmark.sources("test")
    found += sources.check_data_sources(wanted) or [outcome("data", partial(_rows, experiment))]
    tracking = experiment.tracking
    found += failures("W&B", [partial(check_tracking, tracking)]) or sources.check_wandb(tracking)
    found += sources.check_boundaries(experiment)
    if experiment.is_rl:
        lines: list[str] = []
        found += failures("trust", [lambda: lines.extend(check_ray(experiment.ray))])
        found += [warned("trust", line) for line in lines]
    return found


def _rows(experiment: Experiment) -> str:
    rows = experiment.rows()
    counts = f"{len(rows.train):,} training and {len(rows.held_out):,} held-out rows"
    return "; ".join([f"{experiment.task.name}: {counts}", *rows.remarks])


def _through_verl(experiment: Experiment) -> list[Finding]:
    """Asks verl; importing it takes as long as all that came before."""
    plugin = outcome(
        "verl plugin", partial(preflight.check_plugin, experiment), "registered, on its platform"
    )
    if code_of([plugin]):
        return [plugin]
    tree = experiment.for_verl(model_dir=experiment.base.folder)
    return [plugin, outcome("verl", partial(preflight.check_verl, tree), "takes the configuration")]
