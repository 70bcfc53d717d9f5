"""Finds leading singular triplets by a block Krylov method: Golub-Kahan-Lanczos, thick restarts.

Legend: O out, I in, B block, M basis, K kept triplets.

Each step multiplies by W and by its transpose once, with a whole block of vectors, and makes the
new block orthogonal to the entire basis (full reorthogonalisation: matrix products, no drift). The
invariants are W V = U T and Wt U = V Tt + (next block) C; the singular triplets of the small T are
the Ritz triplets, and the last rows of its left vectors give their residuals without touching W.
A full basis is compressed to its K best Ritz vectors, which loses nothing that matters.
Sources: Golub, Luk, Overton 1981 (block form); Baglama, Reichel 2005 (thick restart).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import torch

from tinylora_rl.adapter.projection import seeded_generator

BLOCK = 16  # wide enough to carry clusters, narrow enough that W is read at memory speed
STEPS_PER_RESTART = 12
MAX_STEPS = 600
CHECK_ALWAYS_BELOW = 96  # columns of the basis


@dataclasses.dataclass(frozen=True, kw_only=True)
class Ritz:
    """Approximate triplets, descending.

    Attributes:
        U_OK, S_K, V_IK: the triplets; U and V in the working dtype, S float64 on the CPU.
        residual_K: |Wt u - s v| in exact arithmetic (|W v - s u| is 0); float64 on the CPU.
        num_steps: products with W and with its transpose so far.
        is_converged: the last answer of the caller's test.
    """

    U_OK: torch.Tensor
    S_K: torch.Tensor
    V_IK: torch.Tensor
    residual_K: torch.Tensor
    num_steps: int
    is_converged: bool


def max_basis(num_kept: int) -> int:
    """Returns the number of columns of the largest basis that restarts with `num_kept` triplets."""
    return num_kept + STEPS_PER_RESTART * BLOCK


def leading_triplets(
    W_OI: torch.Tensor,
    start_IB: torch.Tensor,
    num_kept: int,
    is_converged: Callable[[torch.Tensor, torch.Tensor], bool],
) -> Ritz:
    """Finds the leading triplets, as good as `is_converged(S_K, residual_K)` demands.

    K is `num_kept`, or up to a block less where that converged before the basis had grown to it.

    Args:
        W_OI: fp32 or fp64; its smaller side must exceed `max_basis(num_kept) + BLOCK`.
        start_IB: any vectors of W's dtype and device that are not orthogonal to those wanted.
    """
    num_out, num_in = W_OI.shape
    size = max_basis(num_kept)
    # column-major: leading columns are contiguous
    U_OM = W_OI.new_empty((size, num_out)).T
    V_IM = W_OI.new_empty((size, num_in)).T
    T_MM = torch.zeros((size, size), dtype=torch.float64)
    next_IB = torch.linalg.qr(start_IB).Q
    width = start_IB.shape[1]
    used = step = 0
    while True:
        old, new = slice(0, used), slice(used, used + width)
        V_IM[:, new] = next_IB
        U_OM[:, new], T_MM[old, new], T_MM[new, new] = _orthogonalised(W_OI @ next_IB, U_OM[:, old])
        used += width
        step += 1
        next_IB, _, coupling_BB = _orthogonalised(W_OI.T @ U_OM[:, new], V_IM[:, :used])
        is_full = used + width > size
        is_skipped = used < num_kept - BLOCK or (step % 2 and used > CHECK_ALWAYS_BELOW)
        if is_skipped and not is_full:
            continue  # too few triplets to judge; or, a check costs the decomposition of T
        left_MM, S_M, right_MM = torch.linalg.svd(T_MM[:used, :used])
        kept = min(num_kept, used)
        S_K = S_M[:kept]
        residual_K = (coupling_BB @ left_MM[used - width :, :kept]).norm(dim=0)
        done = is_converged(S_K, residual_K)
        if done or is_full:
            left_MK = left_MM[:, :kept].to(W_OI)
            right_MK = right_MM[:kept].T.to(W_OI)
            U_OK, V_IK = U_OM[:, :used] @ left_MK, V_IM[:, :used] @ right_MK
            if done or step >= MAX_STEPS:
                return Ritz(
                    U_OK=U_OK,
                    S_K=S_K,
                    V_IK=V_IK,
                    residual_K=residual_K,
                    num_steps=step,
                    is_converged=done,
                )
            U_OM[:, :kept], V_IM[:, :kept] = U_OK, V_IK
            T_MM.zero_()
            T_MM[:kept, :kept] = S_K.diag()
            used = kept


def _orthogonalised(
    Z_NB: torch.Tensor, basis_NM: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Splits Z = basis C + Q R, with Q (N, B) orthonormal and orthogonal to the basis.

    C (M, B) and R (B, B) are float64 on the CPU. Where Z adds fewer than B directions to the basis
    (a rank-deficient W), Q is filled up with random ones.
    """
    Q_NB, _ = torch.linalg.qr(Z_NB - basis_NM @ (basis_NM.T @ Z_NB))
    for attempt in range(4):
        Q_NB, R_BB = torch.linalg.qr(Q_NB - basis_NM @ (basis_NM.T @ Q_NB))
        kept_B = R_BB.diagonal().abs()
        if float(kept_B.min()) > 0.5:  # nothing cancelled: orthogonal to rounding
            break
        lost_B = kept_B < 0.1
        generator = seeded_generator("krylov", attempt, *Z_NB.shape)
        random_NB = torch.randn(
            Z_NB.shape, generator=generator, dtype=torch.float32, device="cpu"
        ).to(Z_NB)
        Q_NB = torch.where(lost_B, random_NB / Z_NB.shape[0] ** 0.5, Q_NB)
    return Q_NB, (basis_NM.T @ Z_NB).double().cpu(), (Q_NB.T @ Z_NB).double().cpu()
