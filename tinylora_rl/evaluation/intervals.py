"""Computes intervals and paired tests for accuracies.

| figure | interval | test against the base |
|---|---|---|
| greedy accuracy, majority vote | Wilson | exact McNemar: binomial over the items that differ |
| mean over k samples, pass@k | percentile bootstrap over items | sign-flip permutation over items |
| greedy difference | Bonett and Price 2012, adjusted Wald for paired proportions | |
| difference of means over k samples | percentile bootstrap over items | |

Items are the unit: k samples of one question are not k independent observations. Where all items
agree, resampling them shows no spread: the interval is then Wilson's, or Bonett and Price's, for as
many items, as its `method` states. Tests and bootstrap are scipy's.
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
    """A mean with its interval; `method` is wilson, bootstrap or bonett-price."""

    value: float
    low: float
    high: float
    method: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Comparison:
    """A policy against the base on the same items.

    Attributes:
        difference: policy minus base.
        p_value: two-sided; 1 where no item differs.
        num_better, num_worse: items on which the policy does better, and worse.
    """

    difference: Estimate
    p_value: float
    num_better: int
    num_worse: int
    test: str


def wilson(values_N: Values, confidence: float) -> Estimate:
    """Averages values in [0, 1], shape (N,), N >= 1, with the interval of N Bernoulli draws."""
    value, total = float(values_N.mean()), len(values_N)
    z = _quantile(confidence)
    centre = (value + z**2 / (2 * total)) / (1 + z**2 / total)
    half = z / (1 + z**2 / total)
    half *= (value * (1 - value) / total + z**2 / (4 * total**2)) ** 0.5
    return Estimate(
        value=value, low=max(centre - half, 0.0), high=min(centre + half, 1.0), method="wilson"
    )


def bootstrap(means_N: Values, confidence: float) -> Estimate:
    """Averages per-item means in [0, 1], shape (N,)."""
    if np.ptp(means_N) == 0:
        return wilson(means_N, confidence)
    low, high = _percentiles(means_N, confidence)
    return Estimate(value=float(means_N.mean()), low=low, high=high, method="bootstrap")


def compare(policy_NK: Values, base_NK: Values, confidence: float) -> Comparison:
    """Compares verdicts (0 or 1) on the same N items, K samples each; K = 1 is greedy."""
    difference_N = policy_NK.mean(axis=1) - base_NK.mean(axis=1)
    better, worse = int((difference_N > 0).sum()), int((difference_N < 0).sum())
    if policy_NK.shape[1] == 1:
        test = "mcnemar"
        p_value = float(stats.binomtest(better, better + worse).pvalue) if better + worse else 1.0
    else:
        test = "sign-flip permutation"
        p_value = _sign_flip(difference_N)
    return Comparison(
        difference=_difference(difference_N, policy_NK.shape[1] == 1, confidence),
        p_value=p_value,
        num_better=better,
        num_worse=worse,
        test=test,
    )


def _difference(difference_N: Values, is_greedy: bool, confidence: float) -> Estimate:
    value = float(difference_N.mean())
    if not is_greedy and np.ptp(difference_N) > 0:
        low, high = _percentiles(difference_N, confidence)
        return Estimate(value=value, low=low, high=high, method="bootstrap")
    # one item more on either side: no sample shows that nothing ever differs
    total = len(difference_N) + 2
    gained = (difference_N.clip(min=0).sum() + 1) / total
    lost = ((-difference_N).clip(min=0).sum() + 1) / total
    centre = gained - lost
    half = _quantile(confidence) * float((gained + lost - centre**2) / total) ** 0.5
    return Estimate(
        value=value,
        low=max(float(centre) - half, -1.0),
        high=min(float(centre) + half, 1.0),
        method="bonett-price",
    )


def _quantile(confidence: float) -> float:
    return float(stats.norm.ppf(0.5 + confidence / 2))


def _percentiles(values_N: Values, confidence: float) -> tuple[float, float]:
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
    """Tests the null hypothesis that each item's difference is as likely as its negative."""
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
