"""Intervals and paired tests for accuracies, through scipy.

| figure | interval | test against the base |
|---|---|---|
| greedy accuracy | Wilson | exact McNemar: binomial over the items on which the two differ |
| mean over k samples | percentile bootstrap over items | sign-flip permutation over items |

Items are the unit: k samples of one question are not k independent observations.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import numpy.typing as npt
from scipy import stats

RESAMPLES = 4000

Values = npt.NDArray[np.float64]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Estimate:
    """A mean with its interval; `method` is wilson or bootstrap."""

    value: float
    low: float
    high: float
    method: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Comparison:
    """A policy against the base on the same items.

    Attributes:
        difference: policy minus base, with a bootstrap interval over items.
        p_value: two-sided; 1 where no item differs.
        num_better, num_worse: items on which the policy does better, and worse.
    """

    difference: Estimate
    p_value: float
    num_better: int
    num_worse: int
    test: str


def wilson(verdicts_N: Values, confidence: float) -> Estimate:
    """The share of ones among zeros and ones, shape (N,), N >= 1."""
    right, total = int(verdicts_N.sum()), len(verdicts_N)
    interval = stats.binomtest(right, total).proportion_ci(confidence, method="wilson")
    return Estimate(
        value=right / total, low=float(interval.low), high=float(interval.high), method="wilson"
    )


def bootstrap(means_N: Values, confidence: float) -> Estimate:
    """The mean of per-item means in [0, 1], shape (N,).

    Where all items agree, resampling them shows no spread; the interval is then Wilson's for N
    items, and says so.
    """
    value = float(means_N.mean())
    if np.ptp(means_N) == 0 and value in (0.0, 1.0):
        return wilson(means_N, confidence)
    low, high = _percentiles(means_N, confidence)
    return Estimate(value=value, low=low, high=high, method="bootstrap")


def compare(policy_NK: Values, base_NK: Values, confidence: float) -> Comparison:
    """Verdicts (0 or 1) of policy and base on the same N items, K samples each; K = 1 is greedy."""
    difference_N = policy_NK.mean(axis=1) - base_NK.mean(axis=1)
    better, worse = int((difference_N > 0).sum()), int((difference_N < 0).sum())
    low, high = _percentiles(difference_N, confidence)
    if policy_NK.shape[1] == 1:
        test = "mcnemar"
        p_value = float(stats.binomtest(better, better + worse).pvalue) if better + worse else 1.0
    else:
        test = "sign-flip permutation"
        p_value = _sign_flip(difference_N)
    return Comparison(
        difference=Estimate(
            value=float(difference_N.mean()), low=low, high=high, method="bootstrap"
        ),
        p_value=p_value,
        num_better=better,
        num_worse=worse,
        test=test,
    )


def _percentiles(values_N: Values, confidence: float) -> tuple[float, float]:
    if np.ptp(values_N) == 0:
        return float(values_N[0]), float(values_N[0])
    result = stats.bootstrap(
        (values_N,),
        np.mean,
        n_resamples=RESAMPLES,
        confidence_level=confidence,
        method="percentile",
        batch=100,
        rng=np.random.default_rng(0),
    )
    return float(result.confidence_interval.low), float(result.confidence_interval.high)


def _sign_flip(difference_N: Values) -> float:
    """Under the null hypothesis each item's difference is as likely as its negative."""
    moved = difference_N[difference_N != 0]
    if len(moved) < 2:
        return 1.0  # one item is as likely to have moved the other way
    result = stats.permutation_test(
        (moved,),
        np.mean,
        permutation_type="samples",
        n_resamples=RESAMPLES,
        batch=100,
        rng=np.random.default_rng(0),
    )
    return float(result.pvalue)
