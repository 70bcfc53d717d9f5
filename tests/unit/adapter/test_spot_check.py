"""A few rows of a weight show the update that it contains, and no other."""

import pytest
import torch

from tests.unit.adapter.models import small_model
from tinylora_rl.adapter import TinyLoraConfig, inject
from tinylora_rl.adapter.spot_check import (
    HALF_ULP,
    NUM_ROWS,
    Share,
    SpotCheck,
    choose_rows,
    measure,
)


@pytest.fixture(scope="module")
def adapter():
    adapter = inject(small_model(dtype=torch.bfloat16), TinyLoraConfig(u=4, n_tie=1))
    adapter.v.data.normal_(std=0.05, generator=torch.manual_seed(2))
    return adapter


def test_rows_are_spread_and_where_the_update_is_largest():
    left_OR = torch.zeros(80, 2)
    largest = [3, 12, 29, 39, 40, 51, 69, 70]
    left_OR[largest] = 1.0
    assert choose_rows(left_OR) == largest
    assert choose_rows(torch.ones(3, 2)) == [0, 1, 2]
    assert len(choose_rows(torch.randn(1000, 2))) == NUM_ROWS


@pytest.mark.parametrize("columns", [slice(None), slice(8, 20)])
def test_the_expectation_is_the_float64_product(adapter, columns):
    for name, factors in adapter.bank.items():
        weight = adapter.base.tensor(f"{name}.weight")
        rows = choose_rows(factors.left_OR)
        check = SpotCheck.of(rows, weight[rows], factors)
        v_U = adapter.v.data[adapter.groups[name]]
        expected = check.expect(v_U, rows[1:], columns, dtype=torch.float32, rounded="stochastic")
        R_RR = torch.tensordot(v_U.double(), factors.P_URR.double(), dims=1)
        dW = factors.left_OR.double() @ R_RR @ factors.right_RI.double()
        exact = (weight.double() + dW)[rows[1:]][:, columns]
        read = exact @ factors.right_RI[:, columns].double().T
        assert torch.allclose(expected.base + expected.moved, read, atol=1e-12, rtol=1e-9)
        assert expected.excess(read) < 1e-3
        assert torch.equal(measure(exact, factors.right_RI[:, columns]), read)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_rounding_stays_within_its_noise_and_the_noise_is_not_wide(adapter, dtype):
    noise = []
    for name, factors in adapter.bank.items():
        weight = adapter.base.tensor(f"{name}.weight").float() * 1.0003  # off any coarse grid
        rows = list(range(len(weight)))
        check = SpotCheck.of(rows, weight, factors)
        v_U = adapter.v.data[adapter.groups[name]]
        expected = check.expect(v_U, rows, slice(None), dtype=dtype, rounded="nearest")
        R_RR = torch.tensordot(v_U, factors.P_URR, dims=1)
        held = (weight + factors.left_OR @ R_RR @ factors.right_RI).to(dtype)
        read = measure(held, factors.right_RI)
        assert expected.excess(read) < 1
        noise.append(expected.noise.flatten())
    assert float(torch.cat(noise).mean()) < HALF_ULP[dtype]


@pytest.mark.parametrize("size", [1e-4, 1e-3, 1e-2])
def test_the_dead_zone_is_expected_and_what_is_left_of_the_update_still_seen(adapter, size):
    """bf16 weights on bf16's grid: most of a small update rounds away, and the check expects it."""
    share, stale = Share(), Share()
    for name, factors in adapter.bank.items():
        rows = choose_rows(factors.left_OR)
        weight = adapter.base.tensor(f"{name}.weight")[rows]
        check = SpotCheck.of(rows, weight, factors)
        v_U = torch.full((4,), size)
        expected = check.expect(v_U, rows, slice(None), dtype=torch.bfloat16, rounded="nearest")
        R_RR = torch.tensordot(v_U, factors.P_URR, dims=1)
        held = (weight + factors.left_OR[rows] @ R_RR @ factors.right_RI).to(torch.bfloat16)
        read = measure(held, factors.right_RI)
        assert expected.excess(read) < 1
        share.add(expected, read)
        stale.add(expected, measure(weight, factors.right_RI))
    assert not share.is_off
    if size >= 1e-2:  # of weights this small (32 columns); of larger ones less is enough
        assert stale.is_off


def test_the_share_tells_how_far_and_how_surely(adapter):
    for factor in (0.0, 1.0, 2.0):
        share = Share()
        for name, factors in adapter.bank.items():
            rows = choose_rows(factors.left_OR)
            check = SpotCheck.of(rows, adapter.base.tensor(f"{name}.weight")[rows], factors)
            v_U = adapter.v.data[adapter.groups[name]]
            expected = check.expect(v_U, rows, slice(None), dtype=torch.bfloat16, rounded="nearest")
            share.add(expected, expected.base + factor * expected.moved)
        assert share.value == pytest.approx(factor, abs=1e-6)
        assert share.is_off == (factor != 1.0)
        assert 0 < share.deviation < 0.1
    assert not Share().is_off  # no update: nothing to be off from
