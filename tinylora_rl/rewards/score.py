"""The reward verl calls: 1.0 for an answer the chosen judge finds right, else 0.0.

    reward.custom_reward_function.path=pkg://tinylora_rl.rewards.score
    reward.custom_reward_function.name=compute_score
    reward.custom_reward_function.reward_kwargs.judge=strict

verl's reward managers take `score` as the reward and put every key of the dict into the batch, one
numpy array per key. The keys are read off the first sample, so all samples must have the same.
In validation each key becomes `val-aux/<data_source>/<key>/mean@<n>`, and `acc` the `val-core` one.

`compute_score` is a plain function on purpose: verl then calls it on its reward worker's threads,
and anyone else can too. Symbolic judges run in a `GradingPool`, one per process and settings, made
at the first need; exact judges need none.
"""

import os
import threading
from collections.abc import Iterable, Mapping
from functools import cache, lru_cache
from typing import Any

from tinylora_rl.rewards.controls import CONTROLS, Sample
from tinylora_rl.rewards.judges import JUDGES, Gold
from tinylora_rl.rewards.pool import GradingPool

_KWARGS = "reward.custom_reward_function.reward_kwargs"
_pools_lock = threading.Lock()


def compute_score(
    data_source: str,
    solution_str: str,
    ground_truth: str,
    extra_info: Mapping[str, Any] | None = None,
    *,
    judge: str = "strict",
    control: str | None = None,
    log_judges: Iterable[str] = ("strict", "flexible"),
    deadline_s: float = 5.0,
    memory_limit_mb: int = 1024,
    num_workers: int = 2,
    seed: int = 0,
    reward_router_address: str | None = None,
    reward_model_tokenizer: Any = None,
) -> dict[str, float]:
    """Return the reward and what it was made of; the keys depend on the recipe, never on responses.

    score      the reward: `acc`, or what the control says (`controls`)
    acc        1.0 where `judge` says right
    <name>     the same for each of `log_judges`
    no_answer  1.0 where `judge` found no answer: a format miss, not a wrong answer
    timed_out  1.0 where any of these judges was stopped (deadline, memory, crash): its 0.0 then
               says nothing about the answer
    grade_s    seconds of grading, without the wait for a free process

    `extra_info` may say how the gold answer is meant: `tolerance` (absolute, a float) and
    `unordered` (true: several answers, in any order); and `judge`, where a row has one of its own.
    For `control=random` it identifies the sample by `split`, `index` and `sample_seed`; the last
    tells equal texts apart, and our agent loop supplies it: verl passes neither the number of the
    sample nor the step.

    `deadline_s` is processor time of one answer, `memory_limit_mb` the address space of one of the
    `num_workers` processes; verl runs `reward.num_workers` of us, each with its own.

    verl adds the last two arguments when a reward model is configured. They are not used.
    """
    if isinstance(log_judges, str):
        raise ValueError(f"{_KWARGS}.log_judges={log_judges!r}: a string; write [{log_judges}]")
    logged = tuple(log_judges)
    info = extra_info or {}
    judge = info.get("judge") or judge
    _check(judge, control, logged)
    pool = _pool(os.getpid(), num_workers, deadline_s, memory_limit_mb)

    gold = Gold(
        answer=ground_truth,
        tolerance=None if (tolerance := info.get("tolerance")) is None else float(tolerance),
        unordered=bool(info.get("unordered")),
    )
    graded = pool.grade(solution_str, gold, tuple(dict.fromkeys((judge, *logged))))
    verdicts = {name: judged.verdict for name, judged in graded.judged.items()}
    acc = score = float(verdicts[judge] == "right")
    if control is not None:
        question = f"{data_source}\x1f{info.get('split')}\x1f{info.get('index', ground_truth)}"
        sample = Sample(
            verdict=verdicts[judge],
            question=question,
            rollout=str(info.get("sample_seed", "")),
            response=solution_str,
        )
        score = CONTROLS[control](sample, seed)
    return {
        "score": score,
        "acc": acc,
        **{name: float(verdicts[name] == "right") for name in logged},
        "no_answer": float(verdicts[judge] == "no_answer"),
        "timed_out": float("timed_out" in verdicts.values()),
        "grade_s": graded.grade_s,
    }


@lru_cache
def _check(judge: str, control: str | None, logged: tuple[str, ...]) -> None:
    for key, names in (("judge", (judge,)), ("log_judges", logged)):
        for name in names:
            if name not in JUDGES:
                raise ValueError(
                    f"{_KWARGS}.{key}={name!r}: no such judge; choose from {', '.join(JUDGES)}"
                )
    if control is not None and control not in CONTROLS:
        raise ValueError(
            f"{_KWARGS}.control={control!r}: no such control; choose from null, "
            f"{', '.join(CONTROLS)}"
        )


def _pool(pid: int, num_workers: int, deadline_s: float, memory_limit_mb: int) -> GradingPool:
    with _pools_lock:  # or two threads at once make two pools
        return _make_pool(pid, num_workers, deadline_s, memory_limit_mb)


@cache
def _make_pool(pid: int, num_workers: int, deadline_s: float, memory_limit_mb: int) -> GradingPool:
    """One pool for these settings in the process `pid`: a fork needs one of its own."""
    for key, value in (
        ("num_workers", num_workers),
        ("deadline_s", deadline_s),
        ("memory_limit_mb", memory_limit_mb),
    ):
        if not value > 0:
            raise ValueError(f"{_KWARGS}.{key}={value!r}: must be above 0")
    return GradingPool(
        num_workers=num_workers,
        deadline_s=deadline_s,
        memory_limit_bytes=memory_limit_mb << 20,
    )
