"""Builds the bank, the frozen factors of every adapted module, and gives it an identity.

Legend: O out, I in, R rank, U len(v).
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import safetensors.torch
import torch
from torch import nn

from tinylora_rl.adapter.config import TinyLoraConfig
from tinylora_rl.adapter.delta import Factors
from tinylora_rl.adapter.digests import base_digest
from tinylora_rl.adapter.projection import draw_projection, seeded_generator
from tinylora_rl.adapter.svd import TruncatedSvd, decompose
from tinylora_rl.adapter.targets import Target
from tinylora_rl.adapter.weights import Weights, as_weights

NUM_PROBES = 6
_FIELDS = ("left_OR", "right_RI", "P_URR")
_MODULES = "modules"

Bank = dict[str, Factors]
"""{module name: its factors}, in depth order."""


def build_bank(
    source: nn.Module | Weights,
    targets: Sequence[Target],
    config: TinyLoraConfig,
    *,
    device: torch.device | str | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Bank:
    """Builds the factors of every target, one decomposition after the other.

    Args:
        source: the model, or its weights by name (`CheckpointWeights` needs no model in memory).
        device: where to decompose and keep the factors; None keeps each weight's own device.
        progress: called with (modules done, modules in all) after each module.

    Raises:
        ValueError: see `decompose`; the message names the module.
    """
    svds = decompose_targets(source, targets, config.r, device=device, progress=progress)
    return assemble(svds, config)


def decompose_targets(
    source: nn.Module | Weights,
    targets: Sequence[Target],
    r: int,
    *,
    device: torch.device | str | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, TruncatedSvd]:
    """Returns {module name: its r leading triplets}, the costly part of `build_bank`."""
    weights = as_weights(source)
    svds: dict[str, TruncatedSvd] = {}
    for target in targets:
        weight_OI = weights.tensor(target.weight_name)
        try:
            svds[target.name] = decompose(weight_OI.to(device or weight_OI.device), r)
        except ValueError as error:
            raise ValueError(f"{target.name}: {error}") from error
        if progress is not None:
            progress(len(svds), len(targets))
    return svds


def assemble(svds: Mapping[str, TruncatedSvd], config: TinyLoraConfig) -> Bank:
    """Builds the bank of `config` from the triplets of each module, on their device."""
    bank: Bank = {}
    for name, svd in svds.items():
        if config.svd_split == "paper":
            left_OR, right_RI = svd.U_OR * svd.S_R, svd.Vt_RI
        else:
            left_OR, right_RI = svd.U_OR * svd.S_R.sqrt(), svd.S_R.sqrt()[:, None] * svd.Vt_RI
        bank[name] = Factors(
            left_OR=left_OR.contiguous(),
            right_RI=right_RI.contiguous(),
            P_URR=draw_projection(config, name).to(svd.S_R.device),
            weight_norm=svd.norm,
        )
    return bank


def empty_bank(
    source: nn.Module | Weights,
    targets: Sequence[Target],
    config: TinyLoraConfig,
    device: torch.device | str,
) -> Bank:
    """Allocates a bank to receive another rank's values; the model may be on meta."""
    weights = as_weights(source)
    bank: Bank = {}
    for target in targets:
        num_out, num_in = weights.shape(target.weight_name)
        bank[target.name] = Factors(
            left_OR=torch.empty((num_out, config.r), dtype=torch.float32, device=device),
            right_RI=torch.empty((config.r, num_in), dtype=torch.float32, device=device),
            P_URR=draw_projection(config, target.name).to(device),
            weight_norm=float("nan"),
        )
    return bank


@dataclasses.dataclass(frozen=True, kw_only=True)
class Identity:
    """Digests of base weights and P, and probes of the update; v is meaningless without them.

    Attributes:
        base_digest: sha256 over the target weights, exact; see `base_digest`.
        projection_digest: sha256 of every P, exact.
        fingerprint: see `fingerprint`; equal within a tolerance.
    """

    base_digest: str
    projection_digest: str
    fingerprint: tuple[float, ...]


def identify(
    source: nn.Module | Weights,
    targets: Sequence[Target],
    bank: Bank,
    *,
    memo_dir: Path | None = None,
) -> Identity:
    """Identifies `bank` on these base weights, which must be whole (not sharded).

    Args:
        memo_dir: where digests of checkpoint files are remembered; see `base_digest`.
    """
    return Identity(
        base_digest=base_digest(source, targets, memo_dir=memo_dir),
        projection_digest=projection_digest(bank),
        fingerprint=tuple(fingerprint(bank)),
    )


def projection_digest(bank: Mapping[str, Factors]) -> str:
    """Hashes every P, bit for bit. Independent of the base weights' values."""
    digest = hashlib.sha256()
    for name, factors in bank.items():
        digest.update(name.encode())
        digest.update(factors.P_URR.cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def fingerprint(bank: Mapping[str, Factors]) -> list[float]:
    """Returns numbers that move if any module's update does, to compare within a tolerance.

    Singular vectors are reproducible to rounding only (threads, devices), so they are compared by
    the update they make: each number is the sum over the modules of a^T dW b / |W| for random a, b
    and v of its own. A flipped sign or swapped pair of singular vectors of any module changes them.
    """
    sums = torch.zeros(NUM_PROBES, dtype=torch.float64)
    for name, factors in bank.items():
        left_OR, right_RI = factors.left_OR.cpu().double(), factors.right_RI.cpu().double()
        P_URR = factors.P_URR.cpu().double()
        for probe in range(NUM_PROBES):
            generator = seeded_generator("fingerprint", name, probe)
            v_U, a_O, b_I = (
                torch.randn(size, generator=generator, dtype=torch.float64, device="cpu")
                for size in (P_URR.shape[0], left_OR.shape[0], right_RI.shape[1])
            )
            R_RR = torch.tensordot(v_U, P_URR, dims=1)
            sums[probe] += (
                (a_O @ left_OR) @ R_RR @ (right_RI @ b_I) / max(factors.weight_norm, 1e-30)
            )
    return sums.tolist()


def bank_to_bytes(bank: Bank) -> bytes:
    """Packs a bank for another process: safetensors, kilobytes to megabytes.

    Names and norms of the modules are metadata, in the bank's order.
    """
    tensors = {
        f"{index}.{field}": getattr(factors, field).cpu().contiguous()
        for index, factors in enumerate(bank.values())
        for field in _FIELDS
    }
    modules = [[name, factors.weight_norm] for name, factors in bank.items()]
    return safetensors.torch.save(tensors, metadata={_MODULES: json.dumps(modules)})


def bank_from_bytes(payload: bytes) -> Bank:
    """Unpacks the bank, bit for bit, on the CPU."""
    tensors = safetensors.torch.load(payload)
    header_bytes = int.from_bytes(payload[:8], "little")
    header = json.loads(payload[8 : 8 + header_bytes])
    modules = json.loads(header["__metadata__"][_MODULES])
    return {
        name: Factors(
            **{field: tensors[f"{index}.{field}"] for field in _FIELDS}, weight_norm=weight_norm
        )
        for index, (name, weight_norm) in enumerate(modules)
    }
