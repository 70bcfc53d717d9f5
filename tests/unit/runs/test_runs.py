"""What a person sees of a run, from a metrics file alone."""

import io
import json
import subprocess
import sys
import time

import numpy as np
import pytest

from tinylora_rl.runs.console import ProgressLines, closing_summary, progress_line
from tinylora_rl.runs.directory import MetricsFile, RunDirectory, read_metrics
from tinylora_rl.runs.figure import draw_reward


def step(reward: float, length: float) -> dict:
    return {
        "critic/score/mean": np.float32(reward),
        "response_length/mean": length,
        "tinylora/v_norm": 0.0123,
        "timing_s/step": 3.14,
    }


@pytest.fixture
def run(tmp_path) -> RunDirectory:
    run = RunDirectory(tmp_path)
    metrics = MetricsFile(run.metrics)
    metrics.log(
        {"val-core/arithmetic/acc/mean@2": 0.5, "val-core/arithmetic_greedy/acc/mean@1": 0.4}, 0
    )
    for index, reward in enumerate((0.4, 0.5, 0.9, 1.0), start=1):
        metrics.log(step(reward, 10.0 * index), index)
    metrics.log(
        {"val-core/arithmetic/acc/mean@2": 0.9, "val-core/arithmetic_greedy/acc/mean@1": 0.8}, 4
    )
    return run


def test_lines_of_one_step_are_merged_and_a_torn_line_is_passed_over(run):
    with run.metrics.open("a") as file:
        file.write('{"step": 5, "critic/sc')
    rows = read_metrics(run.metrics)
    assert [row["step"] for row in rows] == [0, 1, 2, 3, 4]
    assert rows[-1]["critic/score/mean"] == 1.0
    assert rows[-1]["val-core/arithmetic/acc/mean@2"] == 0.9
    assert all(json.loads(line) for line in run.metrics.read_text().splitlines()[:-1])


def test_a_torn_line_does_not_swallow_the_next_and_nothing_is_nan(run):
    with run.metrics.open("a") as file:
        file.write('{"step": 5, "critic/sc')
    MetricsFile(run.metrics).log({"reward/score": 0.5, "sync/survival": float("nan")}, 6)
    assert read_metrics(run.metrics)[-1] == {"step": 6, "reward/score": 0.5, "sync/survival": None}
    assert "NaN" not in run.metrics.read_text()


def test_a_step_is_one_line(run):
    rows = read_metrics(run.metrics)
    assert (
        progress_line(rows[1], 4) == "step    1/4   reward 0.400   length 10.0   |v| 0.0123   3.1 s"
    )
    assert (
        progress_line(rows[0], None) == "step    0   held-out sampled 0.500   held-out greedy 0.400"
    )


def test_progress_follows_the_file_and_skips_what_was_there(run):
    console = io.StringIO()
    with ProgressLines(run.metrics, console, 6):
        MetricsFile(run.metrics).log(step(0.7, 50), 5)
        time.sleep(0.1)
    assert console.getvalue() == "step    5/6   reward 0.700   length 50.0   |v| 0.0123   3.1 s\n"


def test_the_summary_tells_before_and_after(run):
    lines = "\n".join(closing_summary(run))
    assert "training reward   0.450 -> 0.950   (means of 2 steps)" in lines
    assert "response length   15.0 -> 35.0" in lines
    assert "held-out sampled  0.500 -> 0.900" in lines
    assert "held-out greedy   0.400 -> 0.800" in lines
    assert str(run.metrics) in lines
    assert str(run.figure) not in lines  # only what exists is named


def test_the_figure_is_drawn_once_there_is_a_step(run, tmp_path):
    assert draw_reward(run.metrics, run.figure, "test")
    assert run.figure.read_bytes().startswith(b"\x89PNG")
    assert not draw_reward(tmp_path / "none.jsonl", tmp_path / "none.png", "test")


def test_library_noise_goes_to_the_log_even_past_python(tmp_path):
    code = (
        "import os, sys\n"
        "from pathlib import Path\n"
        "from tinylora_rl.runs.console import library_noise_to\n"
        f"with library_noise_to(Path({str(tmp_path / 'log.txt')!r})) as console:\n"
        "    print('python noise'); os.write(1, b'raw noise\\n'); os.system('echo child noise "
        ">&2')\n"
        "    print('a step', file=console)\n"
        "print('the end')\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stdout == "a step\nthe end\n"
    assert result.stderr == ""
    log = (tmp_path / "log.txt").read_text()
    assert all(noise in log for noise in ("python noise", "raw noise", "child noise"))
