"""Examines an evaluation before it starts: policies, questions, engine; makes every check."""

from __future__ import annotations

from pathlib import Path

from omegaconf import DictConfig

from tinylora_rl.base_model import ModelDims, local_folder
from tinylora_rl.base_model.dims import dims_of
from tinylora_rl.errors import ConfigError
from tinylora_rl.evaluation.build_plan import policies_of
from tinylora_rl.evaluation.preflight import check_engine
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
from tinylora_rl.planning.machine import check_cores, check_disk, check_memory
from tinylora_rl.planning.memory import Phase, evaluation_phases
from tinylora_rl.planning.run_plan import Rows, enough, parts_in
from tinylora_rl.planning.sources import (
    check_boundaries,
    check_data_sources,
    check_model_source,
)
from tinylora_rl.planning.storage import BYTES_PER_TOKEN, VERDICTS_BYTES, hub_cache
from tinylora_rl.planning.versions import check_versions
from tinylora_rl.settings.evaluation import Evaluation, named_adapters, read_evaluation

MAX_PROMPT_TOKENS = 2_048  # of a question: assumed, since no tokenizer is asked
USUAL_ROWS = 1_000  # of a benchmark whose number of rows is not recorded
PROCESSES_BYTES = 4 << 30  # driver, vLLM's engine and graders


def examine_evaluation(config: DictConfig, probe: DeviceProbe) -> tuple[Rows, list[Finding]]:
    """Returns the plan of the evaluation (none of a wrong configuration), and all findings."""
    installed = check_versions(str(config.device.name))
    not_made = warned("plan and machine", "not looked at; fix that first")
    try:
        evaluation = read_evaluation(config)
    except ConfigError as error:
        found = [failed("configuration", error)]
        found += failures("adapters", [lambda: policies_of(named_adapters(config))])
        return [], [*installed, *found, not_made]
    device = evaluation.engine.device
    values = [
        passed("configuration", "its values are in range"),
        outcome("adapters", lambda: _policies(evaluation)),
    ]
    findings = [*installed, *values]
    if exit_code(values):
        return [], [*findings, not_made]
    base = evaluation.base
    folder = local_folder(base.id, revision=base.revision)
    dims = dims_of(base.id, folder)
    phases: list[Phase] = []
    if dims is not None:
        tokens = MAX_PROMPT_TOKENS + evaluation.measure.max_response_tokens
        phases = evaluation_phases(evaluation, dims, min(dims.context, tokens))
    findings += _sources(evaluation, folder)
    findings += _machine(evaluation, dims, phases, has_model=folder is not None)
    answers = probe.answers()
    findings += check_answers(answers, device, has_ray=False)
    if gpus := gpus_in(answers):
        findings += [check_gpu_memory(phases, gpus)] if phases and device == "cuda" else []
    elif phases:
        instead, here = "model=tiny device=cpu", seen(answers, ("torch", "vLLM"))
        findings = [with_needs(each, phases, here, instead) for each in findings]
    return _plan(evaluation, dims, phases), findings


def _policies(evaluation: Evaluation) -> str:
    return ", ".join(policy.name for policy in policies_of(evaluation.adapters))


def _plan(evaluation: Evaluation, dims: ModelDims | None, phases: list[Phase]) -> Rows:
    measure, engine = evaluation.measure, evaluation.engine
    questions, responses = _num_questions(evaluation), _num_responses(evaluation)
    named = ", ".join(evaluation.benchmarks)
    rows: Rows = [
        ("model", f"{evaluation.base.id}, {dims or 'of a shape that is not known here'}"),
        (
            "policies",
            f"{1 + len(evaluation.adapters)}, the base among them, as {measure.weights}",
        ),
        ("questions", f"{questions:,} of {named}"),
        (
            "responses",
            f"{responses:,} ({measure.draws} to each question and policy) of at most "
            f"{measure.max_response_tokens:,} tokens: at most "
            f"{responses * measure.max_response_tokens:,} tokens",
        ),
    ]
    if engine.device == "cuda" and phases:
        rows += [
            ("GPUs", f"{engine.tensor_parallel_size} with {enough(phases)}"),
            ("", parts_in(phases[0])),
        ]
    return rows


def _num_questions(evaluation: Evaluation) -> int:
    counts = [task.num_rows("test") or USUAL_ROWS for task in evaluation.benchmarks.values()]
    return sum(min(count, evaluation.rows or count) for count in counts)


def _num_responses(evaluation: Evaluation) -> int:
    policies = 1 + len(evaluation.adapters)
    return _num_questions(evaluation) * evaluation.measure.draws * policies


def _sources(evaluation: Evaluation, folder: Path | None) -> list[Finding]:
    base = evaluation.base
    found = [check_model_source(base, folder)]
    if folder is not None and not exit_code(found):
        found += failures("base model", [lambda: base.folder, lambda: base.tokenizer])
    wanted = {name: task.sources("test") for name, task in evaluation.benchmarks.items()}
    found += check_data_sources(wanted) or [outcome("data", lambda: _rows(evaluation))]
    return [*found, *check_boundaries(evaluation)]


def _rows(evaluation: Evaluation) -> str:
    counts = {
        name: len(task.rows("test", evaluation.rows))
        for name, task in evaluation.benchmarks.items()
    }
    remarks = [line for task in evaluation.benchmarks.values() for line in task.remarks()]
    return "; ".join([", ".join(f"{name} {n:,} rows" for name, n in counts.items()), *remarks])


def _machine(
    evaluation: Evaluation, dims: ModelDims | None, phases: list[Phase], *, has_model: bool
) -> list[Finding]:
    engine, limits = evaluation.engine, evaluation.grading_limits
    found = [check_cores(1), *failures("GPUs", [lambda: check_engine(engine)])]
    text = evaluation.measure.max_response_tokens * BYTES_PER_TOKEN + VERDICTS_BYTES
    disk = {evaluation.run_dir: (float(_num_responses(evaluation) * text), "responses at most")}
    if dims is not None and not has_model:
        disk[hub_cache()] = (2.0 * dims.num_parameters, "the base model's files")
    if engine.device == "cpu" and phases:
        share = sum(part.num_bytes for part in phases[0].share)
        cache = float(engine.env.get("VLLM_CPU_KVCACHE_SPACE", 4)) * (1 << 30)
        graders = limits.num_workers * limits.memory_limit_bytes / 8
        needed = PROCESSES_BYTES + share + cache + graders
        found.append(check_memory(needed, "vLLM with its KV cache, and graders"))
    elif phases and dims is not None:
        needed = PROCESSES_BYTES + 2.0 * dims.num_parameters
        found.append(check_memory(needed, "loading the model"))
    return [*found, *check_disk(disk)]
