"""Implements the equation, once: dW = U S R Vt with R = sum_i v_i P_i.

Legend: O out, I in, R rank, U len(v).
Source: arXiv 2602.04118, the definition of TinyLoRA. With `svd_split="sqrt"` the singular values
are split as sqrt(S) R sqrt(S), PEFT's variant; it only changes the content of a `Factors`. So does
LoRA-XS, dW = U S R Vt with R trained: its P is the canonical basis. One path serves the family.
"""

from __future__ import annotations

import dataclasses

import torch


@dataclasses.dataclass(frozen=True, kw_only=True)
class Factors:
    """The frozen side of one adapted module. All fp32, row-major, on one device.

    Attributes:
        left_OR: U S (paper) or U sqrt(S), (O, r).
        right_RI: Vt (paper) or sqrt(S) Vt, (r, I).
        P_URR: the module's random projections, (u, r, r).
        weight_norm: Frobenius norm of the frozen weight.
    """

    left_OR: torch.Tensor
    right_RI: torch.Tensor
    P_URR: torch.Tensor
    weight_norm: float

    def to(self, device: torch.device | str) -> Factors:
        return dataclasses.replace(
            self,
            left_OR=self.left_OR.to(device),
            right_RI=self.right_RI.to(device),
            P_URR=self.P_URR.to(device),
        )

    def shard(self, rows: slice, columns: slice) -> Factors:
        """Returns the factors of W[rows, columns], copied so that the whole can be freed.

        `weight_norm` stays the whole weight's.
        """
        return dataclasses.replace(
            self,
            left_OR=self.left_OR[rows].clone(),
            right_RI=self.right_RI[:, columns].contiguous().clone(),
        )


def acting_vector(v: torch.Tensor, v_dtype: torch.dtype) -> torch.Tensor:
    """Returns v as the equation sees it: rounded to `v_dtype`, in fp32, detached."""
    return v.detach().to(v_dtype).to(torch.float32)


def mixing_matrix(v_U: torch.Tensor, P_URR: torch.Tensor) -> torch.Tensor:
    """Computes R = sum_i v_i P_i: (r, r) in fp32, differentiable in v."""
    num_values, rank, _ = P_URR.shape
    return (v_U @ P_URR.reshape(num_values, -1)).view(rank, rank)


def lora_factors(factors: Factors, v_U: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns A (r, I) and B (O, r), both fp32, with B @ A == dW."""
    return factors.right_RI, factors.left_OR @ mixing_matrix(v_U, factors.P_URR)


def delta_weight(factors: Factors, v_U: torch.Tensor) -> torch.Tensor:
    """Computes dW (O, I) in fp32, the full matrix: for merging, never for training."""
    A_RI, B_OR = lora_factors(factors, v_U)
    return B_OR @ A_RI


def delta_norm(factors: Factors, v_U: torch.Tensor) -> torch.Tensor:
    """Computes the Frobenius norm of dW, from r x r matrices alone."""
    left_RR = factors.left_OR.T @ factors.left_OR
    right_RR = factors.right_RI @ factors.right_RI.T
    R_RR = mixing_matrix(v_U, factors.P_URR)
    return torch.trace(R_RR.T @ left_RR @ R_RR @ right_RR).clamp_min(0).sqrt()
