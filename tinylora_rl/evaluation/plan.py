"""States an evaluation completely: with equal plans the same samples are drawn and graded alike.

A stopped evaluation continues if its plan is equal.
"""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.metadata
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from tinylora_rl import __version__, artifact
from tinylora_rl.base_model import BaseModel
from tinylora_rl.errors import ConfigError
from tinylora_rl.rewards import Gold
from tinylora_rl.settings.evaluation import Evaluation
from tinylora_rl.tasks import Row, row_gold
from tinylora_rl.vllm_plugin.sampling import GREEDY, sample_seed

if TYPE_CHECKING:
    from tinylora_rl.artifact import StoredAdapter

BASE = "base"
"""The name of the untrained model, which is always one of the policies."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Policy:
    """The base model (no directory, digest or adapter), or the base with one adapter.

    `name` is unique within a plan.
    """

    name: str
    directory: Path | None = None
    digest: str = ""
    stored: StoredAdapter | None = dataclasses.field(default=None, compare=False)

    @classmethod
    def of(cls, stored: StoredAdapter, name: str | None = None) -> Policy:
        return cls(
            name=name or stored.name,
            directory=stored.directory,
            digest=stored.digest,
            stored=stored,
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sampling:
    """The decoding of each question.

    Attributes:
        greedy: once at temperature 0.
        num_samples: draws at `temperature` and `top_p`, each with a seed of its own.
        max_response_tokens: longer responses are cut and count as truncated.
        seed: of the whole evaluation. A draw's seed does not depend on the policy: policies are
            compared under common random numbers.
    """

    greedy: bool = True
    num_samples: int = 0
    temperature: float = 1.0
    top_p: float = 1.0
    max_response_tokens: int = 1024
    seed: int = 0

    def __post_init__(self) -> None:
        if self.num_samples < 0:
            raise ValueError(f"num_samples={self.num_samples}: use 0 or more")
        if not self.greedy and not self.num_samples:
            raise ValueError("num_samples=0: nothing to draw; set greedy=true or num_samples >= 1")
        if not self.temperature > 0:
            raise ValueError(
                f"temperature={self.temperature}: use a positive number; greedy decoding is "
                "greedy=true"
            )
        if not 0 < self.top_p <= 1:
            raise ValueError(f"top_p={self.top_p}: use a number in (0, 1]")
        if self.max_response_tokens < 1:
            raise ValueError(f"max_response_tokens={self.max_response_tokens}: use 1 or more")


@dataclasses.dataclass(frozen=True)
class Key:
    """Identifies one response within an evaluation."""

    policy: str
    benchmark: str
    index: int
    greedy: bool
    sample: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class Question:
    """One row of a benchmark, ready to be asked.

    Attributes:
        prompt_token_ids: chat template and generation prompt included; None where the prompt leaves
            no room for a response in the model's context.
    """

    benchmark: str
    index: int
    text: str
    gold: Gold
    prompt_token_ids: tuple[int, ...] | None

    @classmethod
    def of(cls, row: Row, benchmark: str, token_ids: Sequence[int] | None) -> Question:
        return cls(
            benchmark=benchmark,
            index=row["extra_info"]["index"],
            text=row["prompt"][-1]["content"],
            gold=row_gold(row),
            prompt_token_ids=None if token_ids is None else tuple(token_ids),
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class EvaluationPlan:
    """Everything that determines the outcome.

    Attributes:
        judges: every response is graded by each; `headline[benchmark]` is the one in the tables.
        benchmarks: {name: digest of its rows}.
        settings: further values that change the outcome (dtype, rounding, template, versions).
    """

    model: str
    policies: tuple[Policy, ...]
    benchmarks: dict[str, str]
    sampling: Sampling
    judges: tuple[str, ...]
    headline: dict[str, str]
    weights: Literal["factors", "merged"]
    settings: dict[str, Any]

    def to_dict(self) -> dict[str, Any]:
        """Returns plain values for JSON, with the digests of adapters in place of their folders."""
        values = dataclasses.asdict(dataclasses.replace(self, policies=()))
        values["policies"] = [{"name": p.name, "digest": p.digest} for p in self.policies]
        values["judges"] = list(self.judges)
        return values

    def keys(self, policy: Policy, questions: list[Question]) -> Iterator[tuple[Key, Question]]:
        """Yields every response of one policy, in the order of the requests."""
        for question in questions:
            where = (policy.name, question.benchmark, question.index)
            if self.sampling.greedy:
                yield Key(*where, True, 0), question
            for sample in range(self.sampling.num_samples):
                yield Key(*where, False, sample), question

    def sampling_params(self, key: Key) -> dict[str, Any]:
        """Returns the keyword arguments of vLLM's SamplingParams."""
        drawn: dict[str, Any] = (
            GREEDY
            if key.greedy
            else {
                "temperature": self.sampling.temperature,
                "top_p": self.sampling.top_p,
                "seed": sample_seed(self.sampling.seed, key.benchmark, key.index, key.sample),
            }
        )
        return {**drawn, "max_tokens": self.sampling.max_response_tokens}


def first_difference(here: dict[str, Any], there: dict[str, Any]) -> str | None:
    """Returns the dotted name and both values of the first difference of two plans, or None."""
    for key in sorted({*here, *there}):
        mine, theirs = here.get(key), there.get(key)
        if mine == theirs:
            continue
        if isinstance(mine, dict) and isinstance(theirs, dict):
            return f"{key}.{first_difference(mine, theirs)}"
        return f"{key}={mine} here, {theirs} there"
    return None


def policies_of(adapters: Iterable[tuple[str | None, str]]) -> tuple[Policy, ...]:
    """Returns the base, then every adapter, of (name or None, folder), under a name of its own.

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
            "grading": {"deadline_s": limits.deadline_s, "memory_limit_mb": limits.memory_limit_mb},
            "versions": {
                "tinylora_rl": __version__,
                **{name: _version(name) for name in ("vllm", "torch", "transformers")},
            },
        },
    )


def _digest(rows: list[Row]) -> str:
    """Returns the sha256 of all that is asked and all that counts as right."""
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
