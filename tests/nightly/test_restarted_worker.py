"""A rollout worker that comes back empty ends the run."""

import pytest

from tests.integration.training import SMALL, story, train

pytestmark = pytest.mark.e2e
FAULTS = "tests.integration.faults"


def test_a_worker_that_came_back_empty_is_found_before_its_samples_are_used(tmp_path):
    """Other weights than the policy's, at the sync itself: tests/unit/vllm_plugin."""
    finished = train(
        tmp_path,
        *SMALL,
        "sync=vector",
        "trainer.total_training_steps=2",
        f"actor_rollout_ref.model.external_lib={FAULTS}.rollout_restarts",
    )
    assert finished.code == 1, story(finished)
    says = "holds policy version None, the trainer sent policy version 1"
    assert says in finished.console, story(finished)
    assert "rollout worker " in finished.console
    assert max(finished.steps) == 1, "step 2 must not have been taken"
