"""The truncated SVD against float64 LAPACK."""

import dataclasses

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tinylora_rl.adapter import svd as svd_module
from tinylora_rl.adapter.svd import DENSE_BELOW, TIE_TOLERANCE, decompose, truncated_svd


def spiked(num_out: int, num_in: int, spikes: list[float], seed: int = 0) -> torch.Tensor:
    """A matrix whose largest singular values are near `spikes`, over noise of norm about 1."""
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(num_out, num_in, generator=generator, dtype=torch.float64)
    noise /= num_out**0.5 + num_in**0.5
    return with_values(num_out, num_in, torch.tensor(spikes), seed) + noise


def with_values(num_out: int, num_in: int, values, seed: int = 0) -> torch.Tensor:
    """float64, of exactly these singular values and random singular vectors."""
    generator = torch.Generator().manual_seed(seed)
    values = torch.as_tensor(values, dtype=torch.float64)
    left, right = (
        torch.linalg.qr(torch.randn(n, len(values), generator=generator, dtype=torch.float64)).Q
        for n in (num_out, num_in)
    )
    return left @ values.diag() @ right.T


def gaussian(num_out: int, num_in: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(num_out, num_in, generator=torch.Generator().manual_seed(seed))


def check(weight: torch.Tensor, r: int, *, per_vector: float = 1e-3) -> None:
    """Values within 1e-5, each vector within `per_vector` radians, of float64 LAPACK."""
    found = decompose(weight, r)
    true_U, true_S, true_Vt = torch.linalg.svd(weight.double(), full_matrices=False)
    torch.testing.assert_close(found.S_R.double(), true_S[:r], rtol=1e-5, atol=0)
    for ours, true in (
        (found.U_OR.double(), true_U[:, :r]),
        (found.Vt_RI.T.double(), true_Vt[:r].T),
    ):
        # sines, accurate where an arccosine of a cosine near 1 is not
        along = (true * ours).sum(dim=0)
        assert (ours - true * along).norm(dim=0).max() < per_vector
        assert torch.linalg.norm(ours - true @ (true.T @ ours), ord=2) < 1e-3
        torch.testing.assert_close(
            ours.T @ ours, torch.eye(r, dtype=torch.float64), rtol=0, atol=1e-6
        )
    # the same sign on both sides: U S Vt is part of W, not its negative
    middle = torch.einsum("or,oi,ri->r", found.U_OR.double(), weight.double(), found.Vt_RI.double())
    torch.testing.assert_close(middle, true_S[:r], rtol=1e-5, atol=0)
    for factor in (found.U_OR, found.S_R, found.Vt_RI):
        assert factor.is_contiguous()
        assert factor.dtype == torch.float32
    assert found.norm == pytest.approx(float(weight.double().norm()), rel=1e-5)
    assert found.angle <= svd_module.ANGLE_TOLERANCE


@pytest.mark.parametrize(
    "shape", [(DENSE_BELOW, DENSE_BELOW), (400, 300), (300, 700), (1000, 300), (4000, 310)], ids=str
)
@pytest.mark.parametrize("r", [1, 2, 4])
def test_agrees_with_float64_lapack_with_a_gap(shape, r):
    check(spiked(*shape, spikes=[9.0, 5.0, 3.0, 2.5]).float(), r)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("shape", [(512, 512), (700, 400), (300, 2000)], ids=str)
def test_agrees_with_float64_lapack_without_a_gap(shape, seed):
    check(gaussian(*shape, seed=seed), 2)


@pytest.mark.parametrize("r", [8, 32])
def test_a_larger_rank_has_small_gaps_all_along(r):
    check(gaussian(700, 600), r)


@pytest.mark.parametrize("gap", [1e-3, 1e-5, 1e-6, 1e-7])
@pytest.mark.parametrize("position", [1, 2], ids=["inside", "across the cut"])
def test_near_ties_are_resolved(gap, position):
    values = torch.linspace(0.5, 0.01, 300, dtype=torch.float64)
    values[:4] = torch.tensor([4.0, 3.0, 2.0, 1.0])
    values[position] = values[position - 1] * (1 - gap)
    # rounding the matrix to fp32 moves its values by some 1e-8, far less than the smallest gap;
    # LAPACK itself resolves the vectors to about 1e-15 / gap
    check(with_values(500, 400, values).float(), 2)


@pytest.mark.parametrize("size", [100, 400], ids=["dense", "iterated"])
def test_equal_values_inside_leave_nothing_to_chance(size):
    weight = torch.diag(torch.linspace(0.5, 0.1, size))
    weight[0, 0] = weight[1, 1] = 2.0
    found = decompose(weight, 2)
    torch.testing.assert_close(found.S_R, torch.tensor([2.0, 2.0]))
    product = found.U_OR * found.S_R @ found.Vt_RI
    torch.testing.assert_close(product[:2, :2], 2 * torch.eye(2), rtol=0, atol=1e-5)
    # another basis of the same subspace ends in the same factors
    U, V = found.U_OR.double(), found.Vt_RI.T.double()
    turn = torch.tensor([[0.6, -0.8], [0.8, 0.6]], dtype=torch.float64)
    turned = svd_module._canonical(U @ turn, found.S_R.double(), V @ turn)
    torch.testing.assert_close(turned[0].float(), found.U_OR, rtol=0, atol=1e-6)
    torch.testing.assert_close(turned[1].float(), found.Vt_RI, rtol=0, atol=1e-6)


@pytest.mark.parametrize("size", [100, 400], ids=["dense", "iterated"])
def test_equal_values_across_the_cut_are_refused(size):
    weight = torch.diag(torch.linspace(0.5, 0.1, size))
    weight[0, 0], weight[1, 1], weight[2, 2] = 3.0, 2.0, 2.0
    with pytest.raises(ValueError, match="r=2: singular values 2 and 3 are equal"):
        truncated_svd(weight, 2)
    assert truncated_svd(weight, 3)[1].tolist() == pytest.approx([3.0, 2.0, 2.0])
    with pytest.raises(ValueError, match="r=2: singular values 2 and 3 are equal"):
        truncated_svd(torch.eye(size), 2)


@pytest.mark.parametrize("shape", [(100, 60), (500, 400), (400, 3000)], ids=str)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
def test_rank_deficient_weights_serve_up_to_their_rank(shape, dtype):
    weight = with_values(*shape, [5.0, 3.0, 2.0]).to(dtype)
    check(weight.float(), 2)
    check(weight.float(), 3)
    with pytest.raises(ValueError, match=r"r=4: the weight has numerical rank 3 .*use r <= 3"):
        truncated_svd(weight, 4)


def test_a_weight_of_few_rows_that_are_not_zero():
    weight = torch.zeros(600, 500)
    weight[3, 7], weight[5, :], weight[9, 2] = 4.0, 0.1, -3.0
    check(weight, 2)


@pytest.mark.parametrize("size", [20, 500])
def test_zero_weights_and_values_that_are_not_finite_are_refused(size):
    with pytest.raises(ValueError, match="the base weight is zero"):
        truncated_svd(torch.zeros(size, size), 2)
    for bad in (float("nan"), float("inf"), -float("inf")):
        weight = gaussian(size, size)
        weight[size // 2, 3] = bad
        with pytest.raises(ValueError, match="not finite"):
            truncated_svd(weight, 2)


def test_a_rank_beyond_the_shape_is_refused():
    with pytest.raises(ValueError, match="r=5: larger than the rank of a 4 x 9"):
        truncated_svd(torch.randn(4, 9), 5)
    check(gaussian(4, 9), 4)


@pytest.mark.parametrize("scale", [1e-30, 1e-12, 1e15, 1e30])
@pytest.mark.parametrize("size", [40, 400])
def test_the_scale_of_the_weight_does_not_matter(scale, size):
    weight = spiked(size, size, [9.0, 5.0]).float()
    U, S, Vt = truncated_svd(weight * scale, 2)
    plain_U, plain_S, plain_Vt = truncated_svd(weight, 2)
    torch.testing.assert_close(S / scale, plain_S, rtol=1e-5, atol=0)
    torch.testing.assert_close(U, plain_U, rtol=0, atol=1e-4)
    torch.testing.assert_close(Vt, plain_Vt, rtol=0, atol=1e-4)


@pytest.mark.parametrize("size", [64, 400])
def test_signs_are_canonical_whatever_the_library_returned(size):
    weight = spiked(size, size, spikes=[9.0, 5.0]).float()
    U, _, Vt = truncated_svd(weight, 2)
    largest = U.gather(0, U.abs().argmax(dim=0)[None])
    assert (largest > 0).all()
    # -W has the singular vectors of W, with the sign moved to the other side
    negated_U, _, negated_Vt = truncated_svd(-weight, 2)
    torch.testing.assert_close(negated_U, U, rtol=0, atol=1e-4)
    torch.testing.assert_close(negated_Vt, -Vt, rtol=0, atol=1e-4)


@pytest.mark.parametrize("size", [64, 400])
def test_bfloat16_weights_are_decomposed_as_their_fp32_values(size):
    weight = gaussian(size, size).to(torch.bfloat16)
    check(weight, 2)
    for ours, upcast in zip(
        truncated_svd(weight, 2), truncated_svd(weight.float(), 2), strict=True
    ):
        torch.testing.assert_close(ours, upcast, rtol=0, atol=1e-5)


def test_the_same_call_gives_the_same_bits():
    weight = gaussian(500, 400)
    torch.manual_seed(1)
    first = truncated_svd(weight, 2)
    torch.manual_seed(2)
    for again, before in zip(truncated_svd(weight, 2), first, strict=True):
        assert torch.equal(again, before)


def test_a_method_that_does_not_converge_says_how_far_it_came(monkeypatch):
    monkeypatch.setattr("tinylora_rl.adapter.krylov.MAX_STEPS", 14)
    monkeypatch.setattr(svd_module, "ANGLE_TOLERANCE", 1e-9)
    with pytest.raises(ValueError, match=r"did not converge in \d+ steps \(residual .*, angle "):
        truncated_svd(gaussian(800, 800), 2)


@given(
    seed=st.integers(0, 2**20),
    num_out=st.integers(3, 40),
    num_in=st.integers(3, 40),
    r=st.integers(1, 3),
)
@settings(max_examples=50, deadline=None)
def test_any_small_matrix(seed, num_out, num_in, r):
    weight = gaussian(num_out, num_in, seed)
    values = torch.linalg.svdvals(weight.double())
    gaps = (values[:r] - torch.cat([values, values.new_zeros(1)])[1 : r + 1]) / values[0]
    if float(gaps.min()) < 1e-6 or float(values[r - 1] / values[0]) < 1e-3:
        return  # LAPACK in float64 is the reference; closer than this it is none
    check(weight, r)


def test_the_angle_estimate_bounds_the_true_angle():
    weight = gaussian(600, 500, seed=3)
    true_U, _, _ = torch.linalg.svd(weight.double(), full_matrices=False)
    for r in (1, 2, 5):
        found = decompose(weight, r)
        cosine = (found.U_OR.double() * true_U[:, :r]).sum(dim=0)
        sine = (found.U_OR.double() - true_U[:, :r] * cosine).norm(dim=0).max()
        assert float(sine) <= found.angle + 1e-6  # fp32 rounding of U
        assert {field.name for field in dataclasses.fields(found)} >= {"residual", "angle"}
    assert TIE_TOLERANCE < 1e-7
