"""The waits of verl's replay buffers end: with a batch, or with what is wrong.

Upstream: verl 0.9.1 polls for ever (trainer/ppo/v1/replay_buffer.py).
"""

import re
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def said() -> dict[tuple[str, str], tuple[float, str]]:
    """{(what was tried, the trainer's mode): (seconds, how the wait ended)}."""
    result = subprocess.run(
        [sys.executable, "-m", "tests.verl_plugin.watched_queue"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=240,
        check=True,
    )
    found = re.findall(
        r"^(stuck|slow|failed) (sync|separate_async) ([\d.]+) (.*)$", result.stdout, re.M
    )
    return {(case, mode): (float(seconds), text) for case, mode, seconds, text in found}


@pytest.mark.parametrize("mode", ["sync", "separate_async"])
def test_every_wait_ends(said, mode):
    seconds, text = said["stuck", mode]
    assert seconds >= 1
    assert "no prompt was finished within run.rollout_deadline_s=1, and 2 are waited for" in text
    assert said["slow", mode][1] == "sampled 1"  # trajectories: one prompt has one
    seconds, text = said["failed", mode]
    assert seconds < 10
    assert "1 prompts of this rollout failed, and nothing was trained on the others" in text
