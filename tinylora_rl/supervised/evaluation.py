"""Measures a supervised run on `train`'s held-out rows, under `train`'s metric names.

As a validation of `train` does; only the seeds of the samples are an evaluation's, so that runs are
compared under common random numbers.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from statistics import fmean
from typing import Any

from tinylora_rl.evaluation.engine import Engine
from tinylora_rl.evaluation.plan import BASE, EvaluationPlan, Policy, Question, Sampling
from tinylora_rl.evaluation.runner import ItemsFile, read_items, run_plan
from tinylora_rl.methods import TrainedPolicy
from tinylora_rl.settings.experiment import Experiment
from tinylora_rl.supervised.data import prompt_ids
from tinylora_rl.tasks import Row

TRAINED = "sft"
"""The name of the trained policy; the other one is the base."""


class HeldOut:
    """The held-out rows as questions, and the engines that answer them.

    The base and the trained policy share an engine, unless the latter is a whole model. An adapter
    is merged as in training's rollout; LoRA, which verl's rollout merges in bfloat16, is a LoRA
    request here and exact.
    """

    def __init__(self, experiment: Experiment, rows: Sequence[Row], trained: TrainedPolicy) -> None:
        self._experiment = experiment
        self._trained = trained
        asked = ((row, prompt_ids(experiment, row)) for row in rows)
        # a prompt that is too long is left out, as verl's loader does in a validation
        self._questions = [
            Question.of(row, row["data_source"], ids) for row, ids in asked if ids is not None
        ]
        self._headline = {row["data_source"]: row["extra_info"]["judge"] for row in rows}
        self._engine = cache(self._start_engine)

    @property
    def num_responses(self) -> int:
        return len(self._questions) * self._experiment.validation.draws

    def evaluate(
        self, policy: str, items_path: Path, progress: Callable[[int], None]
    ) -> dict[str, float]:
        """Measures `policy`, BASE or TRAINED; writes every graded response to `items_path`."""
        experiment, trained = self._experiment, self._trained
        # a whole model is what its engine loaded, so that engine's base
        directory = None if policy == BASE else trained.artifact or trained.lora
        base = experiment.base.folder
        model = base if policy == BASE or trained.model is None else trained.model
        limits = experiment.grading_limits
        items_path.parent.mkdir(exist_ok=True)
        items_path.unlink(missing_ok=True)  # of an evaluation that was killed
        with ItemsFile(items_path) as items, limits.pool(experiment.plugins) as pool:
            run_plan(
                self._plan(Policy(name=policy, directory=directory)),
                self._questions,
                items,
                start_engine=lambda: self._engine(model),
                tokenizer=experiment.base.tokenizer,
                pool=pool,
                num_graders=limits.num_workers,
                progress=progress,
            )
        return held_out_metrics(read_items(items_path), self._headline)

    def _plan(self, policy: Policy) -> EvaluationPlan:
        experiment = self._experiment
        validation, grading = experiment.validation, experiment.grading
        return EvaluationPlan(
            model=experiment.base.id,
            policies=(policy,),
            benchmarks=dict.fromkeys(self._headline, ""),
            sampling=Sampling(
                greedy=validation.greedy,
                num_samples=validation.samples or 0,
                temperature=validation.temperature,
                max_response_tokens=experiment.batch.max_response_tokens,
            ),
            judges=tuple(dict.fromkeys((*self._headline.values(), *grading.log_judges))),
            headline=self._headline,
            weights="merged",
            settings={},
        )

    def _start_engine(self, model: Path) -> Engine:
        experiment, lora = self._experiment, self._trained.lora
        longest = max(len(question.prompt_token_ids or ()) for question in self._questions)
        return Engine(
            str(model),
            options={
                "max_model_len": longest + experiment.batch.max_response_tokens,
                "seed": 0,
                "trust_remote_code": False,
                **experiment.engine.options,
            },
            lora_dirs={TRAINED: lora} if lora else None,
            rank=self._trained.rank,
            rounding=experiment.sync.rounding,
        )


def held_out_metrics(
    items: Iterable[Mapping[str, Any]], headline: Mapping[str, str]
) -> dict[str, float]:
    """Names accuracies as verl does: `val-core/SOURCE/acc/mean@K`, greedy ones under SOURCE_greedy.

    Besides, `val-aux/SOURCE/JUDGE/mean@K` of every judge, and the responses' mean length in tokens
    and the share that was cut.

    Args:
        headline: {source: the judge whose verdict is the accuracy}.
    """
    groups: dict[tuple[str, bool], list[Mapping[str, Any]]] = defaultdict(list)
    for item in items:
        groups[item["benchmark"], item["greedy"]].append(item)
    metrics = {}
    for (source, greedy), members in groups.items():
        name = f"{source}_greedy" if greedy else source
        mean_at = f"mean@{1 + max(item['sample'] for item in members)}"
        for judge in members[0]["judged"]:
            accuracy = fmean(item["judged"][judge]["verdict"] == "right" for item in members)
            metrics[f"val-aux/{name}/{judge}/{mean_at}"] = accuracy
            if judge == headline[source]:
                metrics[f"val-core/{name}/acc/{mean_at}"] = accuracy
        for key in ("response_tokens", "truncated"):
            metrics[f"val-aux/{name}/{key}/{mean_at}"] = fmean(item[key] for item in members)
    return metrics
