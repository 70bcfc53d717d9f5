"""What all real runs have in common."""

import pytest

from tests.integration.training import Started


@pytest.fixture(autouse=True)
def no_run_outlives_its_test():
    yield
    Started.end_all()
