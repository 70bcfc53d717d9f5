"""Verifies that rollout workers sample from the policy: receipts, measured rows, canary.

| check | when | finds |
|---|---|---|
| `ExpectedReceipt` | after a sync | another policy, another v, or none; lost tensors |
| `Verifier` | after a sync | weights that are not W + dW(v): stale, doubled, torn, another base |
| `canary_metrics` | every `canary_every` syncs | a sampler that is not the policy, for any reason |
| version alone | after sampling | a worker that restarted in between |
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from tinylora_rl.adapter import Bank, CheckpointWeights
from tinylora_rl.adapter.spot_check import NUM_SIGMA, Rounded, Share, SpotCheck, choose_rows
from tinylora_rl.verl_plugin.sync.deadline import SyncError

Receipt = Mapping[str, Any]
"""See `WorkerExtension.policy_receipt`."""

_FIELDS = {"policy_version": "policy version", "v_digest": "v", "num_tensors": "tensor count"}


@dataclasses.dataclass(frozen=True, kw_only=True)
class ExpectedReceipt:
    """The fields that every worker's receipt must match exactly."""

    policy_version: int | None  # verl's global step
    v_digest: str | None = None  # None for a baseline
    num_tensors: int | None = None  # streamed: one lost or doubled makes no error by itself

    def check(self, receipts: Sequence[Receipt]) -> None:
        """Compares all receipts with these fields; SyncError names the one that differs."""
        if not receipts:
            raise SyncError(f"no rollout worker acknowledged policy version {self.policy_version}")
        for receipt in receipts:
            for key, what in _FIELDS.items():
                sent, loaded = getattr(self, key), receipt.get(key)
                if sent is not None and loaded != sent:
                    raise SyncError(
                        f"rollout worker {receipt['worker']} holds {what} {loaded}, the trainer "
                        f"sent {what} {sent} (policy version {self.policy_version})"
                    )


class Verifier:
    """Compares measurements of the workers' weights with those of W + dW(v).

    They are of a few rows of every adapted weight; see `adapter.spot_check`.

    Args:
        groups: {module name: its row in v}.
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
        self._checks = {}
        for name, factors in bank.items():
            rows = choose_rows(factors.left_OR)
            base_KI = base.rows(f"{name}.weight", rows)
            base_KI = base_KI.to(base_dtype or base_KI.dtype)
            self._checks[name] = SpotCheck.of(rows, base_KI, factors)

    def check(self, receipts: Sequence[Receipt], v_GU: torch.Tensor) -> dict[str, float]:
        """Checks that every worker's weights are the base plus dW(v), up to rounding; or SyncError.

        Returns `sync/held_share`: the share of the update that is in the weights, 1 being all, of
        the worker that is furthest off; `sync/held_resolution`: the share's standard deviation.
        """
        worst = Share(projected=1.0, total=1.0)
        for receipt in receipts:
            share, excess, module = Share(), 0.0, ""
            for entry in receipt["measurements"]:
                check = self._checks[entry["name"]]
                expected = check.expect(
                    v_GU[self._groups[entry["name"]]],
                    entry["rows"],
                    slice(*entry["columns"]),
                    dtype=self._dtype,
                    rounded=self._rounded,
                )
                read = torch.tensor(entry["values"], dtype=torch.float64)
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


def canary_metrics(
    rollouts: Mapping[str, Sequence[float]],
    policy: Sequence[float],
    base: Sequence[float],
    *,
    max_diff: float,
    policy_version: int,
) -> dict[str, float]:
    """Compares log-probs of a fixed text in the rollout engine, under the actor and under the base.

    Receipts and rows are about weights; this is about what the policy does, whatever lies between.
    All three are means over the tokens of |difference of log-probs|, in nats.

    | metric | between |
    |---|---|
    | `sync/canary_actor_diff` | rollout and actor; of the replica that is furthest off |
    | `sync/canary_base_distance` | that rollout and the base model |
    | `sync/canary_policy_distance` | actor and base model: how far training has come on this text |

    Args:
        rollouts: {replica: log-probs in its engine}.
        policy, base: the actor's, with and without the adapter.
        max_diff: of `sync/canary_actor_diff`; SyncError names the replica that exceeds it.
    """
    diffs = {replica: _mean_abs(log_probs, policy) for replica, log_probs in rollouts.items()}
    # not a number is the worst of all
    replica = max(diffs, key=lambda name: (diffs[name] != diffs[name], diffs[name]))
    if not diffs[replica] <= max_diff:
        raise SyncError(
            f"rollout {replica} gives the canary prompt log-probs that are {diffs[replica]:.3g} "
            f"nats a token from the actor's at policy version {policy_version}, more than "
            f"sync.canary_max_diff={max_diff:g}: the sampler is not the policy"
        )
    return {
        "sync/canary_actor_diff": diffs[replica],
        "sync/canary_base_distance": _mean_abs(rollouts[replica], base),
        "sync/canary_policy_distance": _mean_abs(policy, base),
    }


def _mean_abs(left: Sequence[float], right: Sequence[float]) -> float:
    return sum(abs(a - b) for a, b in zip(left, right, strict=True)) / len(left)
