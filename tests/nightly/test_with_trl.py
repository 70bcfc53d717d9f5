"""TRL's GRPOTrainer trains v through `register=True`; needs `pip install trl==1.16.0`."""

import ast
import importlib.util
import subprocess
import sys

import pytest

from tinylora_rl.sweeps.points import recipes_dir

SCRIPT = recipes_dir() / "with_trl" / "train.py"


def test_the_recipe_fits_a_page():
    assert len(SCRIPT.read_text().splitlines()) <= 40


@pytest.mark.skipif(importlib.util.find_spec("trl") is None, reason="TRL is not installed")
def test_trl_trains_thirteen_numbers(tmp_path):
    result = subprocess.run(
        [sys.executable, str(SCRIPT), "10"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )
    assert result.returncode == 0, result.stderr[-4000:]
    *_, rewards_line, v_line = result.stdout.splitlines()
    rewards = ast.literal_eval(rewards_line.removeprefix("rewards "))
    (v,) = ast.literal_eval(v_line.removeprefix("v "))
    assert len(rewards) == 10
    assert len(v) == 13
    assert max(map(abs, v)) > 0.02  # ten steps of 5e-3
    assert rewards[0] < 0.65  # the base is right half of the time
    assert sum(rewards[-3:]) / 3 > 0.75
