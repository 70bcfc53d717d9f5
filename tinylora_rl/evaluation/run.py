"""Runs an evaluation: benchmarks in, tables and graded responses out."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import TextIO

from tinylora_rl.atomic import write_json, write_text
from tinylora_rl.base_model import BaseModel
from tinylora_rl.errors import ConfigError, MachineError
from tinylora_rl.evaluation.plan import (
    EvaluationPlan,
    Question,
    first_difference,
    plan_of,
    policies_of,
    questions_of,
)
from tinylora_rl.evaluation.runner import ItemsFile, read_items
from tinylora_rl.evaluation.scores import score
from tinylora_rl.evaluation.tables import console_lines, to_json, to_markdown
from tinylora_rl.runs.console import exit_noise_to, library_noise_to
from tinylora_rl.runs.directory import exclusive
from tinylora_rl.runs.samples_page import write_samples_page
from tinylora_rl.settings.evaluation import Evaluation
from tinylora_rl.settings.sections import Engine
from tinylora_rl.settings.security import check_trust
from tinylora_rl.vllm_plugin.lora_limits import LORA_RANKS


def evaluate(evaluation: Evaluation) -> int:
    """Checks, generates what is missing, grades, and writes the tables.

    Raises:
        ConfigError, MachineError: before anything expensive was started.
        KeyboardInterrupt: on SIGTERM and SIGINT; what was graded until then is kept.
    """
    start_s = time.monotonic()
    for name, value in evaluation.engine.env.items():
        os.environ.setdefault(name, str(value))
    run_dir = evaluation.run_dir
    warnings = check_trust(evaluation)
    warnings += [line for task in evaluation.benchmarks.values() for line in task.remarks()]
    check_engine(evaluation.engine)
    policies = policies_of(evaluation.adapters)
    rows = {
        name: task.rows("test", evaluation.rows) for name, task in evaluation.benchmarks.items()
    }
    assert evaluation.base.tokenizer is not None  # checked where it is opened
    questions = questions_of(evaluation.base, rows, evaluation.measure.max_response_tokens)
    plan = plan_of(evaluation, policies, rows)
    with exclusive(run_dir):
        _continue_or_start(run_dir / "plan.json", plan)
        write_text(run_dir / "config.yaml", evaluation.stored())
        print(f"run directory     {run_dir}", flush=True)
        for warning in warnings:
            print(f"warning           {warning}", flush=True)
        exit_noise_to(run_dir / "log.txt")
        with library_noise_to(run_dir / "log.txt") as console:
            rank = _verify_adapters(evaluation.base, plan)
            for line in _opening(plan, questions):
                print(line, file=console)
            _generate_and_grade(evaluation, plan, rank, questions, console)
            _write_results(evaluation, plan, console)
            print(f"done in {time.monotonic() - start_s:.0f} s", file=console)
    return 0


def _generate_and_grade(
    evaluation: Evaluation,
    plan: EvaluationPlan,
    rank: int,
    questions: list[Question],
    console: TextIO,
) -> None:
    from tqdm import tqdm

    from tinylora_rl.evaluation.engine import Engine
    from tinylora_rl.evaluation.runner import run_plan

    base, run_dir, measure = evaluation.base, evaluation.run_dir, evaluation.measure
    longest = max((len(q.prompt_token_ids) for q in questions if q.prompt_token_ids), default=1)
    directories = {policy.name: policy.directory for policy in plan.policies if policy.directory}

    def start_engine() -> Engine:
        return Engine(
            str(base.folder),
            options={
                "max_model_len": longest + measure.max_response_tokens,
                "seed": measure.seed,
                "trust_remote_code": False,
                **evaluation.engine.options,
            },
            lora_dirs=None if plan.weights == "merged" else directories,
            rank=rank,
            rounding=measure.rounding,
        )

    total = len(plan.policies) * len(questions) * measure.draws
    limits = evaluation.grading_limits
    with (
        ItemsFile(run_dir / "items.jsonl") as items,
        limits.pool(evaluation.plugins) as pool,
        tqdm(
            total=total,
            file=console,
            unit=" responses",
            smoothing=0.1,
            mininterval=1.0 if console.isatty() else 30.0,
        ) as bar,
    ):
        run_plan(
            plan,
            questions,
            items,
            start_engine=start_engine,
            tokenizer=base.tokenizer,
            pool=pool,
            num_graders=limits.num_workers,
            progress=bar.update,
        )


def _write_results(evaluation: Evaluation, plan: EvaluationPlan, console: TextIO) -> None:
    run_dir, confidence = evaluation.run_dir, evaluation.measure.confidence
    scores = score(read_items(run_dir / "items.jsonl"), plan, confidence)
    write_json(run_dir / "results.json", to_json(scores, plan, confidence))
    write_text(run_dir / "results.md", to_markdown(scores, plan, confidence))
    # the first questions of each benchmark, as many as keep the page within its limit
    limit, draws = evaluation.measure.page_responses, evaluation.measure.draws
    shown = max(1, limit // (len(plan.policies) * draws * len(plan.benchmarks)))
    write_samples_page(
        (item for item in read_items(run_dir / "items.jsonl") if item["index"] < shown),
        run_dir / "samples.html",
        title=f"{run_dir.name}, up to {limit} responses",
    )
    for line in ["", *console_lines(scores, plan), ""]:
        print(line, file=console)
    for label, name in (
        ("tables", "results.md"),
        ("figures", "results.json"),
        ("responses", "items.jsonl"),
        ("page", "samples.html"),
    ):
        print(f"{label:<18}{run_dir / name}", file=console)


def _verify_adapters(base: BaseModel, plan: EvaluationPlan) -> int:
    """Verifies each adapter against the base before an engine starts; returns the largest rank.

    The base is decomposed for them here; vLLM's workers find the result in the cache.
    """
    rank = 1
    for policy in plan.policies:
        if policy.stored is None:
            continue
        try:
            policy.stored.update(base.weights)
        except ValueError as error:
            raise ConfigError(f"adapters: {error}") from error
        rank = max(rank, policy.stored.config.r)
        if plan.weights == "factors" and rank > LORA_RANKS[-1]:
            raise ConfigError(
                f"adapters: {policy.name} has r={rank}, vLLM takes LoRA requests up to "
                f"{LORA_RANKS[-1]}; use evaluate.weights=merged"
            )
    return rank


def _continue_or_start(path: Path, plan: EvaluationPlan) -> None:
    here = json.loads(json.dumps(plan.to_dict()))
    if path.exists():
        difference = first_difference(here, json.loads(path.read_text(encoding="utf-8")))
        if difference is not None:
            raise ConfigError(
                f"run.dir={path.parent}: holds another evaluation ({difference}); repeat its "
                "settings to continue it, or give another run.dir"
            )
    write_json(path, here)


def _opening(plan: EvaluationPlan, questions: list[Question]) -> Iterator[str]:
    sampling = plan.sampling
    overlong = sum(question.prompt_token_ids is None for question in questions)
    decoding = ["greedy"] if sampling.greedy else []
    if sampling.num_samples:
        decoding.append(
            f"{sampling.num_samples} samples at temperature {sampling.temperature:g}, "
            f"top_p {sampling.top_p:g}, seed {sampling.seed}"
        )
    yield f"model             {plan.model}"
    yield f"policies          {', '.join(policy.name for policy in plan.policies)}"
    yield f"benchmarks        {', '.join(plan.benchmarks)}: {len(questions)} questions" + (
        f", {overlong} too long for the model's context, counted as unanswered" if overlong else ""
    )
    yield f"decoding          {' and '.join(decoding)}, <= {sampling.max_response_tokens} tokens"
    yield f"weights           {plan.weights}, {plan.settings['dtype']}"
    yield "judges            " + ", ".join(plan.judges)


def check_engine(engine: Engine) -> None:
    """Checks that the device chosen is the machine's."""
    if find_spec("vllm") is None:
        raise MachineError("vllm: not installed; install this package with its cpu or gpu extra")
    import torch

    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if engine.device == "cpu":
        if count and os.environ.get("VLLM_TARGET_DEVICE") != "cpu":
            raise MachineError(
                f"device=cpu: {count} GPUs are visible, and vLLM would take one with settings made "
                "for a CPU; use device=cuda"
            )
        return
    if count < engine.tensor_parallel_size:
        raise MachineError(
            f"device=cuda: {count} GPUs are visible, device.engine.options.tensor_parallel_size="
            f"{engine.tensor_parallel_size} needs as many; use device=cpu, or start on a GPU node"
        )
