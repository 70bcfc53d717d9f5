"""A dead actor ends a run that would wait for it for ever, under its name."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[3]


@pytest.mark.parametrize(
    ("victim", "name"),
    [("worker", "Worker"), pytest.param("runner", "Runner", marks=pytest.mark.slow)],
)
def test_a_dead_actor_ends_the_wait_and_is_named(victim, name):
    result = subprocess.run(
        [sys.executable, "-m", "tests.unit.training.watched_ray", victim],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    seconds = re.search(r"ended by ActorDiedError after (\d+) s", result.stdout)
    assert seconds, result.stdout + result.stderr
    assert int(seconds[1]) < 60
    assert re.search(rf"found {name} \(process \d+ on [\d.]+\) died: .*", result.stdout)
    assert "asked ['SIGUSR1']" in result.stdout
