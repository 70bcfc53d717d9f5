"""Intervals over seeds, against the closed forms."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinylora_rl.studies.seeds import over_seeds, whisker

T_2 = 4.302652729911275  # 97.5 % quantile of Student's t with 2 degrees of freedom, from a table


def test_three_seeds_have_the_t_interval():
    estimate = over_seeds([0.5, 0.6, 0.7], num_items=64)
    half = T_2 * 0.1 / 3**0.5
    assert estimate.method == "t"
    assert (estimate.value, estimate.low, estimate.high) == pytest.approx(
        (
            0.6,
            0.6 - half,
            0.848,
        ),
        abs=1e-3,
    )


def test_one_seed_has_the_interval_of_its_questions():
    estimate = over_seeds([0.5], num_items=100)
    assert estimate.method == "wilson"
    assert (estimate.low, estimate.high) == pytest.approx((0.4038, 0.5962), abs=1e-4)


def test_seeds_that_agree_do_not_prove_that_all_would():
    estimate = over_seeds([1.0, 1.0], num_items=64)
    assert estimate.method == "wilson"
    assert estimate.low < 0.95


def test_without_a_count_of_questions_one_seed_has_no_interval():
    estimate = over_seeds([0.5], num_items=None)
    assert (estimate.method, estimate.low, estimate.high) == ("none", 0.0, 1.0)
    assert whisker(estimate) == (0.5, 0.5)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=6), st.integers(1, 2000))
def test_the_mean_is_within_and_all_is_within_0_and_1(values, num_items):
    estimate = over_seeds(values, num_items)
    assert 0 <= estimate.low <= estimate.high <= 1
    assert estimate.low - 1e-12 <= estimate.value <= estimate.high + 1e-12


@given(st.integers(0, 400), st.integers(1, 400))
def test_a_whisker_begins_and_ends_on_its_own_side_of_the_estimate(num_right, num_items):
    share = min(num_right, num_items) / num_items
    low, high = whisker(over_seeds([share], num_items=num_items))
    assert low <= share <= high
