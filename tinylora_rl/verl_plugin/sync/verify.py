"""Whether rollout workers hold the policy: what they answer, against what the trainer knows."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from tinylora_rl.adapter import Bank, CheckpointWeights
from tinylora_rl.adapter.spot_check import NUM_SIGMA, Rounded, Share, Witness, witness_rows
from tinylora_rl.verl_plugin.sync.deadline import SyncError

Receipt = Mapping[str, Any]
"""See `WorkerExtension.policy_receipt`."""

_FIELDS = {"policy_version": "policy version", "v_digest": "v", "num_tensors": "tensor count"}


@dataclasses.dataclass(frozen=True, kw_only=True)
class ExpectedReceipt:
    """The fields that every worker's receipt must match exactly.

    Attributes:
        policy_version: verl's global step of the policy that was sent.
        v_digest: of v's bits; None where the policy is no TinyLoRA adapter.
        num_tensors: how many were streamed; None where none were. A stream that lost or doubled
            one loads without an error.
    """

    policy_version: int | None
    v_digest: str | None = None
    num_tensors: int | None = None

    def check(self, receipts: Sequence[Receipt]) -> None:
        """Every worker claims to hold this.

        Raises:
            SyncError: one does not; the message names the worker and both sides.
        """
        if not receipts:
            raise SyncError(f"no rollout worker acknowledged policy version {self.policy_version}")
        for receipt in receipts:
            for key, what in _FIELDS.items():
                sent, held = getattr(self, key), receipt.get(key)
                if sent is not None and held != sent:
                    raise SyncError(
                        f"rollout worker {receipt['worker']} holds {what} {held}, the trainer "
                        f"sent {what} {sent} (policy version {self.policy_version})"
                    )


class Verifier:
    """Compares what workers read off their weights with what base and v say they must read.

    Args:
        bank, groups: of the adapter; {module name: its row in v}.
        base: the base model's weights; a few rows of each adapted one are read, once.
        dtype: the sampler's.
        base_dtype: of the weights that the update is added to; None is the checkpoint's.
        rounded: what the sampler rounds: "nearest" or "stochastic" weights, or "factors".
    """

    def __init__(
        self,
        bank: Bank,
        groups: Mapping[str, int],
        base: CheckpointWeights,
        *,
        dtype: torch.dtype,
        rounded: Rounded,
        base_dtype: torch.dtype | None = None,
    ) -> None:
        self._groups = groups
        self._dtype = dtype
        self._rounded = rounded
        self._witnesses = {}
        for name, factors in bank.items():
            rows = witness_rows(factors.left_OR)
            base_KI = base.rows(f"{name}.weight", rows)
            base_KI = base_KI.to(base_dtype or base_KI.dtype)
            self._witnesses[name] = Witness.of(rows, base_KI, factors)

    def check(self, receipts: Sequence[Receipt], v_GU: torch.Tensor) -> dict[str, float]:
        """The weights of every worker are the base plus dW(v), up to the rounding they were given.

        Returns:
            `sync/held_share`: how far along the update the weights are, 1 being all the way, of the
            worker that is furthest from it; `sync/held_resolution`: its standard deviation, that
            is, what part of the update this measurement can see at all.

        Raises:
            SyncError: a worker's weights are others; the message names it and says how far off.
        """
        worst = Share(projected=1.0, total=1.0)
        for receipt in receipts:
            share, excess, module = Share(), 0.0, ""
            for entry in receipt["measurements"]:
                witness = self._witnesses[entry["name"]]
                expected = witness.expect(
                    v_GU[self._groups[entry["name"]]],
                    entry["rows"],
                    slice(*entry["columns"]),
                    dtype=self._dtype,
                    rounded=self._rounded,
                )
                read = torch.tensor(entry["reading"], dtype=torch.float64)
                read = read.view(expected.base.shape)
                share.add(expected, read)
                if not torch.isfinite(read).all():
                    excess, module = float("inf"), entry["name"]
                elif (more := expected.excess(read)) > excess:
                    excess, module = more, entry["name"]
            if (
                not any(entry["rows"] for entry in receipt["measurements"])
                or excess > 1
                or share.is_off
            ):
                raise SyncError(
                    f"rollout worker {receipt['worker']} claims policy version "
                    f"{receipt['policy_version']}, but its weights are another's: "
                    f"{share.value:.3g} of the way from the base to the policy (must be 1), and "
                    f"{excess * NUM_SIGMA:.3g} standard deviations of rounding off in "
                    f"{module or 'no module that it holds'}"
                )
            if receipt is receipts[0] or abs(share.value - 1) > abs(worst.value - 1):
                worst = share
        return {"sync/held_share": worst.value, "sync/held_resolution": worst.deviation}
