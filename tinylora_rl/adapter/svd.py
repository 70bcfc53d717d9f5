"""Computes the top-r singular triplets of a weight to a stated angle, signs fixed by a rule.

Legend: O out, I in, R rank, K kept triplets (the r wanted and some beyond).

Singular vectors are only as well defined as the gaps between singular values, so the measure of
convergence is the angle to the true vectors, estimated from residuals and gaps, and not a residual
alone: without a spectral gap (neighbours at 1e-3 of each other) a residual of 1e-5 means nothing.
A block Krylov method in fp32 finds the subspace, and where the gaps are wide that is all. Otherwise
one pass over W in fp64 (Rayleigh-Ritz) separates close neighbours and measures the true residuals.
Where that is not enough, which takes gaps far below what fp32 resolves, the Krylov method continues
in fp64.

torch.svd_lowrank, a subspace iteration, needs many more products where gaps are small: on a
Gaussian 3584 x 3584 it is 1e-2 radians off after 64 iterations (2.2 s); this method takes 30 steps
(0.8 s) and estimates 9e-5.

Singular vectors are defined up to a joint sign and differ between libraries, devices and a matrix
and its transpose; with r >= 2 a flipped sign changes the update U S R Vt. So the signs are
canonical: in every column of U the entry of largest magnitude is positive.
"""

from __future__ import annotations

import dataclasses
import math

import torch

from tinylora_rl.adapter.krylov import BLOCK, Ritz, leading_triplets, max_basis
from tinylora_rl.adapter.projection import seeded_generator

ALGORITHM = "block-krylov-2"
"""Changes whenever the factors of some weight may change by more than `ANGLE_TOLERANCE`."""

ANGLE_TOLERANCE = 2.5e-4  # radians between each singular vector and the true one
VALUE_TOLERANCE = 2e-6  # relative, of each singular value
RANK_TOLERANCE = 1e-6  # of the largest singular value: below, a value counts as zero
TIE_TOLERANCE = 1e-9  # of the largest singular value: closer ones count as equal
FP32_RESIDUAL = 2e-6  # relative; about what rounding in fp32 products leaves on long sums
DENSE_BELOW = 256  # the smaller side up to which a full SVD is the cheaper way
EXTRA = 2 * BLOCK  # triplets beyond r that are carried along
CHUNK_ELEMENTS = 1 << 22  # of W in fp64 at a time: 32 MiB


@dataclasses.dataclass(frozen=True, kw_only=True)
class TruncatedSvd:
    """The r leading triplets; fp32, contiguous, on the weight's device.

    Attributes:
        U_OR, S_R, Vt_RI: the triplets, S descending.
        norm: Frobenius norm of the weight.
        residual: largest |Wt u - s v| relative to the largest singular value: measured in float64,
            or where fp32 was enough, the bound that includes its rounding.
        angle: estimate of the largest angle between a vector here and the true one, radians.
        num_steps: products with W and with its transpose, 0 where LAPACK did it.
        is_refined: true where it took the Krylov method in fp64.
    """

    U_OR: torch.Tensor
    S_R: torch.Tensor
    Vt_RI: torch.Tensor
    norm: float
    residual: float
    angle: float
    num_steps: int
    is_refined: bool

    def to(self, device: torch.device | str) -> TruncatedSvd:
        return dataclasses.replace(
            self,
            U_OR=self.U_OR.to(device),
            S_R=self.S_R.to(device),
            Vt_RI=self.Vt_RI.to(device),
        )

    def measures(self) -> dict[str, float | int | bool]:
        """Returns the fields that are plain numbers."""
        return {
            field.name: getattr(self, field.name)
            for field in dataclasses.fields(self)
            if not isinstance(getattr(self, field.name), torch.Tensor)
        }


def truncated_svd(W_OI: torch.Tensor, r: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Returns U (O, r), S (r,), Vt (r, I) of the r largest singular values; see `decompose`."""
    svd = decompose(W_OI, r)
    return svd.U_OR, svd.S_R, svd.Vt_RI


def decompose(W_OI: torch.Tensor, r: int) -> TruncatedSvd:
    """Computes the r largest singular triplets, vectors within `ANGLE_TOLERANCE` of the true ones.

    Equal singular values among the r leave their vectors undefined up to a rotation; a rule fixes
    it, so that the result depends on the subspace alone.

    Args:
        W_OI: a matrix of any floating dtype and device; computed on its device from its fp32 value.

    Raises:
        ValueError: W has a value that is not finite; r exceeds the smaller side or the numerical
            rank; singular values r and r + 1 are equal, so that no top r exists; or the iteration
            did not converge (the message states residual and angle).
    """
    if r > min(W_OI.shape):
        raise ValueError(
            f"r={r}: larger than the rank of a {W_OI.shape[0]} x {W_OI.shape[1]} weight; use a "
            "smaller r"
        )
    W_OI, scale, norm = _well_scaled(W_OI.detach().to(torch.float32))
    if min(W_OI.shape) <= max(DENSE_BELOW, max_basis(r + EXTRA) + BLOCK):
        ritz, is_refined = _dense(W_OI), False
    else:
        ritz, is_refined = _iterate(W_OI, r)
    S_K = ritz.S_K
    if not float(S_K[r - 1]) > RANK_TOLERANCE * float(S_K[0]):
        rank = int(S_K.gt(RANK_TOLERANCE * S_K[0]).sum())
        raise ValueError(
            f"r={r}: the weight has numerical rank {rank} (singular value {r} is "
            f"{float(S_K[r - 1] / S_K[0].clamp_min(1e-300)):.0e} of the first), so its vectors are "
            f"arbitrary; use r <= {rank} or leave this module out of target_modules"
        )
    if r < len(S_K) and _is_tied(S_K, r):
        raise ValueError(
            f"r={r}: singular values {r} and {r + 1} are equal to {TIE_TOLERANCE:.0e}, so the "
            "leading subspace is not defined; use another r"
        )
    U_OR, Vt_RI = _canonical(ritz.U_OK[:, :r], S_K[:r], ritz.V_IK[:, :r])
    return TruncatedSvd(
        U_OR=U_OR.to(W_OI.device, torch.float32),
        S_R=(S_K[:r] * scale).to(W_OI.device, torch.float32),
        Vt_RI=Vt_RI.to(W_OI.device, torch.float32),
        norm=norm,
        residual=float(ritz.residual_K[:r].max() / S_K[0]),
        angle=float(_angles(S_K, ritz.residual_K, r).max()),
        num_steps=ritz.num_steps,
        is_refined=is_refined,
    )


def _norm(W_OI: torch.Tensor) -> float:
    # one fp32 sum over 10^7 squares is off by 1e-4; over rows first it is not
    return float(W_OI.norm(dim=1).double().norm())


def _well_scaled(W_OI: torch.Tensor) -> tuple[torch.Tensor, float, float]:
    """Returns (W / scale, scale, norm of W): squares then neither overflow nor vanish in fp32.

    scale is a power of two.
    """
    norm = _norm(W_OI)
    if 1e-12 < norm < 1e12:
        return W_OI, 1.0, norm
    largest = float(W_OI.abs().max())
    if not math.isfinite(largest):
        raise ValueError("the base weight holds a value that is not finite; check the checkpoint")
    if largest == 0:
        raise ValueError(
            "the base weight is zero, so it has no singular vectors; leave this module out of "
            "target_modules"
        )
    exponent = math.frexp(largest)[1]
    W_OI, scale = torch.ldexp(W_OI, torch.tensor(-exponent)), 2.0**exponent
    return W_OI, scale, _norm(W_OI) * scale


def _dense(W_OI: torch.Tensor) -> Ritz:
    U_OK, S_K, Vt_KI = torch.linalg.svd(W_OI.double().cpu(), full_matrices=False)
    return Ritz(
        U_OK=U_OK,
        S_K=S_K,
        V_IK=Vt_KI.T,
        residual_K=torch.full_like(S_K, float(S_K[0]) * 1e-14),
        num_steps=0,
        is_converged=True,
    )


def _iterate(W_OI: torch.Tensor, r: int) -> tuple[Ritz, bool]:
    num_kept = r + EXTRA

    def is_good(S_K: torch.Tensor, residual_K: torch.Tensor, margin: float = 1.0) -> bool:
        error_R = residual_K[:r].minimum(residual_K[:r] ** 2 / _distances(S_K, residual_K, r))
        return bool(
            (_angles(S_K, residual_K, r) <= margin * ANGLE_TOLERANCE).all()
            and (error_R <= margin * VALUE_TOLERANCE * S_K[:r]).all()
        )

    def is_short_of_rank(S_K: torch.Tensor, residual_K: torch.Tensor) -> bool:
        return bool(S_K[r - 1].maximum(residual_K[r - 1]) <= RANK_TOLERANCE * S_K[0])

    def is_good_for_fp32(S_K: torch.Tensor, residual_K: torch.Tensor) -> bool:
        at_floor = bool((residual_K[: r + 1] <= 0.5 * FP32_RESIDUAL * S_K[0]).all())
        return at_floor or is_good(S_K, residual_K, margin=0.5)

    def is_good_or_hopeless(S_K: torch.Tensor, residual_K: torch.Tensor) -> bool:
        # equal values at the cut, or a rank that is not there: the caller refuses both
        at_floor = bool((residual_K[: r + 1] <= 1e-12 * S_K[0]).all())
        is_refused = (at_floor and _is_tied(S_K, r)) or is_short_of_rank(S_K, residual_K)
        return is_refused or is_good(S_K, residual_K, margin=0.5)

    generator = seeded_generator("svd", *W_OI.shape)
    start_IB = torch.randn(
        (W_OI.shape[1], BLOCK), generator=generator, dtype=torch.float32, device="cpu"
    )
    ritz = leading_triplets(W_OI, start_IB.to(W_OI.device), num_kept, is_good_for_fp32)
    noisy_K = ritz.residual_K + FP32_RESIDUAL * ritz.S_K[0]
    # rounding in fp32 mixes neighbours inside the subspace to first order
    is_spread = bool(
        ((ritz.S_K[:r] - ritz.S_K[1 : r + 1]) * 0.25 * ANGLE_TOLERANCE >= noisy_K[:r]).all()
    )
    if is_spread and is_good(ritz.S_K, noisy_K, margin=0.25):
        return dataclasses.replace(ritz, residual_K=noisy_K), False  # a gap that fp32 resolves
    polished = _rayleigh_ritz(W_OI, _trimmed(ritz, r))
    if is_good(polished.S_K, polished.residual_K) or is_short_of_rank(
        polished.S_K, polished.residual_K
    ):
        return polished, False
    start_IB = polished.V_IK[:, : max(BLOCK, r + BLOCK // 2)]
    ritz = leading_triplets(W_OI.double(), start_IB, num_kept, is_good_or_hopeless)
    if not ritz.is_converged:
        raise ValueError(
            f"r={r}: the singular vectors of a {W_OI.shape[0]} x {W_OI.shape[1]} weight did not "
            f"converge in {ritz.num_steps} steps (residual "
            f"{float(ritz.residual_K[:r].max() / ritz.S_K[0]):.1e}, angle "
            f"{float(_angles(ritz.S_K, ritz.residual_K, r).max()):.1e}, wanted "
            f"{ANGLE_TOLERANCE:.1e}); try another r"
        )
    return _rayleigh_ritz(W_OI, ritz), True


def _trimmed(ritz: Ritz, r: int) -> Ritz:
    """Keeps the fewest leading triplets whose angles are as good as with all, or good enough."""
    wanted = max(0.5 * ANGLE_TOLERANCE, float(_angles(ritz.S_K, ritz.residual_K, r).max()))
    for kept in range(r + 2, len(ritz.S_K), 2):
        # the last one counts as the bound on all that are left out
        S_K, residual_K = ritz.S_K[:kept], ritz.residual_K[:kept]
        noise_K = residual_K + FP32_RESIDUAL * S_K[0]
        if float(_angles(S_K, noise_K, r).max()) <= wanted:
            return dataclasses.replace(
                ritz,
                U_OK=ritz.U_OK[:, :kept],
                S_K=S_K,
                V_IK=ritz.V_IK[:, :kept],
                residual_K=residual_K,
            )
    return ritz


def _rayleigh_ritz(W_OI: torch.Tensor, ritz: Ritz) -> Ritz:
    """Finds the best triplets in the span of V and their true residuals, in fp64, in one pass."""
    V_IK, _ = torch.linalg.qr(ritz.V_IK.double())
    Z_OK = V_IK.new_empty((W_OI.shape[0], V_IK.shape[1]))  # W V
    Y_IK = torch.zeros_like(V_IK)  # Wt W V
    rows = max(1, CHUNK_ELEMENTS // W_OI.shape[1])
    for first in range(0, W_OI.shape[0], rows):
        chunk_CI = W_OI[first : first + rows].double()
        Z_OK[first : first + rows] = chunk_CI @ V_IK
        Y_IK += chunk_CI.T @ Z_OK[first : first + rows]
    Q_OK, R_KK = torch.linalg.qr(Z_OK)
    left_KK, S_K, right_KK = torch.linalg.svd(R_KK.cpu())
    left_KK, right_KK = left_KK.to(V_IK), right_KK.T.to(V_IK)
    V_IK = V_IK @ right_KK
    s_K = S_K.to(V_IK)
    # Wt u = (Wt W v) / s
    error_IK = (Y_IK @ right_KK - V_IK * s_K**2) / s_K.clamp_min(RANK_TOLERANCE * float(S_K[0]))
    return dataclasses.replace(
        ritz, U_OK=Q_OK @ left_KK, S_K=S_K, V_IK=V_IK, residual_K=error_IK.norm(dim=0).cpu()
    )


def _distances(S_K: torch.Tensor, residual_K: torch.Tensor, r: int) -> torch.Tensor:
    """Returns (r,) distances from each of the r values to the values not carried along."""
    beyond = S_K[-1] + residual_K[-1] if len(S_K) > r else torch.zeros((), dtype=torch.float64)
    return (S_K[:r] - beyond).clamp_min(1e-300)


def _angles(S_K: torch.Tensor, residual_K: torch.Tensor, r: int) -> torch.Tensor:
    """Bounds the angles (r,) between Ritz vectors and the true ones, radians: the best of several.

    Split the Ritz triplets into the first m (r <= m < K) and the rest, whose values lie below
    mu = s_{m+1} + residual_{m+1}. To leading order, the part of the true vector k outside the first
    m is residual_k / (s_k - mu), and its part along vector j <= m is
    residual_k residual_j / ((s_k - mu) |s_k - s_j|): close neighbours inside the subspace cost
    only second order. Equal values (`TIE_TOLERANCE`) among the r do not count: a rule fixes them.
    """
    gap_RK = (S_K[:r, None] - S_K[None, :]).abs()
    position_R, position_K = torch.arange(r), torch.arange(len(S_K))
    is_harmless_RK = (position_R[:, None] == position_K) | (
        (gap_RK <= TIE_TOLERANCE * S_K[0]) & (position_K < r)
    )
    mixing_RK = torch.where(is_harmless_RK, 0.0, residual_K / gap_RK.clamp_min(1e-300))
    # index m - r: the first m together
    mixing_RM = (mixing_RK**2).cumsum(dim=1)[:, r - 1 :]
    mu_M = S_K.new_zeros(mixing_RM.shape[1])
    mu_M[:-1] = S_K[r:] + residual_K[r:]
    if len(S_K) > r:  # nothing is known beyond the last
        mixing_RM, mu_M = mixing_RM[:, :-1], mu_M[:-1]
    distance_RM = (S_K[:r, None] - mu_M).clamp_min(1e-300)
    angle_RM = residual_K[:r, None] / distance_RM * (1 + mixing_RM).sqrt()
    return angle_RM.min(dim=1).values


def _is_tied(S_K: torch.Tensor, r: int) -> bool:
    return bool(S_K[r - 1] - S_K[r] <= TIE_TOLERANCE * S_K[0])


def _canonical(
    U_OR: torch.Tensor, S_R: torch.Tensor, V_IR: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns row-major U (O, r) and Vt (r, I), the same whatever basis and signs came in."""
    U_OR, V_IR = U_OR.clone(), V_IR.clone()
    first = 0
    for last in range(1, len(S_R) + 1):
        if last < len(S_R) and S_R[last - 1] - S_R[last] <= TIE_TOLERANCE * S_R[0]:
            continue
        if last - first > 1:
            generator = seeded_generator("tied", U_OR.shape[0])
            probe_OC = torch.randn(
                (U_OR.shape[0], last - first),
                generator=generator,
                dtype=torch.float64,
                device="cpu",
            ).to(U_OR)
            rotation_CC, _ = torch.linalg.qr(U_OR[:, first:last].T @ probe_OC)
            U_OR[:, first:last] = U_OR[:, first:last] @ rotation_CC
            V_IR[:, first:last] = V_IR[:, first:last] @ rotation_CC
        first = last
    pivot_R = U_OR.abs().argmax(dim=0)
    sign_R = torch.sign(U_OR.gather(0, pivot_R[None, :])[0])
    sign_R = torch.where(sign_R == 0, torch.ones_like(sign_R), sign_R)
    # LAPACK's U is column-major; a broadcast sends raw bytes and needs row-major
    return (U_OR * sign_R).contiguous(), (V_IR * sign_R).T.contiguous()
