"""The canary: log-probs of one text by sampler, actor and base."""

import pytest

from tinylora_rl.verl_plugin.sync.canary import canary_metrics
from tinylora_rl.verl_plugin.sync.deadline import SyncError

POLICY, BASE = [-1.0, -2.0], [-1.5, -3.5]


def metrics(**rollouts: list[float]) -> dict[str, float]:
    return canary_metrics(rollouts, POLICY, BASE, max_diff=0.5, policy_version=7)


def test_distances_are_means_over_the_tokens_of_the_worst_replica():
    told = metrics(near=[-1.0, -2.0], far=[-1.2, -2.2])
    assert told["sync/canary_actor_diff"] == pytest.approx(0.2)
    assert told["sync/canary_base_distance"] == pytest.approx((0.3 + 1.3) / 2)
    assert told["sync/canary_policy_distance"] == pytest.approx(1.0)


@pytest.mark.parametrize("wrong", [BASE, [float("nan"), -2.0]])
def test_a_sampler_that_is_another_policy_stops_the_run(wrong):
    with pytest.raises(SyncError, match=r"rollout replica_1 .* at policy version 7"):
        metrics(replica_0=POLICY, replica_1=wrong)
