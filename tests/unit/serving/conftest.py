import pytest

from tests.one_thread import one_thread  # noqa: F401
from tests.unit.serving.made import make_adapters
from tinylora_rl.adapter import TinyLoraConfig


@pytest.fixture(scope="package")
def adapters(tmp_path_factory):
    """Adapters of several kinds: two of one family, one of another rank, one of one linear."""
    home = tmp_path_factory.mktemp("adapters")
    return {
        **make_adapters(home, ["one", "two"]),
        **make_adapters(home, ["wide"], TinyLoraConfig(r=4, u=3, n_tie=5), first_seed=7),
        **make_adapters(
            home, ["narrow"], TinyLoraConfig(u=2, target_modules=("q_proj",)), first_seed=8
        ),
    }
