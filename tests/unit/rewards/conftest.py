import sys

import pytest

from tinylora_rl.rewards import JUDGES
from tinylora_rl.rewards.score import _check, _make_pool


@pytest.fixture(autouse=True, scope="module")
def no_plugins_left():
    """The judges and plugins of a test module end with it."""
    judges, modules = dict(JUDGES), set(sys.modules)
    yield
    for registered in JUDGES.keys() - judges:
        del JUDGES[registered]
    for name in sys.modules.keys() - modules:
        if name.startswith("tinylora_plugin_") or name.endswith(".broken_judges"):
            del sys.modules[name]
    for cached in (_check, _make_pool):
        cached.cache_clear()
