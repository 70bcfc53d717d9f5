"""Examines an evaluation before it starts: policies, questions, engine; makes every check."""

from __future__ import annotations

from pathlib import Path

from omegaconf import DictConfig

from tinylora_rl.base_model import ModelDims, local_folder
from tinylora_rl.base_model.dims import dims_of
from tinylora_rl.errors import ConfigError
from tinylora_rl.evaluation.plan import policies_of
from tinylora_rl.evaluation.run import check_engine
from tinylora_rl.planning.devices import DeviceProbe, check_answers, gpus_in, seen
from tinylora_rl.planning.finding import Finding, code_of, failed, failures, outcome, passed, warned
from tinylora_rl.planning.machine import check_cores, check_disk, check_memory, download
from tinylora_rl.planning.memory import (
    GIB,
    Phase,
    check_gpu_memory,
    enough,
    evaluation_phases,
    with_needs,
)
from tinylora_rl.planning.run_plan import Rows
from tinylora_rl.planning.sources import check_boundaries, check_data_sources, check_model_source
from tinylora_rl.planning.versions import check_versions
from tinylora_rl.settings.evaluation import Evaluation, named_adapters, read_evaluation

MAX_PROMPT_TOKENS = 2_048  # of a question: assumed, since no tokenizer is asked
USUAL_ROWS = 1_000  # of a benchmark whose number of rows is not recorded
PROCESSES_BYTES = 4 * GIB  # driver, vLLM's engine and graders


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
    findings = [
        *installed,
        passed("configuration", "its values are in range"),
        outcome(
            "adapters", lambda: ", ".join(each.name for each in policies_of(evaluation.adapters))
        ),
    ]
    if findings[-1].exit_code:
        return [], [*findings, not_made]
    base, device = evaluation.base, evaluation.engine.device
    folder = local_folder(base.id, revision=base.revision)
    dims = dims_of(base.id, folder)
    phases: list[Phase] = []
    if dims is not None:
        tokens = MAX_PROMPT_TOKENS + evaluation.measure.max_response_tokens
        phases = evaluation_phases(evaluation, dims, min(dims.context, tokens))
    findings += _sources(evaluation, folder)
    findings += [check_cores(1), *failures("GPUs", [lambda: check_engine(evaluation.engine)])]
    needs = {evaluation.run_dir: (0.0, "results")}
    if dims is not None:
        findings.append(check_memory(_host_memory(evaluation, dims)))
        needs |= {} if folder is not None else download(dims)
    findings += check_disk(needs)
    answers = probe.answers()
    findings += check_answers(answers, device, has_ray=False)
    if gpus := gpus_in(answers):
        findings += [check_gpu_memory(phases, gpus)] if phases and device == "cuda" else []
    elif phases:
        instead, here = "model=tiny device=cpu", seen(answers, ("torch", "vLLM"))
        findings = [with_needs(each, phases, here, instead) for each in findings]
    return _plan(evaluation, dims, phases), findings


def _plan(evaluation: Evaluation, dims: ModelDims | None, phases: list[Phase]) -> Rows:
    measure, engine = evaluation.measure, evaluation.engine
    counts = [task.num_rows("test") or USUAL_ROWS for task in evaluation.benchmarks.values()]
    questions = sum(min(count, evaluation.rows or count) for count in counts)
    policies = 1 + len(evaluation.adapters)
    responses, longest = questions * measure.draws * policies, measure.max_response_tokens
    rows: Rows = [
        ("model", f"{evaluation.base.id}, {dims or 'of a shape that is not known here'}"),
        ("policies", f"{policies}, the base among them, as {measure.weights}"),
        ("questions", f"{questions:,} of {', '.join(evaluation.benchmarks)}"),
        (
            "responses",
            f"{responses:,} ({measure.draws} to each question and policy) of at most "
            f"{longest:,} tokens: at most {responses * longest:,} tokens",
        ),
    ]
    if engine.device == "cuda" and phases:
        rows.append(("GPUs", f"{engine.tensor_parallel_size} with {enough(phases)}"))
        rows.append(("", str(phases[0])))
    return rows


def _sources(evaluation: Evaluation, folder: Path | None) -> list[Finding]:
    base = evaluation.base
    found = [check_model_source(base, folder)]
    if folder is not None and not code_of(found):
        found += failures("base model", [lambda: base.folder, lambda: base.tokenizer])
    wanted = {name: task.sources("test") for name, task in evaluation.benchmarks.items()}
    found += check_data_sources(wanted) or [outcome("data", lambda: _rows(evaluation))]
    return [*found, *check_boundaries(evaluation)]


def _rows(evaluation: Evaluation) -> str:
    tasks = evaluation.benchmarks
    counts = {name: len(task.rows("test", evaluation.rows)) for name, task in tasks.items()}
    remarks = [line for task in tasks.values() for line in task.remarks()]
    return "; ".join([", ".join(f"{name} {n:,} rows" for name, n in counts.items()), *remarks])


def _host_memory(evaluation: Evaluation, dims: ModelDims) -> float:
    """Estimates the bytes of the base model, the processes, and on a CPU vLLM's KV cache."""
    engine = evaluation.engine
    needed = PROCESSES_BYTES + 2.0 * dims.num_parameters
    if engine.device == "cpu":
        needed += float(engine.env.get("VLLM_CPU_KVCACHE_SPACE", 4)) * GIB
    return needed
