"""What is not finite is refused with its name."""

import pytest
import torch

from tinylora_rl.verl_plugin.nan_guard import (
    NonFiniteError,
    check_gradient,
    check_loss,
    check_norm,
    check_rewards,
    check_vector,
)

NAN, INF = float("nan"), float("inf")


def test_what_is_finite_passes():
    v_GU = torch.tensor([[1e15, -0.0]])
    check_loss(0, 1)
    check_gradient(v_GU, v_GU.norm(), 1)
    check_vector(v_GU, 1)
    check_norm(1e30, 1)
    check_rewards([("a", 0.0), ("b", -1e30)], 1)


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        ([[0.0, NAN]], "update 3: the gradient of all modules is not finite"),
        ([[0.0], [INF], [0.0]], "update 3: the gradient of group 1 of 3 is not finite"),
        ([[NAN]] * 5, "the gradient of group 0, 1, 2 and 2 more of 5 is not finite"),
        ([[3e38, 3e38]], "the gradient overflows: its norm is not finite"),
    ],
)
def test_a_gradients_groups_are_named(rows, says):
    gradient_GU = torch.tensor(rows)
    with pytest.raises(NonFiniteError, match=says):
        check_gradient(gradient_GU, gradient_GU.norm(), 3)


def test_a_moved_v_is_refused():
    with pytest.raises(NonFiniteError, match="update 4: would make v of group 1 of 2 not finite"):
        check_vector(torch.tensor([[0.0], [INF]]), 4)


def test_losses_are_counted():
    with pytest.raises(NonFiniteError, match="update 2: the loss of 3 micro-batches"):
        check_loss(3, 2)


def test_samples_are_named():
    rewards = [(f"prompt_{index}_0", NAN if index else 1.0) for index in range(6)]
    says = r"step 2: .* prompt_1_0 \(nan\), .* and 2 more is not finite"
    with pytest.raises(NonFiniteError, match=says):
        check_rewards(rewards, 2)


@pytest.mark.parametrize("norm", [NAN, INF])
def test_a_norm_that_verl_passed_over_is_refused(norm):
    with pytest.raises(NonFiniteError, match="step 5: the gradient is not finite"):
        check_norm(norm, 5)
