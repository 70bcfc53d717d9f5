"""The truncated SVD against float64 LAPACK."""

import pytest
import torch

from tinylora_rl.adapter.svd import DENSE_BELOW, truncated_svd


def spiked(num_out: int, num_in: int, spikes: list[float], seed: int = 0) -> torch.Tensor:
    """A matrix whose largest singular values are `spikes`, over noise of norm about 1."""
    generator = torch.Generator().manual_seed(seed)
    left, _ = torch.linalg.qr(
        torch.randn(num_out, len(spikes), generator=generator, dtype=torch.float64)
    )
    right, _ = torch.linalg.qr(
        torch.randn(num_in, len(spikes), generator=generator, dtype=torch.float64)
    )
    noise = torch.randn(num_out, num_in, generator=generator, dtype=torch.float64)
    noise /= num_out**0.5 + num_in**0.5
    return left @ torch.diag(torch.tensor(spikes, dtype=torch.float64)) @ right.T + noise


@pytest.mark.parametrize(
    "shape", [(DENSE_BELOW, DENSE_BELOW), (400, 300), (300, 700), (1000, 260)], ids=str
)
def test_agrees_with_float64_lapack(shape):
    weight = spiked(*shape, spikes=[9.0, 5.0, 3.0])
    U, S, Vt = truncated_svd(weight.float(), 2)
    true_U, true_S, true_Vt = torch.linalg.svd(weight, full_matrices=False)
    torch.testing.assert_close(S.double(), true_S[:2], rtol=1e-5, atol=0)
    # sine of the largest angle between the subspaces; fp32 resolves about 1e-6 here
    for ours, true in ((U.double(), true_U[:, :2]), (Vt.T.double(), true_Vt[:2].T)):
        assert torch.linalg.norm(ours - true @ (true.T @ ours), ord=2) < 1e-4
    torch.testing.assert_close(U.T @ U, torch.eye(2), rtol=0, atol=1e-5)
    for factor in (U, S, Vt):
        assert factor.is_contiguous()
        assert factor.dtype == torch.float32


def test_converges_without_a_spectral_gap():
    weight = torch.randn(400, 380, generator=torch.Generator().manual_seed(3))
    _, S, _ = truncated_svd(weight, 2)
    true_S = torch.linalg.svdvals(weight.double())
    torch.testing.assert_close(S.double(), true_S[:2], rtol=1e-5, atol=0)


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


def test_bfloat16_weights_are_decomposed_in_fp32():
    weight = spiked(300, 300, spikes=[9.0, 5.0]).to(torch.bfloat16)
    _, S, _ = truncated_svd(weight, 2)
    torch.testing.assert_close(
        S.double(), torch.linalg.svdvals(weight.double())[:2], rtol=1e-5, atol=0
    )


def test_refuses_a_rank_that_is_not_there_and_values_that_are_not_finite():
    with pytest.raises(ValueError, match="r=5: larger than the rank of a 4 x 9"):
        truncated_svd(torch.randn(4, 9), 5)
    with pytest.raises(ValueError, match="not finite"):
        truncated_svd(torch.full((4, 4), float("nan")), 2)
