"""From a plan to a complete items file: ask what is missing, grade it, write it down."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import Any, Protocol

from tinylora_rl.evaluation.engine import Engine, Response
from tinylora_rl.evaluation.items import ItemsFile
from tinylora_rl.evaluation.plan import Key, Plan, Question
from tinylora_rl.rewards import Gold, GradingPool

GRADING_BACKLOG = 64
"""Ungraded responses per grading process, above which generation waits for the graders."""


class Tokenizer(Protocol):
    """The one thing asked of a Hugging Face tokenizer here."""

    def decode(self, token_ids: Any, skip_special_tokens: bool = ...) -> str: ...


def run_plan(
    plan: Plan,
    questions: list[Question],
    items: ItemsFile,
    *,
    start_engine: Callable[[], Engine],
    tokenizer: Tokenizer,
    pool: GradingPool,
    num_graders: int,
    progress: Callable[[int], None],
) -> None:
    """Every response of the plan is in `items`.

    Args:
        start_engine: called once, and only if something is left to generate.
        num_graders: threads that grade, as many as `pool` has processes.
        progress: told how many responses were added.
    """
    done = items.done()
    progress(len(done))
    engine: Engine | None = None
    for policy in plan.policies:
        todo = [
            (key, question) for key, question in plan.keys(policy, questions) if key not in done
        ]
        overlong = [entry for entry in todo if entry[1].prompt_token_ids is None]
        items.append(_unanswered(plan, key, question) for key, question in overlong)
        progress(len(overlong))
        requests = [entry for entry in todo if entry[1].prompt_token_ids is not None]
        if not requests:
            continue
        if engine is None:
            engine = start_engine()
        params = {key: plan.sampling_params(key) for key, _ in requests}
        with ThreadPoolExecutor(num_graders) as graders:
            grading: set[Future[dict[str, Any]]] = set()
            for response in engine.answer(policy, requests, params):
                grading.add(
                    graders.submit(_graded, plan, response, params[response.key], tokenizer, pool)
                )
                limit = GRADING_BACKLOG * num_graders
                grading = _write_finished(grading, items, progress, at_most=limit)
            _write_finished(grading, items, progress, at_most=0)


def _write_finished(
    grading: set[Future[dict[str, Any]]],
    items: ItemsFile,
    progress: Callable[[int], None],
    *,
    at_most: int,
) -> set[Future[dict[str, Any]]]:
    """What is graded is written; waits until no more than `at_most` are left, and returns those."""
    finished = {future for future in grading if future.done()}
    grading = grading - finished
    while len(grading) > at_most:
        more, grading = wait(grading, return_when=FIRST_COMPLETED)
        finished |= more
    if finished:
        items.append(future.result() for future in finished)
        progress(len(finished))
    return grading


def _graded(
    plan: Plan,
    response: Response,
    params: Mapping[str, Any],
    tokenizer: Tokenizer,
    pool: GradingPool,
) -> dict[str, Any]:
    question = response.question
    # decoded as verl decodes what it rewards, so that a curve and a table grade the same text
    text = tokenizer.decode(list(response.token_ids), skip_special_tokens=True)
    gold = Gold(answer=question.gold, tolerance=question.tolerance, unordered=question.unordered)
    graded = pool.grade(text, gold, plan.judges)
    return {
        **_identity(response.key, question),
        "response": text,
        "response_tokens": len(response.token_ids),
        "truncated": response.truncated,
        "overlong": False,
        "seed": params.get("seed"),
        "judged": {
            name: {"verdict": judged.verdict, "answer": judged.answer}
            for name, judged in graded.judged.items()
        },
        "grade_s": round(graded.grade_s, 6),
    }


def _unanswered(plan: Plan, key: Key, question: Question) -> dict[str, Any]:
    return {
        **_identity(key, question),
        "response": "",
        "response_tokens": 0,
        "truncated": False,
        "overlong": True,
        "seed": None,
        "judged": {name: {"verdict": "no_answer", "answer": None} for name in plan.judges},
        "grade_s": 0.0,
    }


def _identity(key: Key, question: Question) -> dict[str, Any]:
    return {**dataclasses.asdict(key), "question": question.text, "gold": question.gold}
