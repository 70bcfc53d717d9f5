"""The rule that chooses a learning rate, on numbers made for it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinylora_rl.studies.selection import choose_rate

GRID = {
    1e-4: {"0": 0.5, "1": 0.5},
    1e-3: {"0": 0.9, "1": 0.7},
    1e-2: {"0": 0.6, "1": 0.6},
}


def test_the_highest_mean_over_seeds_wins():
    choice = choose_rate(GRID)
    assert (choice.learning_rate, choice.edge, choice.notes) == (1e-3, None, ())
    assert choice.means == pytest.approx({1e-4: 0.5, 1e-3: 0.8, 1e-2: 0.6})
    assert choice.selected_on == choice.reported_on == ("0", "1")


def test_of_equal_means_the_smallest_rate_wins_whatever_the_order_of_sums():
    tenth, two, three = 0.1, 0.2, 0.3
    assert tenth + two + three != three + two + tenth
    choice = choose_rate(
        {
            2e-3: {"0": 0.3, "1": 0.2, "2": 0.1},
            1e-3: {"0": 0.1, "1": 0.2, "2": 0.3},
            5e-4: {"0": 0.1, "1": 0.1, "2": 0.1},
        }
    )
    assert (choice.learning_rate, choice.edge) == (1e-3, None)


def test_a_winner_at_the_end_of_the_rates_is_said_to_be():
    assert choose_rate({1e-3: {"0": 0.9}, 1e-2: {"0": 0.1}}).edge == "low"
    assert choose_rate({1e-3: {"0": 0.1}, 1e-2: {"0": 0.9}}).edge == "high"
    assert choose_rate({1e-3: {"0": 0.1}}).edge is None  # nothing was chosen


def test_seeds_given_choose_and_the_others_are_reported():
    choice = choose_rate({1e-3: {"0": 0.9, "1": 0.1}, 1e-2: {"0": 0.8, "1": 0.9}}, ["0"])
    assert (choice.learning_rate, choice.selected_on, choice.reported_on) == (1e-3, ("0",), ("1",))


def test_without_another_seed_the_same_is_reported_and_said():
    choice = choose_rate({1e-3: {"0": 0.9}}, ["0"])
    assert choice.reported_on == ("0",)
    assert "same" in choice.notes[0]


def test_more_seeds_of_the_winner_are_reported_but_do_not_choose():
    # tuned on seed 0, repeated with seed 1 at what won
    choice = choose_rate({1e-3: {"0": 0.7}, 1e-2: {"0": 0.8, "1": 0.1}})
    assert (choice.learning_rate, choice.selected_on) == (1e-2, ("0",))
    assert choice.reported_on == ("0", "1")
    assert choice.notes == ()


def test_a_rate_with_a_run_that_did_not_end_well_is_no_candidate():
    grid = {1e-3: {"0": 0.7, "1": 0.7}, 1e-2: {"0": 0.99}}
    choice = choose_rate(grid, unfinished={1e-2})
    assert choice.learning_rate == 1e-3
    assert choice.selected_on == ("0", "1")
    assert "0.01" in choice.notes[0]
    assert choice.edge == "low"  # 1e-2 was tried


def test_where_every_rate_has_such_a_run_all_count_and_it_is_said():
    choice = choose_rate({1e-3: {"0": 0.7}, 1e-2: {"0": 0.8}}, unfinished={1e-3, 1e-2})
    assert choice.learning_rate == 1e-2
    assert "did not end well" in choice.notes[0]


def test_a_seed_that_nobody_ran_is_refused():
    with pytest.raises(ValueError, match="seeds=7: no run has one of them; there are 0,1"):
        choose_rate(GRID, ["7"])
    with pytest.raises(ValueError, match="no run with a held-out accuracy"):
        choose_rate({})


@given(
    st.dictionaries(
        st.sampled_from([1e-5, 1e-4, 1e-3, 1e-2]),
        st.fixed_dictionaries({seed: st.integers(0, 256) for seed in ("0", "1", "2")}),
        min_size=1,
    )
)
def test_no_candidate_is_better_and_none_as_good_is_smaller(counts):
    grid = {rate: {s: n / 256 for s, n in by_seed.items()} for rate, by_seed in counts.items()}
    choice = choose_rate(grid)
    sums = {rate: sum(by_seed.values()) for rate, by_seed in counts.items()}
    assert sums[choice.learning_rate] == max(sums.values())
    assert all(
        sums[rate] < sums[choice.learning_rate] for rate in sums if rate < choice.learning_rate
    )
