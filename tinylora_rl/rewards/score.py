"""The reward verl calls: 1.0 for the right answer where the chosen extractor finds it, else 0.0.

    reward.custom_reward_function.path=pkg://tinylora_rl.rewards.score
    reward.custom_reward_function.name=compute_score
    reward.custom_reward_function.reward_kwargs.extractor=strict

verl's reward managers take `score` as the reward and put every key of the dict into the batch, one
numpy array per key. The keys are read off the first sample, so all samples must have the same.
In validation each key becomes `val-aux/<data_source>/<key>/mean@<n>`, and `acc` the `val-core` one.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from tinylora_rl.rewards.extract import EXTRACTORS
from tinylora_rl.rewards.normalise import exact_match

_KWARGS = "reward.custom_reward_function.reward_kwargs"


def compute_score(
    data_source: str,
    solution_str: str,
    ground_truth: str,
    extra_info: Mapping[str, Any] | None = None,
    *,
    extractor: str = "strict",
    log_extractors: Iterable[str] = ("strict", "flexible"),
) -> dict[str, float]:
    """Return `score` and `acc` (equal), the verdict under each logged extractor, and `no_answer`.

    All values are 0.0 or 1.0, and the keys depend on the arguments of the recipe only, never on the
    response. `no_answer` is 1.0 when `extractor` found nothing: a format miss, not a wrong answer.
    `data_source` and `extra_info` are part of verl's call and do not change the verdict.
    """
    if isinstance(log_extractors, str):
        raise ValueError(
            f"{_KWARGS}.log_extractors={log_extractors!r}: a string; write [{log_extractors}]"
        )
    logged = list(log_extractors)
    for key, names in (("extractor", [extractor]), ("log_extractors", logged)):
        for name in names:
            if name not in EXTRACTORS:
                raise ValueError(
                    f"{_KWARGS}.{key}={name!r}: no such extractor; "
                    f"choose from {', '.join(EXTRACTORS)}"
                )

    answers = {name: EXTRACTORS[name](solution_str) for name in (extractor, *logged)}
    verdicts = {name: _grade(answer, ground_truth) for name, answer in answers.items()}
    return {
        "score": verdicts[extractor],
        "acc": verdicts[extractor],
        **{name: verdicts[name] for name in logged},
        "no_answer": float(not (answers[extractor] or "").strip()),
    }


def _grade(answer: str | None, gold: str) -> float:
    return float(answer is not None and exact_match(answer, gold))
