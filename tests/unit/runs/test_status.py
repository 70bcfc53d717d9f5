"""A run's directory tells how far the run got and how it ended."""

import subprocess
import sys

import pytest

from tinylora_rl.errors import ConfigError
from tinylora_rl.runs.directory import MetricsFile, exclusive
from tinylora_rl.runs.status import RecordedRun, is_active, last_step, read_status


def log_steps(directory, *steps: int) -> None:
    for step in steps:
        MetricsFile(directory / "metrics.jsonl").log({"reward": 1.0}, step)


def test_a_run_that_ends_well_is_finished(tmp_path):
    assert read_status(tmp_path) is None
    assert last_step(tmp_path) == 0
    with RecordedRun(tmp_path, "train") as recorded:
        recorded.expect(3)
        status = read_status(tmp_path)
        assert (status.state, status.exit_code, status.ended) == ("running", None, None)
        assert (status.verb, status.steps, status.total_steps) == ("train", 0, 3)
        log_steps(tmp_path, 1, 2, 3)
        recorded.exit_code = 0
    status = read_status(tmp_path)
    assert status.is_finished
    assert (status.state, status.exit_code, status.steps) == ("finished", 0, 3)
    assert status.started <= status.ended


@pytest.mark.parametrize(
    ("error", "state", "code"),
    [
        (KeyboardInterrupt(), "stopped", 75),
        (ConfigError("seed=x: no"), "failed", 2),
        (RuntimeError("out of memory"), "failed", 1),
    ],
)
def test_an_error_is_recorded_and_passes(tmp_path, error, state, code):
    def run():
        with RecordedRun(tmp_path, "sft"):
            log_steps(tmp_path, 1)
            raise error

    with pytest.raises(type(error)):
        run()
    status = read_status(tmp_path)
    assert (status.state, status.exit_code, status.steps) == (state, code, 1)
    assert not status.is_finished


def test_a_block_that_does_not_say_how_it_went_has_failed(tmp_path):
    with RecordedRun(tmp_path, "train"):
        pass
    assert (read_status(tmp_path).state, read_status(tmp_path).exit_code) == ("failed", 1)


def test_a_killed_run_says_running_and_holds_no_lock(tmp_path):
    code = (
        "import os, sys\n"
        "from pathlib import Path\n"
        "from tinylora_rl.runs.directory import exclusive\n"
        "from tinylora_rl.runs.status import RecordedRun\n"
        "run = Path(sys.argv[1])\n"
        "with exclusive(run), RecordedRun(run, 'train'):\n"
        "    print('up', flush=True); sys.stdin.read()\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        assert process.stdout.readline() == "up\n"
        assert is_active(tmp_path)
        process.kill()
    assert read_status(tmp_path).state == "running"
    assert not is_active(tmp_path)
    with exclusive(tmp_path):  # looking took no lock
        assert is_active(tmp_path)


def test_what_is_no_status_is_none(tmp_path):
    assert not is_active(tmp_path)
    for text in ("", "{", "[]", '{"state": "finished"}'):
        (tmp_path / "status.json").write_text(text)
        assert read_status(tmp_path) is None
