"""Runs a plan: draws the missing responses, grades them, and keeps each on disk as it is graded.

`items.jsonl` has one JSON object a line. A killed evaluation leaves whole lines and at most one
torn at the end, which the next start cuts.
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, Protocol

from tinylora_rl.evaluation.plan import EvaluationPlan, Key, Question
from tinylora_rl.rewards import GradingPool

if TYPE_CHECKING:
    from tinylora_rl.evaluation.engine import Engine, Response

GRADING_BACKLOG = 64
"""Ungraded responses per grading process, above which generation waits for the graders."""


class Tokenizer(Protocol):
    def decode(self, token_ids: Any, skip_special_tokens: bool = ...) -> str: ...


def run_plan(
    plan: EvaluationPlan,
    questions: list[Question],
    items: ItemsFile,
    *,
    start_engine: Callable[[], Engine],
    tokenizer: Tokenizer,
    pool: GradingPool,
    num_graders: int,
    progress: Callable[[int], None],
) -> None:
    """Adds every missing response of the plan to `items`.

    Args:
        start_engine: called once, and only if something is left to generate.
        num_graders: threads that grade, as many as `pool` has processes.
        progress: called with the number of responses added.
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
        grading = _Grading(plan, tokenizer, pool, num_graders, items, progress)
        try:
            for response in engine.answer(policy, requests, params):
                grading.submit(response, params[response.key])
            grading.finish()
        finally:
            grading.close()


class _Grading:
    """Grades in threads that wait for processes, and writes the results in the caller's thread."""

    def __init__(
        self,
        plan: EvaluationPlan,
        tokenizer: Tokenizer,
        pool: GradingPool,
        num_graders: int,
        items: ItemsFile,
        progress: Callable[[int], None],
    ) -> None:
        self._threads = ThreadPoolExecutor(num_graders)
        self._arguments = (plan, tokenizer, pool)
        self._items = items
        self._progress = progress
        self._finished: SimpleQueue[Future[dict[str, Any]]] = SimpleQueue()
        self._num_pending = 0
        self._backlog = GRADING_BACKLOG * num_graders

    def submit(self, response: Response, params: Mapping[str, Any]) -> None:
        """Queues `response` for grading; waits while the queue is full."""
        future = self._threads.submit(_graded, response, params, *self._arguments)
        future.add_done_callback(self._finished.put)
        self._num_pending += 1
        self._write(wait=self._num_pending > self._backlog)

    def finish(self) -> None:
        while self._num_pending:
            self._write(wait=True)

    def close(self) -> None:
        """Ends the threads, writes the graded responses and drops those not begun."""
        self._threads.shutdown(wait=True, cancel_futures=True)
        self._write(wait=False)

    def _write(self, *, wait: bool) -> None:
        finished = [self._finished.get()] if wait else []
        while not self._finished.empty():
            finished.append(self._finished.get())
        self._num_pending -= len(finished)
        graded = [future.result() for future in finished if not future.cancelled()]
        if graded:
            self._items.append(graded)
            self._progress(len(graded))


def _graded(
    response: Response,
    params: Mapping[str, Any],
    plan: EvaluationPlan,
    tokenizer: Tokenizer,
    pool: GradingPool,
) -> dict[str, Any]:
    question = response.question
    # decoded as verl decodes what it rewards, so that a curve and a table grade the same text
    text = tokenizer.decode(list(response.token_ids), skip_special_tokens=True)
    graded = pool.grade(text, question.gold, plan.judges)
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


def _unanswered(plan: EvaluationPlan, key: Key, question: Question) -> dict[str, Any]:
    judged = {name: {"verdict": "no_answer", "answer": None} for name in plan.judges}
    nothing = {"response": "", "response_tokens": 0, "truncated": False, "overlong": True}
    return {**_identity(key, question), **nothing, "seed": None, "judged": judged, "grade_s": 0.0}


def _identity(key: Key, question: Question) -> dict[str, Any]:
    return {**dataclasses.asdict(key), "question": question.text, "gold": question.gold.answer}


class ItemsFile:
    """`items.jsonl` of one evaluation, open for appending."""

    def __init__(self, path: Path) -> None:
        self._path = path
        _cut_torn_line(path)
        self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)

    def done(self) -> set[Key]:
        return {key_of(item) for item in read_items(self._path)}

    def append(self, items: Iterable[Mapping[str, Any]]) -> None:
        """Appends the items, all of them or, where the disk is full or fails (OSError), none."""
        # ensure_ascii: a lone surrogate in a response is written as an escape, never refused
        lines = "".join(json.dumps(item, ensure_ascii=True) + "\n" for item in items)
        rest = memoryview(lines.encode())
        end = os.fstat(self._descriptor).st_size
        try:
            while rest:
                rest = rest[os.write(self._descriptor, rest) :]
        except OSError:
            os.ftruncate(self._descriptor, end)
            raise

    def close(self) -> None:
        os.fsync(self._descriptor)
        os.close(self._descriptor)

    def __enter__(self) -> ItemsFile:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()


def read_items(path: Path) -> Iterator[dict[str, Any]]:
    """Yields the items in `path` one at a time: together they may not fit into memory."""
    with path.open(encoding="utf-8") as file:
        for number, line in enumerate(file, start=1):
            try:
                yield json.loads(line)
            except ValueError as error:
                raise ValueError(f"{path}: line {number} is damaged: {error}") from error


def key_of(item: Mapping[str, Any]) -> Key:
    return Key(**{field.name: item[field.name] for field in dataclasses.fields(Key)})


def _cut_torn_line(path: Path) -> None:
    if not path.exists():
        return
    with path.open("rb+") as file:
        end = file.seek(0, os.SEEK_END)
        block = 1 << 16
        position = end
        while position > 0:
            start = max(0, position - block)
            file.seek(start)
            newline = file.read(position - start).rfind(b"\n")
            if newline >= 0:
                file.truncate(start + newline + 1)
                return
            position = start
        file.truncate(0)
