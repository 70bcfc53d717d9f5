"""From a configuration to a plan: which policies, which questions, what decides the outcome."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from tinylora_rl import __version__, artifact
from tinylora_rl.base_model import commit_of
from tinylora_rl.errors import ConfigError
from tinylora_rl.evaluation.plan import BASE, EvaluationPlan, Policy, Question, Sampling
from tinylora_rl.settings.evaluation_checks import POLICY_NAME, named_adapters
from tinylora_rl.tasks import Row, Task, ask, make_task, row_gold


def _sampling(config: DictConfig) -> Sampling:
    chosen = config.evaluate
    return Sampling(
        greedy=chosen.greedy,
        num_samples=chosen.samples,
        temperature=chosen.temperature,
        top_p=chosen.top_p,
        max_response_tokens=chosen.max_response_tokens,
        seed=chosen.seed,
    )


def policies_of(config: DictConfig) -> tuple[Policy, ...]:
    """The base, then every adapter under a name of its own.

    Raises:
        ConfigError: an adapter is damaged, or its name is taken or no name.
    """
    policies = [Policy(name=BASE)]
    for name, entry in named_adapters(config.adapters):
        directory = Path(entry).expanduser().resolve()
        if not (directory / artifact.MANIFEST).is_file() and (directory / "adapter").is_dir():
            directory = directory / "adapter"  # a run directory
        try:
            artifact.read_vector(directory)  # whole, and undamaged
            manifest = artifact.read_manifest(directory)
        except ValueError as error:
            raise ConfigError(f"adapters: {error}") from error
        default = directory.parent.name if directory.name == "adapter" else directory.name
        policies.append(
            Policy(name=str(name or default), directory=directory, digest=manifest["digest"])
        )
    names = [policy.name for policy in policies]
    for name in names:
        if not POLICY_NAME.fullmatch(name):
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


def _task(config: DictConfig, benchmark: str) -> Task:
    return make_task(benchmark, config.data, split="test", key="benchmarks")


def rows_of(config: DictConfig, benchmark: str) -> list[Row]:
    """Returns the rows of a benchmark.

    Raises:
        ConfigError: they are missing, damaged, or not the benchmark's.
    """
    return _task(config, benchmark).rows("test", config.data.rows)


def _context(config: DictConfig, model: Path) -> int:
    """Tokens of prompt and response that the model takes."""
    from transformers import AutoConfig

    model_config = AutoConfig.from_pretrained(model, trust_remote_code=False)
    context = getattr(model_config, "max_position_embeddings", None)
    if context is None:
        raise ConfigError(
            f"base_model.path={config.base_model.path}: its configuration states no "
            "max_position_embeddings; only plain causal language models are supported"
        )
    return int(context)


def questions_of(
    config: DictConfig, rows: dict[str, list[Row]], model: Path, tokenizer: Any
) -> list[Question]:
    """Every row as it is asked, in the model's own chat format.

    Raises:
        ConfigError: the model's context leaves no room for a prompt.
    """
    max_response_tokens = config.evaluate.max_response_tokens
    context = _context(config, model)
    limit = context - max_response_tokens
    if limit < 1:
        raise ConfigError(
            f"evaluate.max_response_tokens={max_response_tokens}: the model's context is {context} "
            "tokens; leave room for the prompt"
        )
    questions = []
    for benchmark, benchmark_rows in rows.items():
        for row in benchmark_rows:
            token_ids = ask(row, tokenizer, config.base_model.get("chat_template_kwargs"))
            questions.append(
                Question(
                    benchmark=benchmark,
                    index=row["extra_info"]["index"],
                    text=row["prompt"][-1]["content"],
                    gold=row_gold(row),
                    prompt_token_ids=tuple(token_ids) if len(token_ids) <= limit else None,
                )
            )
    return questions


def plan_of(
    config: DictConfig,
    model: Path,
    policies: tuple[Policy, ...],
    rows: dict[str, list[Row]],
) -> EvaluationPlan:
    """All that decides the outcome, from the configuration and what was found."""
    chosen = config.evaluate
    judges = tuple(chosen.judges)
    tasks = {name: _task(config, name) for name in rows}
    headline = {name: chosen.judge or task.headline for name, task in tasks.items()}
    return EvaluationPlan(
        model=str(config.base_model.path),
        policies=policies,
        benchmarks={name: _digest(benchmark_rows) for name, benchmark_rows in rows.items()},
        sampling=_sampling(config),
        judges=tuple(dict.fromkeys((*judges, *headline.values()))),
        headline=headline,
        weights=chosen.weights,
        settings={
            "templates": {
                name: task.prompt_name for name, task in tasks.items() if task.prompt_name
            },
            "rounding": chosen.rounding if chosen.weights == "merged" else None,
            "dtype": config.engine.options.dtype,
            "base": _identity_of(model),
            "grading": {
                "deadline_s": config.grading.deadline_s,
                "memory_limit_mb": config.grading.memory_limit_mb,
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


def _identity_of(model: Path) -> dict[str, Any]:
    """What tells this base from another of the same name, without reading its weights."""
    files = sorted(path for path in model.iterdir() if path.suffix in (".json", ".safetensors"))
    content = [
        [path.name, path.stat().st_size, path.read_text() if path.name == "config.json" else ""]
        for path in files
    ]
    digest = hashlib.sha256(json.dumps(content).encode()).hexdigest()
    return {"revision": commit_of(model), "files": digest}


def _version(distribution: str) -> str:
    for name in (distribution, f"{distribution}-cpu"):
        try:
            return importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return "not installed"
