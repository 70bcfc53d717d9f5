from tests.integration.conftest import (  # for real runs here
    no_run_outlives_its_test,  # noqa: F401
    undisturbed,  # noqa: F401
)
