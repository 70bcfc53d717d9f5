"""A fixed text under the sampler and under the actor: the one check that no bookkeeping can pass.

Versions, digests and measured rows speak of weights. This speaks of what the policy does: if the
rollout engine's log-probs of a text are the actor's, the sampler is the policy, whatever lies
between.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tinylora_rl.verl_plugin.sync.deadline import SyncError


def canary_metrics(
    rollouts: Mapping[str, Sequence[float]],
    policy: Sequence[float],
    base: Sequence[float],
    *,
    max_diff: float,
    policy_version: int,
) -> dict[str, float]:
    """`sync/canary_*`: means over the tokens of |difference of log-probs|, in nats.

    | metric | between |
    |---|---|
    | `sync/canary_actor_diff` | rollout and actor; of the replica that is furthest off |
    | `sync/canary_base_distance` | that rollout and the base model |
    | `sync/canary_policy_distance` | actor and base model: how far training has come on this text |

    Args:
        rollouts: {replica: log-probs in its engine}.
        policy, base: the actor's, with and without the adapter.
        max_diff: what `sync/canary_actor_diff` may be.

    Raises:
        SyncError: it is more; the message names the replica.
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
