from tests.integration.conftest import no_run_outlives_its_test  # noqa: F401  # for real runs here
