"""Computes intervals over seeds.

| seeds | interval | it covers |
|---|---|---|
| two or more | Student's t of the seeds' accuracies, cut to [0, 1] | the method: another seed |
| one, or all agreeing | Wilson of the held-out questions | this run: other questions |

The two answer different questions, so an `Estimate` names its `method`, and tables mark the second.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import stats

from tinylora_rl.evaluation.intervals import Estimate, wilson

CONFIDENCE = 0.95


def over_seeds(
    accuracies: Sequence[float], num_items: int | None, confidence: float = CONFIDENCE
) -> Estimate:
    """Averages at least one accuracy in [0, 1], with its interval.

    Args:
        num_items: questions that each was measured on. Several samples of a question count as
            one, which makes Wilson's interval wide rather than narrow. None: unknown; where the
            seeds give no interval, it is then [0, 1] with method `none`.
    """
    values = np.asarray(accuracies, dtype=np.float64)
    mean = float(values.mean())
    if len(values) > 1 and np.ptp(values) > 0:
        error = float(values.std(ddof=1)) / len(values) ** 0.5
        half = float(stats.t.ppf(0.5 + confidence / 2, len(values) - 1)) * error
        low, high = max(mean - half, 0.0), min(mean + half, 1.0)
        return Estimate(value=mean, low=low, high=high, method="t")
    if num_items is None:
        return Estimate(value=mean, low=0.0, high=1.0, method="none")
    return wilson(np.full(num_items, mean), confidence)


def whisker(estimate: Estimate) -> tuple[float, float]:
    """Returns (low, high) to draw, in 0..1; of no length where there is no interval.

    The ends are clipped to the estimate: Wilson's end at 1 may miss it in the last bit.
    """
    value = estimate.value
    if estimate.method == "none":
        return value, value
    return min(estimate.low, value), max(estimate.high, value)
