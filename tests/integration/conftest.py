"""Fixtures of all real runs."""

import pytest

from tests.integration.training import NUM_STEPS, SMALL, Finished, Started, story, train


@pytest.fixture(autouse=True)
def no_run_outlives_its_test():
    yield
    Started.end_all()


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory) -> Finished:
    """A run that nothing happens to, to its end."""
    finished = train(
        tmp_path_factory.mktemp("undisturbed"), *SMALL, f"trainer.total_training_steps={NUM_STEPS}"
    )
    assert finished.code == 0, story(finished)
    return finished
