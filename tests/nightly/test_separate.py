"""A rollout with machines of its own: two replicas beside the trainer, fed by broadcast."""

import pytest

from tests.integration.training import SMALL, story, train

pytestmark = pytest.mark.e2e


def test_two_replicas_elsewhere_hold_the_policy(tmp_path):
    finished = train(
        tmp_path,
        *SMALL,
        "placement=separate",
        "sync=factors",
        "actor_rollout_ref.rollout.n_gpus_per_node=2",
        "trainer.total_training_steps=3",
    )
    assert finished.code == 0, story(finished)
    steps = finished.steps
    assert sorted(steps) == [1, 2, 3]
    for step, row in steps.items():
        assert row["sync/num_acknowledgements"] == 2
        assert row["sync/policy_version"] == step
        assert row["sync/held_share"] == pytest.approx(1, abs=1e-4)
        assert row["sync/canary_actor_diff"] < 1e-3
        assert row["sync/canary_base_distance"] > 20 * row["sync/canary_actor_diff"]
    # the bank came with the first sync, at the start; from then on it is factors alone
    assert steps[3]["sync/broadcast_bytes"] < 100_000
    # sampled while the trainer trained: of the policy before
    assert steps[3]["training/off_policy/trajectory_staleness/max"] >= 1
