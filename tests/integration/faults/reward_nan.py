"""A reward function that returns NaN for what policy version 3 wrote, which step 4 samples."""

from typing import Any

from tinylora_rl.rewards import score


def compute_score(
    data_source: str,
    solution_str: str,
    ground_truth: str,
    extra_info: dict[str, Any] | None = None,
    **kwargs: Any,
) -> dict[str, float]:
    graded = score.compute_score(data_source, solution_str, ground_truth, extra_info, **kwargs)
    if (extra_info or {}).get("max_global_steps") == 3:
        graded["score"] = float("nan")
    return graded
