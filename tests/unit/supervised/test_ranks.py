"""Ranks end together, and with whoever started them."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from tinylora_rl.supervised.ranks import run_ranks

REPOSITORY = Path(__file__).parents[3]
SLEEPER = "tests.unit.supervised.sleeper"
ENV = {"PYTHONPATH": str(REPOSITORY)}


def pids(folder: Path, num_ranks: int) -> list[int]:
    deadline_s = time.monotonic() + 60
    while time.monotonic() < deadline_s:
        texts = [path.read_text() for path in folder.glob("*.pid")]
        if len(texts) == num_ranks and all(texts):
            return [int(text) for text in texts]
        time.sleep(0.05)
    raise AssertionError(f"{num_ranks} ranks did not start")


def gone(pid: int) -> bool:
    return not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


@pytest.mark.parametrize("code", [0, 7])
def test_the_exit_code_is_the_ranks_and_none_is_left(tmp_path, code):
    arguments = [str(tmp_path), str(code), str(os.getpid())]
    assert run_ranks(SLEEPER, arguments, num_ranks=2, env=ENV) == code
    assert all(gone(int(path.read_text())) for path in tmp_path.glob("*.pid"))


def test_ranks_of_a_killed_run_are_gone(tmp_path):
    program = (
        "import os; from tinylora_rl.supervised.ranks import run_ranks; "
        f"arguments = [{str(tmp_path)!r}, 'wait', str(os.getpid())]; "
        f"run_ranks({SLEEPER!r}, arguments, num_ranks=2, env={{}})"
    )
    starter = subprocess.Popen([sys.executable, "-c", program], env={**os.environ, **ENV})
    ranks = pids(tmp_path, 2)
    os.kill(starter.pid, signal.SIGKILL)
    starter.wait()
    deadline_s = time.monotonic() + 10
    while not all(map(gone, ranks)) and time.monotonic() < deadline_s:
        time.sleep(0.05)
    assert all(map(gone, ranks))
