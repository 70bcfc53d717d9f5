"""Computes the reward for verl: 1.0 for an answer that the chosen judge finds right, else 0.0.

    reward.custom_reward_function.path=pkg://tinylora_rl.rewards.score
    reward.custom_reward_function.name=compute_score
    reward.custom_reward_function.reward_kwargs.judge=strict

verl's reward managers take `score` as the reward and put every key of the dict into the batch, one
numpy array per key. The keys are read off the first sample, so all samples must have the same.
In validation each key becomes `val-aux/<data_source>/<key>/mean@<n>`, and `acc` the `val-core` one.

`compute_score` is a plain function on purpose: verl then calls it on its reward worker's threads,
and other code can too. Isolated judges run in a `GradingPool`, one per process and settings, which
is made when the first one is asked; exact judges need none.
"""

import os
import threading
from collections.abc import Iterable, Mapping
from functools import cache, lru_cache
from typing import Any

from tinylora_rl.plugins import load
from tinylora_rl.rewards.controls import CONTROLS, Sample
from tinylora_rl.rewards.judges import JUDGES, Gold, choices
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
    plugins: Iterable[str] = (),
    reward_router_address: str | None = None,
    reward_model_tokenizer: Any = None,
) -> dict[str, float]:
    """Returns the reward and its parts. The keys depend on the arguments, never on a response.

    score      the reward: `acc`, or the control's (`controls`)
    acc        1.0 where the verdict of `judge` is right
    <name>     the same for each of `log_judges`
    no_answer  1.0 where `judge` found no answer: a format miss, not a wrong answer
    timed_out  1.0 where any of these judges was killed (deadline, memory, crash): its 0.0 then is
               no verdict on the answer
    grade_s    seconds of grading, without the wait for a free process

    `extra_info` may qualify the gold answer by `tolerance` (absolute, a float) and `unordered`
    (true: several answers, in any order), and name a row's own `judge`. For `control=random` it
    identifies the sample by `split`, `index` and `sample_seed`; the last distinguishes equal texts,
    and our agent loop supplies it: verl passes neither the number of the sample nor the step.

    `deadline_s` is processor time of one answer, `memory_limit_mb` the address space of one of the
    `num_workers` processes; verl calls this in `reward.num_workers` processes, each with its own.
    `plugins` are the files and modules with a user's own judges.

    verl adds the last two arguments when a reward model is configured. They are not used.
    """
    for key, names in (("log_judges", log_judges), ("plugins", plugins)):
        if isinstance(names, str):
            raise ValueError(f"{_KWARGS}.{key}={names!r}: a string; write [{names}]")
    logged, plugins = tuple(log_judges), tuple(plugins)
    info = extra_info or {}
    judge = info.get("judge") or judge
    _check(judge, control, logged, plugins)
    pool = _pool(os.getpid(), num_workers, deadline_s, memory_limit_mb, plugins)

    gold = Gold.qualified(ground_truth, info)
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
def _check(
    judge: str, control: str | None, logged: tuple[str, ...], plugins: tuple[str, ...]
) -> None:
    load(plugins)
    for key, names in (("judge", (judge,)), ("log_judges", logged)):
        for name in names:
            if name not in JUDGES:
                raise ValueError(f"{_KWARGS}.{key}={name!r}: no such judge; {choices()}")
    if control is not None and control not in CONTROLS:
        raise ValueError(
            f"{_KWARGS}.control={control!r}: no such control; choose from null, "
            f"{', '.join(CONTROLS)}"
        )


def _pool(*settings: Any) -> GradingPool:
    with _pools_lock:  # or two threads at once make two pools
        return _make_pool(*settings)


@cache
def _make_pool(
    pid: int, num_workers: int, deadline_s: float, memory_limit_mb: int, plugins: tuple[str, ...]
) -> GradingPool:
    """Makes the pool for these settings in the process `pid`: a fork needs one of its own."""
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
        plugins=plugins,
    )
