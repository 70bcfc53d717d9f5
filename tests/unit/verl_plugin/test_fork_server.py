"""The fork server, asked as Ray asks it: a command line, an environment, and three streams."""

import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tinylora_rl.verl_plugin.cpu.fork_server import fork_server

WORKER = """
import os, random, sys
torch = sys.modules.get("torch")
print(*sys.argv[1:], os.getcwd(), os.environ["COLOUR"], torch and torch.get_num_threads(), end=" ")
print(random.random())
print("to stderr", file=sys.stderr)
kind, what = sys.argv[1:]
sys.exit(int(what)) if kind == "exit" else os.kill(os.getpid(), int(what))
"""
FOREIGN = {
    "COLOUR": "red",
    "RAY_JOB_ID": "01000000",
    "OMP_NUM_THREADS": "3",
    "PATH": os.environ["PATH"],
}


@pytest.fixture(scope="module")
def python() -> Iterator[list[str]]:
    """The command that stands for Python; importing takes the server some 10 seconds."""
    with fork_server({"TORCHDYNAMO_DISABLE": "1"}) as command:
        yield shlex.split(command)


@pytest.fixture
def worker(tmp_path: Path) -> str:
    script = tmp_path / "worker.py"
    script.write_text(WORKER)
    return str(script)


def run(python: list[str], *arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*python, *arguments], cwd=cwd, env=FOREIGN, capture_output=True, text=True, timeout=120
    )


def test_a_worker_is_started_as_python_would_start_it(python, worker, tmp_path):
    done = run(python, worker, "exit", "7", cwd=tmp_path)
    *words, number = done.stdout.split()
    assert words == ["exit", "7", str(tmp_path), "red", "3"]
    assert done.stderr.startswith("to stderr\n")
    assert done.returncode == 7
    again = run(python, worker, "exit", "0", cwd=tmp_path)
    assert again.returncode == 0
    assert again.stdout.split()[-1] != number  # a fork shares no generator


def test_a_worker_that_a_signal_ends_ends_its_command_by_it(python, worker, tmp_path):
    for number in (signal.SIGKILL, signal.SIGTERM):
        done = run(python, worker, "signal", str(int(number)), cwd=tmp_path)
        assert done.returncode == -number


def test_without_a_server_the_worker_is_python_itself(worker, tmp_path):
    from tinylora_rl.verl_plugin.cpu import fork_client

    done = run(
        [sys.executable, "-I", "-S", fork_client.__file__, str(tmp_path / "nobody")],
        *(worker, "exit", "3"),
        cwd=tmp_path,
    )
    assert done.returncode == 3
    assert done.stdout.split()[:5] == ["exit", "3", str(tmp_path), "red", "None"]
    assert "imports for itself" in done.stderr


def test_the_server_ends_with_its_parent(tmp_path):
    parent = subprocess.run(
        [
            sys.executable,
            "-c",
            "import os\n"
            "from tinylora_rl.verl_plugin.cpu.fork_server import fork_server\n"
            "with fork_server({}) as command:\n"
            "    print(command.split()[-1], flush=True)\n"
            "    os.kill(os.getpid(), 9)",
        ],
        capture_output=True,
        text=True,
        timeout=240,  # its pipe is open until the server has imported and looked
    )
    address = parent.stdout.strip()
    assert parent.returncode == -signal.SIGKILL
    deadline = time.monotonic() + 240
    while Path(address).parent.exists() and time.monotonic() < deadline:
        time.sleep(0.2)
    assert not Path(address).parent.exists()
