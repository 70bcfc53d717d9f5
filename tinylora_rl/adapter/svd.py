"""Top-r singular triplets of a weight, with signs fixed by a rule.

Legend: O out, I in, R rank, K size of the search subspace.

Singular vectors are defined up to a joint sign and differ between libraries, devices and a matrix
and its transpose; with r >= 2 a flipped sign changes the update U S R Vt. So the signs are
canonical: in every column of U the entry of largest magnitude is positive.
"""

from __future__ import annotations

import torch

from tinylora_rl.adapter.projection import seeded_generator

OVERSAMPLING = 16  # without it, cosines of 0.2 to 0.9 to the true vectors were seen on 7B weights
MAX_ITERATIONS = 400
TOLERANCE = (
    1e-5  # residual |W v - s u| relative to the largest singular value; fp32 reaches about 1e-6
)
DENSE_BELOW = 256  # the smaller side up to which a full SVD is the cheaper way


def truncated_svd(W_OI: torch.Tensor, r: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """U (O, r), S (r,), Vt (r, I) of the r largest singular values, descending; fp32, contiguous.

    Small matrices go through LAPACK; large ones through subspace iteration with oversampling, from
    a fixed start, until the residual of each of the r triplets is below `TOLERANCE`.

    Args:
        W_OI: a matrix of any floating dtype and device; computed on its device in fp32.

    Raises:
        ValueError: r exceeds the smaller side, W has a value that is not finite, or the iteration
            did not converge (the message states the residual).
    """
    num_out, num_in = W_OI.shape
    if r > min(num_out, num_in):
        raise ValueError(
            f"r={r}: larger than the rank of a {num_out} x {num_in} weight; use a smaller r"
        )
    W_OI = W_OI.detach().to(torch.float32)
    if not torch.isfinite(W_OI).all():
        raise ValueError("the base weight holds a value that is not finite; check the checkpoint")
    if min(num_out, num_in) <= DENSE_BELOW:
        U_OK, S_K, Vt_KI = torch.linalg.svd(W_OI, full_matrices=False)
        return _canonical(U_OK[:, :r], S_K[:r], Vt_KI[:r])
    return _subspace_iteration(W_OI, r)


def _subspace_iteration(
    W_OI: torch.Tensor, r: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    num_out, num_in = W_OI.shape
    size = min(r + OVERSAMPLING, num_out, num_in)
    start_IK = torch.randn(
        (num_in, size), generator=seeded_generator("svd", num_out, num_in), dtype=torch.float32
    )
    Y_OK = W_OI @ start_IK.to(W_OI.device)
    residual = float("inf")
    for _ in range(MAX_ITERATIONS):
        Q_OK, _ = torch.linalg.qr(Y_OK)
        small_U_KK, S_K, Vt_KI = torch.linalg.svd(Q_OK.T @ W_OI, full_matrices=False)
        U_OK = Q_OK @ small_U_KK
        Y_OK = W_OI @ Vt_KI.T  # both the residual's W v and the next iteration's start
        error_OR = Y_OK[:, :r] - U_OK[:, :r] * S_K[:r]
        residual = float(
            error_OR.norm(dim=0).max() / S_K[0].clamp_min(torch.finfo(torch.float32).tiny)
        )
        if residual <= TOLERANCE:
            return _canonical(U_OK[:, :r], S_K[:r], Vt_KI[:r])
    raise ValueError(
        f"r={r}: the singular vectors of a {num_out} x {num_in} weight did not converge in "
        f"{MAX_ITERATIONS} "
        f"iterations (residual {residual:.1e}, wanted {TOLERANCE:.0e}); try another r"
    )


def _canonical(
    U_OR: torch.Tensor, S_R: torch.Tensor, Vt_RI: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    pivot_R = U_OR.abs().argmax(dim=0)
    sign_R = torch.sign(U_OR.gather(0, pivot_R[None, :])[0])
    sign_R = torch.where(sign_R == 0, torch.ones_like(sign_R), sign_R)
    # LAPACK's U is column-major; whoever sends raw bytes (a broadcast) needs row-major.
    return (U_OR * sign_R).contiguous(), S_R.contiguous(), (Vt_RI * sign_R[:, None]).contiguous()
