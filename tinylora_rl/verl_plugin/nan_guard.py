"""Stops the run on NaN or inf in loss, gradient, reward or v, before v changes.

verl skips an update whose gradient is not finite and goes on; here the run ends, with the last good
v: where thirteen numbers sample their own data, the next update would be no better.

Every check raises NonFiniteError, which names groups or samples.

Legend: G groups, U numbers per group.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch

MAX_NAMED = 3  # groups or samples in a message


class NonFiniteError(RuntimeError):
    """A loss, a gradient, v or a reward is not finite; v is as the update before left it."""


def check_loss(num_bad: int, update: int) -> None:
    """Checks that no micro-batch of any rank had a loss that is not finite."""
    if num_bad:
        raise NonFiniteError(
            f"update {update}: the loss of {num_bad} micro-batches is not finite; v was not moved. "
            "Look at this step's rewards and log-probs, or lower actor_rollout_ref.actor.optim.lr"
        )


def check_gradient(gradient_GU: torch.Tensor, grad_norm: torch.Tensor, update: int) -> None:
    """Checks the averaged gradient and its norm."""
    # a sum of squares may overflow where each number is finite: the norm decides, not its parts
    if torch.isfinite(grad_norm):
        return
    groups = (~torch.isfinite(gradient_GU)).any(dim=1).nonzero().flatten().tolist()
    where = _groups(groups, len(gradient_GU)) if groups else "overflows: its norm"
    raise NonFiniteError(
        f"update {update}: the gradient {where} is not finite; v was not moved. "
        "Look at this step's log-probs and rewards, or lower actor_rollout_ref.actor.optim.lr"
    )


def check_vector(v_GU: torch.Tensor, update: int) -> None:
    """Checks the moved v."""
    if torch.isfinite(v_GU).all():
        return
    groups = (~torch.isfinite(v_GU)).any(dim=1).nonzero().flatten().tolist()
    raise NonFiniteError(
        f"update {update}: would make v {_groups(groups, len(v_GU))} not finite; v was not moved. "
        "Lower actor_rollout_ref.actor.optim.lr"
    )


def check_norm(grad_norm: float, step: int) -> None:
    """Checks the norm of the gradient; verl's own engines only skip the update."""
    if not math.isfinite(grad_norm):
        raise NonFiniteError(
            f"step {step}: the gradient is not finite (norm {grad_norm}); no weight was moved. "
            "Look at this step's log-probs and rewards, or lower actor_rollout_ref.actor.optim.lr"
        )


def check_rewards(rewards: Iterable[tuple[str, float]], step: int) -> None:
    """Checks every sample's (name, reward)."""
    bad = [f"{name} ({value})" for name, value in rewards if not math.isfinite(value)]
    if bad:
        more = f" and {len(bad) - MAX_NAMED} more" if len(bad) > MAX_NAMED else ""
        raise NonFiniteError(
            f"step {step}: the reward of sample {', '.join(bad[:MAX_NAMED])}{more} is not finite; "
            "v was not moved. reward.custom_reward_function must return finite numbers"
        )


def _groups(groups: list[int], num_groups: int) -> str:
    if num_groups == 1:
        return "of all modules"
    named = ", ".join(map(str, groups[:MAX_NAMED]))
    more = f" and {len(groups) - MAX_NAMED} more" if len(groups) > MAX_NAMED else ""
    return f"of group {named}{more} of {num_groups}"
