"""States an evaluation completely, before an engine starts.

Two evaluations with equal plans draw the same samples and grade them alike: a stopped evaluation
continues if its plan is equal.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from tinylora_rl.rewards import Gold
from tinylora_rl.tasks import Row, row_gold
from tinylora_rl.vllm_plugin.sampling import GREEDY, sample_seed

if TYPE_CHECKING:
    from tinylora_rl.artifact import StoredAdapter

BASE = "base"
"""The name of the untrained model, which is always one of the policies."""

WEIGHTS = ("factors", "merged")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Policy:
    """The base model, or the base with one adapter.

    Attributes:
        name: unique within a plan.
        directory: the adapter's; None is the base.
        digest: of the adapter; empty for the base.
        stored: the adapter as it was opened.
    """

    name: str
    directory: Path | None = None
    digest: str = ""
    stored: StoredAdapter | None = dataclasses.field(default=None, compare=False)

    @classmethod
    def of(cls, stored: StoredAdapter, name: str | None = None) -> Policy:
        """Makes a policy of an adapter, under its own name where there is no other."""
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

    Raises:
        ValueError: a field is out of range, or nothing would be drawn.
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
        """Makes a question of a row whose prompt is `token_ids`."""
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
