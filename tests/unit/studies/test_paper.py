"""The paper's numbers as data: what follows from them follows."""

import pytest

from tinylora_rl.studies.paper import (
    BENCHMARKS,
    INSTRUCT_3B,
    INSTRUCT_7B,
    NUM_MODULES,
    TABLE_2,
    TABLE_2_SIZES,
    all_points,
    matching_points,
)


@pytest.mark.parametrize("num_modules", TABLE_2_SIZES)
def test_table_2s_counts_follow_from_u_and_n_tie(num_modules):
    for count, (u, n_tie) in TABLE_2_SIZES[num_modules].items():
        assert count == u * -(-num_modules // n_tie)


def test_every_sized_row_of_table_2_has_its_u_and_n_tie():
    for model, rows in TABLE_2.items():
        assert {count for count in rows if count} <= set(TABLE_2_SIZES[NUM_MODULES[model]])


@pytest.mark.parametrize("model", TABLE_2)
def test_the_means_of_table_2_are_means(model):
    """Guards against slips of the pen: a wrong digit moves a mean by more than rounding does."""
    for row in TABLE_2[model].values():
        assert sum(row[:6]) / 6 == pytest.approx(row[6], abs=0.0501)


def test_points_are_shares_with_a_mark():
    points = all_points()
    assert all(0 < point.accuracy < 1 for point in points)
    assert {point.mark for point in points} == {"stated", "read off", "others"}
    assert {point.benchmark for point in points} == set(BENCHMARKS)


def test_ours_are_matched_by_model_benchmark_algorithm_and_size():
    found = matching_points(
        adapter={},
        model=INSTRUCT_7B,
        benchmark="gsm8k",
        algorithm="SFT",
        kind="tinylora",
        num_parameters=12_544,
    )
    assert [(point.source, point.accuracy) for point in found] == [("figure 2", 0.882)]
    found = matching_points(
        adapter={},
        model=INSTRUCT_3B,
        benchmark="gsm8k",
        algorithm="GRPO",
        kind="full",
        num_parameters=3_000_000,
    )
    assert [(point.source, point.mark) for point in found] == [("table 2", "stated")]
    assert not matching_points(
        adapter={},
        model="base_model",
        benchmark="arithmetic",
        algorithm="GRPO",
        kind="full",
        num_parameters=1,
    )


def test_another_tie_mode_or_dtype_is_another_point():
    def found(**adapter):
        place = {
            "benchmark": "gsm8k",
            "algorithm": "GRPO",
            "kind": "tinylora",
            "num_parameters": 63,
        }
        points = matching_points(model=INSTRUCT_3B, adapter=adapter, **place)
        return {point.accuracy for point in points if point.source == "figure 4"}

    assert found() == {0.830}
    assert found(tie_mode="structured") == {0.798}
    assert found(v_dtype="bfloat16") == {0.807}
    assert found(tie_mode="structured", v_dtype="bfloat16") == set()
