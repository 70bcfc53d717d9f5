"""A rollout worker that raises ends the run; the control shows one that is not checked.

Faster tests of the same: tests/unit/verl_plugin/test_deadline.py (a receiver that raises) and
tests/unit/verl_plugin/test_verify.py (other weights than the policy's).
"""

import time

import pytest

from tests.integration.training import SMALL, story, train

pytestmark = pytest.mark.e2e
FAULTS = "tests.integration.faults"


def test_a_worker_that_raises_ends_the_run_with_its_error_within_the_deadline(tmp_path):
    deadline_s = 300  # long: the error must not wait for it
    start_s = time.monotonic()
    finished = train(
        tmp_path,
        *SMALL,
        "trainer.total_training_steps=2",
        f"sync.deadline_s={deadline_s}",
        f"actor_rollout_ref.model.external_lib={FAULTS}.rollout_raises",
    )
    assert finished.code == 1, story(finished)
    assert "injected: the rollout worker cannot load this" in finished.console
    assert "policy version 1" in finished.console
    assert time.monotonic() - start_s < deadline_s
    # step 1 was taken and saved before its sync failed: nothing is lost
    assert (finished.run.checkpoints / "latest_checkpointed_iteration.txt").read_text() == "1"


def test_the_control_a_skipped_sync_shows_in_the_probabilities(tmp_path):
    """What test_training asserts of a healthy run must fail here, or it would prove nothing."""
    finished = train(
        tmp_path,
        *SMALL,
        "actor_rollout_ref.actor.optim.lr=0.1",
        "sync.canary_every=0",
        "trainer.total_training_steps=2",
        f"actor_rollout_ref.model.external_lib={FAULTS}.rollout_ignores",
    )
    assert finished.code == 0, story(finished)
    assert finished.steps[1]["training/rollout_actor_probs_pearson_corr"] > 0.9999
    assert finished.steps[2]["training/rollout_actor_probs_pearson_corr"] < 0.999
    assert finished.steps[2]["training/rollout_probs_diff_max"] > 1e-2
