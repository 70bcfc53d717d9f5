"""Builds the plan of an evaluation: policies, questions and all that decides the outcome."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
from collections.abc import Iterable, Mapping
from typing import Any

from tinylora_rl import __version__, artifact
from tinylora_rl.base_model import BaseModel
from tinylora_rl.errors import ConfigError
from tinylora_rl.evaluation.plan import BASE, EvaluationPlan, Policy, Question, Sampling
from tinylora_rl.settings.evaluation import Evaluation
from tinylora_rl.tasks import Row


def policies_of(adapters: Iterable[tuple[str | None, str]]) -> tuple[Policy, ...]:
    """Returns the base, then every adapter under a name of its own.

    Args:
        adapters: (name or None, folder) of each.

    Raises:
        ConfigError: an adapter is damaged, or its name is taken or no name.
    """
    policies = [Policy(name=BASE)]
    for name, entry in adapters:
        try:
            policies.append(Policy.of(artifact.open(entry), name))
        except ValueError as error:
            raise ConfigError(f"adapters: {error}") from error
    names = [policy.name for policy in policies]
    for name in names:
        if not artifact.NAME.fullmatch(name):
            raise ConfigError(
                f"adapters: {name!r} is no name for a policy; name it in letters, digits, '.', '_' "
                "and '-': 'adapters={NAME: DIR}'"
            )
        if names.count(name) > 1:
            raise ConfigError(
                f"adapters: two policies would be called {name!r}; name them: "
                "'adapters={first: DIR, second: DIR}'"
            )
    return tuple(policies)


def questions_of(
    base: BaseModel, rows: Mapping[str, list[Row]], max_response_tokens: int
) -> list[Question]:
    """Returns every row as it is asked, in the model's own chat format.

    Raises:
        ConfigError: the model's context leaves no room for a prompt.
    """
    limit = base.context - max_response_tokens
    if limit < 1:
        raise ConfigError(
            f"evaluate.max_response_tokens={max_response_tokens}: the model's context is "
            f"{base.context} tokens; leave room for the prompt"
        )
    questions = []
    for benchmark, benchmark_rows in rows.items():
        for row in benchmark_rows:
            token_ids = base.ask(row["prompt"])
            questions.append(
                Question.of(row, benchmark, token_ids if len(token_ids) <= limit else None)
            )
    return questions


def plan_of(
    evaluation: Evaluation, policies: tuple[Policy, ...], rows: Mapping[str, list[Row]]
) -> EvaluationPlan:
    """Returns all that decides the outcome, from the settings and what was found."""
    measure, limits = evaluation.measure, evaluation.grading_limits
    tasks = evaluation.benchmarks
    headline = {name: measure.judge or task.headline for name, task in tasks.items()}
    return EvaluationPlan(
        model=evaluation.base.id,
        policies=policies,
        benchmarks={name: _digest(benchmark_rows) for name, benchmark_rows in rows.items()},
        sampling=Sampling(
            greedy=measure.greedy,
            num_samples=measure.samples,
            temperature=measure.temperature,
            top_p=measure.top_p,
            max_response_tokens=measure.max_response_tokens,
            seed=measure.seed,
        ),
        judges=tuple(dict.fromkeys((*measure.judges, *headline.values()))),
        headline=headline,
        weights=measure.weights,  # type: ignore[arg-type]
        settings={
            "templates": {
                name: task.prompt_name for name, task in tasks.items() if task.prompt_name
            },
            "rounding": measure.rounding if measure.weights == "merged" else None,
            "dtype": evaluation.engine.dtype,
            "base": _identity_of(evaluation.base),
            "grading": {
                "deadline_s": limits.deadline_s,
                "memory_limit_mb": limits.memory_limit_mb,
            },
            "versions": {
                "tinylora_rl": __version__,
                **{name: _version(name) for name in ("vllm", "torch", "transformers")},
            },
        },
    )


def _digest(rows: list[Row]) -> str:
    """sha256 over all that is asked and all that counts as right."""
    asked = [
        [
            row["prompt"],
            row["reward_model"]["ground_truth"],
            row["extra_info"]["tolerance"],
            row["extra_info"]["unordered"],
        ]
        for row in rows
    ]
    return hashlib.sha256(json.dumps(asked).encode()).hexdigest()


def _identity_of(base: BaseModel) -> dict[str, Any]:
    """Tells this base from another of the same name, without reading its weights."""
    files = sorted(
        path for path in base.folder.iterdir() if path.suffix in (".json", ".safetensors")
    )
    content = [
        [path.name, path.stat().st_size, path.read_text() if path.name == "config.json" else ""]
        for path in files
    ]
    digest = hashlib.sha256(json.dumps(content).encode()).hexdigest()
    return {"revision": base.commit, "files": digest}


def _version(distribution: str) -> str:
    for name in (distribution, f"{distribution}-cpu"):
        try:
            return importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return "not installed"
