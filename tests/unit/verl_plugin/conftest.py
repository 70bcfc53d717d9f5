"""Upstream's import-time warnings are upstream's: verl and vLLM are imported once, here, with them
off.
"""

import subprocess
import sys
import warnings
from pathlib import Path

import pytest

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import tinylora_rl.verl_plugin.engine
    import tinylora_rl.verl_plugin.sync.rollout
    import tinylora_rl.verl_plugin.sync.worker_extension
    import tinylora_rl.verl_plugin.trainer  # noqa: F401

REPOSITORY = Path(__file__).parents[3]


@pytest.fixture(scope="session")
def real_queue() -> str:
    """What `real_queue.py` prints; its TransferQueue and Ray have a process of their own."""
    return subprocess.run(
        [sys.executable, "-m", "tests.unit.verl_plugin.real_queue"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=240,
        check=True,
    ).stdout
