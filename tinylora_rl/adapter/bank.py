"""The frozen factors of every adapted module, built from the base weights, and their identity."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import nn

from tinylora_rl.adapter.config import TinyLoraConfig
from tinylora_rl.adapter.delta import Factors
from tinylora_rl.adapter.projection import draw_projection, seeded_generator
from tinylora_rl.adapter.svd import truncated_svd
from tinylora_rl.adapter.targets import Target, linear_named

NUM_PROBES = 4

Bank = dict[str, Factors]
"""{module name: its factors}, in depth order."""


def build_bank(
    model: nn.Module,
    targets: Sequence[Target],
    config: TinyLoraConfig,
    *,
    device: torch.device | str | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Bank:
    """The factors of every target, one decomposition after the other.

    Args:
        device: where to decompose and keep the factors; None keeps each weight's own device.
        progress: called with (modules done, modules in all) after each module.

    Raises:
        ValueError: see `truncated_svd`; the message names the module.
    """
    bank: Bank = {}
    for target in targets:
        weight_OI = linear_named(model, target.name).weight
        try:
            bank[target.name] = _decompose(
                weight_OI.detach().to(device or weight_OI.device), target.name, config
            )
        except ValueError as error:
            raise ValueError(f"{target.name}: {error}") from error
        if progress is not None:
            progress(len(bank), len(targets))
    return bank


def _decompose(weight_OI: torch.Tensor, name: str, config: TinyLoraConfig) -> Factors:
    U_OR, S_R, Vt_RI = truncated_svd(weight_OI, config.r)
    if config.svd_split == "paper":
        left_OR, right_RI = U_OR * S_R, Vt_RI
    else:
        left_OR, right_RI = U_OR * S_R.sqrt(), S_R.sqrt()[:, None] * Vt_RI
    return Factors(
        left_OR=left_OR.contiguous(),
        right_RI=right_RI.contiguous(),
        P_URR=draw_projection(config, name).to(weight_OI.device),
        weight_norm=float(weight_OI.to(torch.float32).norm()),
    )


def empty_bank(
    model: nn.Module, targets: Sequence[Target], config: TinyLoraConfig, device: torch.device | str
) -> Bank:
    """A bank of the right shapes to receive another rank's values; the model may be on meta."""
    bank: Bank = {}
    for target in targets:
        num_out, num_in = linear_named(model, target.name).weight.shape
        bank[target.name] = Factors(
            left_OR=torch.empty((num_out, config.r), device=device),
            right_RI=torch.empty((config.r, num_in), device=device),
            P_URR=draw_projection(config, target.name).to(device),
            weight_norm=float("nan"),
        )
    return bank


@dataclasses.dataclass(frozen=True, kw_only=True)
class Identity:
    """What v is relative to: without the same base, P and singular vectors it is another update.

    Attributes:
        base_digest: sha256 of the target weights, exact.
        projection_digest: sha256 of every P, exact.
        fingerprint: see `fingerprint`; equal within a tolerance.
    """

    base_digest: str
    projection_digest: str
    fingerprint: tuple[float, ...]


def identify(model: nn.Module, targets: Sequence[Target], bank: Bank) -> Identity:
    """The identity of `bank` on the base weights of `model`, which must be whole (not sharded)."""
    return Identity(
        base_digest=base_digest(model, targets),
        projection_digest=projection_digest(bank),
        fingerprint=tuple(fingerprint(bank)),
    )


def base_digest(model: nn.Module, targets: Sequence[Target]) -> str:
    """sha256 over the names, shapes, dtypes and bytes of the target weights, in depth order."""
    digest = hashlib.sha256()
    for target in targets:
        weight_OI = linear_named(model, target.name).weight.detach().cpu().contiguous()
        digest.update(f"{target.weight_name}{tuple(weight_OI.shape)}{weight_OI.dtype}".encode())
        digest.update(weight_OI.view(torch.uint8).numpy().data)
    return digest.hexdigest()


def projection_digest(bank: Mapping[str, Factors]) -> str:
    """sha256 over every P, bit for bit. Independent of the base weights' values."""
    digest = hashlib.sha256()
    for name, factors in bank.items():
        digest.update(name.encode())
        digest.update(factors.P_URR.cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def fingerprint(bank: Mapping[str, Factors]) -> list[float]:
    """Four numbers that move if any module's update does: for comparison within a tolerance.

    Singular vectors are reproducible to rounding only (threads, devices), so they are compared by
    the update they make: random +-1 sums over the modules of a^T dW b for fixed random a, b and v.
    A flipped sign or swapped pair of singular vectors changes them.
    """
    sums = torch.zeros(NUM_PROBES, dtype=torch.float64)
    for name, factors in bank.items():
        generator = seeded_generator("fingerprint", name)
        v_U = torch.randn(factors.P_URR.shape[0], generator=generator)
        a_O = torch.randn(factors.left_OR.shape[0], generator=generator, dtype=torch.float64)
        b_I = torch.randn(factors.right_RI.shape[1], generator=generator, dtype=torch.float64)
        R_RR = torch.tensordot(v_U.double(), factors.P_URR.cpu().double(), dims=1)
        probe = (
            (a_O @ factors.left_OR.cpu().double()) @ R_RR @ (factors.right_RI.cpu().double() @ b_I)
        )
        sign_K = torch.randint(0, 2, (NUM_PROBES,), generator=generator).double() * 2 - 1
        sums += sign_K * probe / max(factors.weight_norm, 1e-30)
    return sums.tolist()
