"""The waits of verl's replay buffers end: with a batch, or with what is wrong.

Upstream: verl 0.9.1 polls for ever (trainer/ppo/v1/replay_buffer.py).
"""

import re

import pytest


@pytest.fixture(scope="module")
def said(real_queue: str) -> dict[tuple[str, str], tuple[float, str]]:
    """{(what was tried, the trainer's mode): (seconds, how the wait ended)}."""
    found = re.findall(
        r"^(stuck|slow|failed) (sync|separate_async) ([\d.]+) (.*)$", real_queue, re.M
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


@pytest.mark.parametrize("mode", ["sync", "separate_async"])
def test_finished_prompts_are_reported(real_queue, mode):
    assert f"progress {mode} rollout 1/3\n" in real_queue  # of the wait that got stuck
