"""A run of `train` or `sft` looked at: every check is made, the costly ones last."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from tinylora_rl.base_model.dims import ModelDims, dims_of
from tinylora_rl.base_model.folder import refuse_code_of_its_own
from tinylora_rl.planning.devices import DeviceProbe, check_answers, gpus_in, seen
from tinylora_rl.planning.finding import (
    Finding,
    exit_code,
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
    local_model,
)
from tinylora_rl.planning.storage import disk, host_memory, shared_memory
from tinylora_rl.planning.trained import Trained, trained_by
from tinylora_rl.planning.versions import check_versions
from tinylora_rl.settings.config_checks import CONFIG_CHECKS, check_adapter, check_data
from tinylora_rl.settings.run_checks import check_run
from tinylora_rl.settings.sft_checks import check_devices, check_overrides, check_sft
from tinylora_rl.tasks import make_task
from tinylora_rl.tasks.prepare import benchmark_tasks, load_datasets
from tinylora_rl.training.preflight import (
    check_attention,
    check_cluster,
    check_gpus,
    check_model,
    check_plugin,
    check_shm,
    check_slots,
    check_tracking,
    check_verl,
)

PORTS_BESIDE, PORTS_PER_RANK = 16, 6  # of Ray and TransferQueue; of an actor and its vLLM


def examine_training(config: DictConfig, probe: DeviceProbe) -> tuple[Rows, list[Finding]]:
    """The plan of the run (none of a wrong configuration), and what every check found."""
    device, is_rl = str(config.trainer.device), config.verb == "train"
    values = check_values(config)
    installed = [*check_versions(device), *values]
    if exit_code(values):
        return [], [*installed, _not_made("plan and machine", "the configuration")]
    folder = local_model(config)
    shape = dims_of(str(config.base_model.path), folder)
    plan: Rows = []
    found = []
    if shape is None:
        found.append(_unknown_shape(config))
    else:
        trained = trained_by(config, shape)
        plan = training_plan(config, shape, trained)
        found += _room(config, shape, trained, has_model=folder is not None)
    found += [*_machine(config), *_sources(config, folder)]
    answers = probe.answers()
    gpus = gpus_in(answers)
    found += check_answers(answers, device, has_ray=is_rl)
    if device == "cuda" and shape is not None:
        phases = training_phases(config, shape, trained_by(config, shape))
        if gpus:
            found.append(check_gpu_memory(phases, gpus))
        else:
            instead = "platform=cpu model=tiny"
            found = [with_needs(each, phases, seen(answers), instead) for each in found]
    findings = [*installed, *found]
    if is_rl:
        findings += (
            [_not_made("verl's checks", "what failed")]
            if exit_code(findings)
            else _through_verl(config)
        )
    return plan, findings


def check_values(config: DictConfig) -> list[Finding]:
    """Every check of the values alone: those that fail, or one line that none does."""
    chosen = outcome("configuration", partial(check_data, config))
    if exit_code([chosen]):
        return [chosen]  # too much of the rest follows from the data set
    checks: list[Callable[[], object]] = [partial(check, config) for check in CONFIG_CHECKS]
    if config.verb == "train":
        checks.append(partial(check_run, config))
    else:
        checks.append(partial(check_sft, config))
        if HydraConfig.initialized():
            checks.append(partial(check_overrides, _given()))
    found = failures("configuration", checks)
    return found or [passed("configuration", f"{len(checks)} checks of its values")]


def _given() -> list[str]:
    overrides = HydraConfig.get().overrides.task
    return [each for each in overrides if not each.lstrip("+").startswith("dry_run=")]


def _unknown_shape(config: DictConfig) -> Finding:
    return warned(
        "plan",
        f"base_model.path={config.base_model.path}: a model whose shape is not known here, so "
        "nothing is planned; give a folder with its config.json, of a dense model of the Llama "
        "family",
    )


def _not_made(what: str, because: str) -> Finding:
    return warned(what, f"not looked at; mend {because} first")


def _room(
    config: DictConfig, shape: ModelDims, trained: Trained, *, has_model: bool
) -> list[Finding]:
    """Host memory, shared memory and disk against the plan."""
    found = [check_memory(*host_memory(config, shape, trained))]
    if config.verb == "train":
        found.append(check_shared_memory(*shared_memory(config, shape, trained)))
    found += check_disk(disk(config, shape, trained, has_model=has_model))
    longest = config.data.max_prompt_length + config.data.max_response_length
    actor = config.actor_rollout_ref.actor
    if actor.use_dynamic_bsz and actor.ppo_max_token_len_per_gpu < longest:
        found.append(
            warned(
                "tokens",
                f"actor_rollout_ref.actor.ppo_max_token_len_per_gpu="
                f"{actor.ppo_max_token_len_per_gpu}: a sample may have {longest} tokens, and verl "
                f"stops at one that is longer; use {longest} or more",
            )
        )
    return found


def _machine(config: DictConfig) -> list[Finding]:
    """What needs no plan; of checks that say nothing when they pass, the failures."""
    ranks = int(config.trainer.n_gpus_per_node)
    found = [check_cores(ranks), check_ports(PORTS_BESIDE + PORTS_PER_RANK * ranks)]
    if config.verb == "sft":
        return [*found, *failures("GPUs", [partial(check_devices, config)])]
    return [
        *found,
        *check_ray_disk(),
        *failures("Ray's slots", [partial(check_slots, config)]),
        *failures("cluster", [partial(check_cluster, config)]),
        *failures("GPUs", [partial(check_gpus, config)]),
        *failures("attention", [partial(check_attention, config)]),
        *failures("shared memory", [partial(check_shm, config)]),
    ]


def _sources(config: DictConfig, folder: Path | None) -> list[Finding]:
    """Base model, rows and dashboard are to be had, and whom the run would trust."""
    found = [check_model_source(config, folder)]
    if folder is not None and not exit_code(found):
        config.actor_rollout_ref.model.path = str(folder)  # no look at the hub

        def check_files() -> str:
            refuse_code_of_its_own(str(config.base_model.path), folder)
            return check_model(config, check_adapter(config))

        found.append(outcome("adapter", check_files))
    task = make_task(config.data.name, config.data)
    wanted = {task.name: (*task.sources("train"), *task.sources("test"))}
    for benchmark in benchmark_tasks(task, config.task.eval_benchmarks):
        wanted[benchmark.name] = benchmark.sources("test")
    found += check_data_sources(wanted) or [outcome("data", partial(_rows, config))]
    found += failures("W&B", [partial(check_tracking, config)]) or check_wandb(config)
    return [*found, *check_boundaries(config)]


def _rows(config: DictConfig) -> str:
    train, test = load_datasets(config)
    return f"{config.data.name}: {len(train):,} training and {len(test):,} held-out rows"


def _through_verl(config: DictConfig) -> list[Finding]:
    """What only verl can say; importing it takes as long as all that came before."""
    OmegaConf.resolve(config)
    plugin = outcome("verl plugin", partial(check_plugin, config), "registered, on its platform")
    if exit_code([plugin]):
        return [plugin]
    return [plugin, outcome("verl", partial(check_verl, config), "takes the configuration")]
