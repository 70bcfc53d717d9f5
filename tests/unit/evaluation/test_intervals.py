import numpy as np
import pytest

from tinylora_rl.evaluation.intervals import bootstrap, compare, wilson


def test_wilson_is_the_textbooks():
    # 81 of 263, 95 %: Wilson's score interval, by hand from its formula
    z = 1.959963984540054
    n, p = 263, 81 / 263
    centre = (p + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * (p * (1 - p) / n + z**2 / (4 * n**2)) ** 0.5
    estimate = wilson(np.repeat([1.0, 0.0], [81, 182]), 0.95)
    assert estimate.value == pytest.approx(p)
    assert (estimate.low, estimate.high) == pytest.approx((centre - half, centre + half), abs=1e-12)


def test_wilson_covers_when_nothing_is_right():
    estimate = wilson(np.zeros(30), 0.95)
    assert estimate.low == 0.0
    assert 0.1 < estimate.high < 0.13  # 30 questions can hide an accuracy of 11 %


def test_bootstrap_agrees_with_the_normal_interval_where_that_holds():
    rng = np.random.default_rng(0)
    means = rng.integers(0, 5, 2000) / 4
    estimate = bootstrap(means, 0.95)
    half = 1.96 * means.std() / 2000**0.5
    assert estimate.method == "bootstrap"
    assert estimate.low == pytest.approx(means.mean() - half, abs=half / 5)
    assert estimate.high == pytest.approx(means.mean() + half, abs=half / 5)


def test_bootstrap_over_items_that_all_agree_says_that_it_is_wilsons():
    estimate = bootstrap(np.ones(40), 0.95)
    assert estimate.method == "wilson"
    assert estimate.low < 0.95


def test_greedy_comparison_is_mcnemars_exact_test():
    # 10 items differ, 9 in favour: P(X >= 9 or X <= 1), X ~ B(10, 1/2) = 22 / 1024
    policy = np.array([1.0] * 9 + [0.0] + [1.0] * 50)[:, None]
    base = np.array([0.0] * 9 + [1.0] + [1.0] * 50)[:, None]
    result = compare(policy, base, 0.95)
    assert result.p_value == pytest.approx(22 / 1024)
    assert (result.num_better, result.num_worse) == (9, 1)
    assert result.difference.value == pytest.approx(8 / 60)
    assert result.difference.low > 0


def test_no_difference_is_p_1():
    same = np.ones((20, 1))
    result = compare(same, same, 0.95)
    assert (result.p_value, result.difference.value) == (1.0, 0.0)
    assert -0.15 < result.difference.low < 0 < result.difference.high < 0.15
    sampled = np.ones((20, 4))
    assert compare(sampled, sampled, 0.95).p_value == 1.0


def test_sampled_comparison_counts_items_and_not_samples():
    # One item with 1,000 samples that improved is one item, however many samples say so.
    policy, base = np.zeros((8, 1000)), np.zeros((8, 1000))
    policy[0] = 1.0
    assert compare(policy, base, 0.95).p_value == 1.0
    policy[:] = 1.0  # all eight: 2 / 2^8
    assert compare(policy, base, 0.95).p_value == pytest.approx(2 / 256)


def test_false_positives_of_the_sampled_test_are_as_rare_as_stated():
    rng = np.random.default_rng(1)
    rejected = 0
    for _ in range(120):
        chance = rng.random(25)[:, None]
        policy, base = ((rng.random((25, 4)) < chance).astype(float) for _ in range(2))
        rejected += compare(policy, base, 0.95).p_value < 0.05
    assert rejected <= 14  # B(120, .05): mean 6, P(X > 14) = 0.001


def test_items_that_all_agree_on_a_half_have_an_interval_too():
    estimate = bootstrap(np.full(30, 0.5), 0.95)
    assert (estimate.value, estimate.method) == (0.5, "wilson")
    assert estimate.low < 0.4
    assert estimate.high > 0.6


def test_the_interval_of_a_greedy_difference_agrees_with_its_test():
    # 5 better, 0 worse of 500: McNemar's p is 1/16, so the interval must hold 0
    policy, base = np.zeros((500, 1)), np.zeros((500, 1))
    policy[:5] = 1.0
    result = compare(policy, base, 0.95)
    assert result.p_value == pytest.approx(1 / 16)
    assert result.difference.low < 0 < result.difference.high
    assert result.difference.value == pytest.approx(0.01)


def test_intervals_of_greedy_differences_cover_as_stated():
    rng = np.random.default_rng(2)
    covered = 0
    for _ in range(300):
        pair = rng.choice(4, size=60, p=[0.5, 0.2, 0.1, 0.2])
        policy, base = (pair % 2).astype(float)[:, None], (pair // 2).astype(float)[:, None]
        estimate = compare(policy, base, 0.95).difference
        covered += estimate.low <= 0.1 <= estimate.high
    assert covered >= 273  # B(300, .95): mean 285, P(X < 273) = 0.002
