"""An evaluation looked at: policies, questions, engine; every check is made."""

from __future__ import annotations

from pathlib import Path

from omegaconf import DictConfig

from tinylora_rl.base_model.dims import ModelDims, dims_of
from tinylora_rl.base_model.folder import refuse_code_of_its_own
from tinylora_rl.base_model.model import checked_tokenizer
from tinylora_rl.evaluation.build_plan import policies_of, rows_of
from tinylora_rl.planning.devices import DeviceProbe, check_answers, gpus_in, seen
from tinylora_rl.planning.finding import Finding, exit_code, failures, outcome, warned
from tinylora_rl.planning.gpus import check_gpu_memory, with_needs
from tinylora_rl.planning.machine import check_cores, check_disk, check_memory
from tinylora_rl.planning.memory import Phase, evaluation_phases
from tinylora_rl.planning.run_plan import Rows, enough, parts_in
from tinylora_rl.planning.sources import (
    check_boundaries,
    check_data_sources,
    check_model_source,
    local_model,
)
from tinylora_rl.planning.storage import BYTES_PER_TOKEN, VERDICTS_BYTES, hub_cache
from tinylora_rl.planning.versions import check_versions
from tinylora_rl.settings.evaluation_checks import (
    check_engine,
    check_evaluation,
    named_adapters,
)
from tinylora_rl.tasks import make_task

MAX_PROMPT_TOKENS = 2_048  # of a question: assumed, since no tokenizer is asked
USUAL_ROWS = 1_000  # of a benchmark whose number of rows is not recorded
PROCESSES_BYTES = 4 << 30  # driver, vLLM's engine and graders


def examine_evaluation(config: DictConfig, probe: DeviceProbe) -> tuple[Rows, list[Finding]]:
    """The plan of the evaluation (none of a wrong configuration), and what every check found."""
    device = str(config.engine.device)
    installed = check_versions(device)
    values = [
        outcome("configuration", lambda: check_evaluation(config), "its values are in range"),
        outcome("adapters", lambda: _policies(config)),
    ]
    findings = [*installed, *values]
    if exit_code(values):
        return [], [*findings, warned("plan and machine", "not looked at; mend that first")]
    folder = local_model(config)
    shape = dims_of(str(config.base_model.path), folder)
    phases: list[Phase] = []
    if shape is not None:
        longest = min(shape.context, MAX_PROMPT_TOKENS + config.evaluate.max_response_tokens)
        phases = evaluation_phases(config, shape, longest)
    findings += _sources(config, folder)
    findings += _machine(config, shape, phases, has_model=folder is not None)
    answers = probe.answers()
    findings += check_answers(answers, device, has_ray=False)
    if gpus := gpus_in(answers):
        findings += [check_gpu_memory(phases, gpus)] if phases and device == "cuda" else []
    elif phases:
        instead, told = "model=tiny engine=cpu", seen(answers, ("torch", "vLLM"))
        findings = [with_needs(each, phases, told, instead) for each in findings]
    return _plan(config, shape, phases), findings


def _policies(config: DictConfig) -> str:
    return ", ".join(policy.name for policy in policies_of(config))


def _plan(config: DictConfig, shape: ModelDims | None, phases: list[Phase]) -> Rows:
    chosen = config.evaluate
    questions, draws = _num_questions(config), int(chosen.greedy) + chosen.samples
    policies = 1 + len(list(named_adapters(config.adapters)))
    responses = questions * draws * policies
    rows: Rows = [
        ("model", f"{config.base_model.path}, {shape or 'of a shape that is not known here'}"),
        ("policies", f"{policies}, the base among them, as {chosen.weights}"),
        ("questions", f"{questions:,} of {', '.join(config.benchmarks)}"),
        (
            "responses",
            f"{responses:,} ({draws} to each question and policy) of at most "
            f"{chosen.max_response_tokens:,} tokens: at most "
            f"{responses * chosen.max_response_tokens:,} tokens",
        ),
    ]
    if config.engine.device == "cuda" and phases:
        count = config.engine.options.get("tensor_parallel_size", 1)
        rows += [("GPUs", f"{count} with {enough(phases)}"), ("", parts_in(phases[0]))]
    return rows


def _num_questions(config: DictConfig) -> int:
    total = 0
    for name in config.benchmarks:
        rows = make_task(name, config.data).num_rows("test") or USUAL_ROWS
        total += min(rows, config.data.rows or rows)
    return total


def _sources(config: DictConfig, folder: Path | None) -> list[Finding]:
    found = [check_model_source(config, folder)]
    if folder is not None and not exit_code(found):
        path = str(config.base_model.path)
        found += failures(
            "base model",
            [
                lambda: refuse_code_of_its_own(path, folder),
                lambda: checked_tokenizer(path, folder),
            ],
        )
    tasks = [make_task(name, config.data) for name in config.benchmarks]
    wanted = {task.name: task.sources("test") for task in tasks}
    found += check_data_sources(wanted) or [outcome("data", lambda: _rows(config))]
    return [*found, *check_boundaries(config)]


def _rows(config: DictConfig) -> str:
    counts = {name: len(rows_of(config, name)) for name in config.benchmarks}
    return ", ".join(f"{name} {count:,} rows" for name, count in counts.items())


def _machine(
    config: DictConfig, shape: ModelDims | None, phases: list[Phase], *, has_model: bool
) -> list[Finding]:
    found = [check_cores(1), *failures("GPUs", [lambda: check_engine(config.engine)])]
    draws = int(config.evaluate.greedy) + config.evaluate.samples
    policies = 1 + len(list(named_adapters(config.adapters)))
    text = config.evaluate.max_response_tokens * BYTES_PER_TOKEN + VERDICTS_BYTES
    disk = {
        Path(config.run.dir): (
            float(_num_questions(config) * draws * policies * text),
            "responses at most",
        )
    }
    if shape is not None and not has_model:
        disk[hub_cache()] = (2.0 * shape.num_parameters, "the base model's files")
    if config.engine.device == "cpu" and phases:
        share = sum(part.num_bytes for part in phases[0].share)
        cache = float(config.engine.env.get("VLLM_CPU_KVCACHE_SPACE", 4)) * (1 << 30)
        graders = config.grading.num_workers * (config.grading.memory_limit_mb << 20) / 8
        needed = PROCESSES_BYTES + share + cache + graders
        found.append(check_memory(needed, "vLLM with its KV cache, and graders"))
    elif phases and shape is not None:
        needed = PROCESSES_BYTES + 2.0 * shape.num_parameters
        found.append(check_memory(needed, "loading the model"))
    return [*found, *check_disk(disk)]
