"""A sweep of real trainings, stopped and continued; and a sweep as jobs of a real Ray cluster."""

import dataclasses
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.training import REPOSITORY, environment
from tinylora_rl.runs.status import read_status

pytestmark = pytest.mark.e2e


def sweep(module: str, folder: Path, *overrides: str) -> list[str]:
    return [sys.executable, "-m", module, "-m", f"hydra.sweep.dir={folder}", *overrides]


def started(command: list[str], **variables: str) -> subprocess.Popen:
    return subprocess.Popen(
        command,
        cwd=REPOSITORY,
        env=environment(**variables),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def swept(command: list[str], timeout_s: float, **variables: str) -> tuple[int, str]:
    with started(command, **variables) as process:
        try:
            said, _ = process.communicate(timeout=timeout_s)
        except subprocess.TimeoutExpired:
            process.terminate()  # not kill: the sweep ends its point, too
            raise
    return process.returncode, said


@dataclasses.dataclass(frozen=True)
class Cluster:
    address: str
    variables: dict[str, str]  # what it takes to be let in


@pytest.fixture
def ray_cluster(tmp_path) -> Iterator[Cluster]:
    """A Ray cluster of one node, with a token of its own, which can import the tests."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    # Without these Ray takes the user's own token, if there is one
    variables = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(16)}
    said = tmp_path / "ray_start.txt"
    with said.open("w") as output:
        head = subprocess.Popen(
            [
                *(sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block"),
                *("--port=0", f"--dashboard-port={port}", "--include-dashboard=true"),
                *("--num-cpus=2", "--num-gpus=0", "--object-store-memory=100000000"),
                "--disable-usage-stats",
            ],
            env={
                **environment(**variables),
                "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            },
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        deadline_s = time.monotonic() + 90
        while "Ray runtime started" not in said.read_text():
            assert head.poll() is None, said.read_text()
            assert time.monotonic() < deadline_s, said.read_text()
            time.sleep(0.2)
        yield Cluster(f"http://127.0.0.1:{port}", variables)
    finally:
        head.terminate()  # with --block, the node's processes end with it
        try:
            head.wait(timeout=30)
        except subprocess.TimeoutExpired:
            os.killpg(head.pid, signal.SIGKILL)
            head.wait()


@pytest.mark.slow
def test_a_sweep_as_ray_jobs(tmp_path, ray_cluster):
    command = sweep(
        "tests.unit.sweeps.sweep_app",
        tmp_path / "sweeps",
        "+recipe=arithmetic_cpu",
        "seed=0",
        "adapter.u=1,4",
        "+counting.fails_at_u=4",
        "trainer.total_training_steps=2",
        "hydra/launcher=ray_jobs",
        f"hydra.launcher.address={ray_cluster.address}",
        "hydra.launcher.num_parallel=2",
        "hydra.launcher.poll_s=0.5",
    )
    nobody = {"RAY_AUTH_MODE": "disabled"}
    code, said = swept(command, timeout_s=120, **nobody)
    assert code == 3, said
    assert "the cluster wants a token; set RAY_AUTH_MODE=token" in said

    code, said = swept(command, timeout_s=120, **ray_cluster.variables)
    assert code == 1, said
    first, second = sorted((tmp_path / "sweeps" / "arithmetic_cpu").iterdir())
    assert read_status(first).is_finished
    assert read_status(second).state == "failed"
    assert "error: adapter.u=4: fails here" in (second / "console.txt").read_text()
    assert "1 finished, 1 failed; the same command continues" in said
    assert ray_cluster.variables["RAY_AUTH_TOKEN"] not in said

    code, said = swept(command, timeout_s=120, **ray_cluster.variables)
    assert "2 runs: 1 finished, 1 to do" in said


def test_without_a_cluster_a_sweep_says_so(tmp_path):
    code, said = swept(
        sweep(
            "tests.unit.sweeps.sweep_app",
            tmp_path,
            "+recipe=arithmetic_cpu",
            "seed=0,1",
            "hydra/launcher=ray_jobs",
            "hydra.launcher.address=http://127.0.0.1:9",
        ),
        timeout_s=120,
    )
    assert code == 3, said
    assert "no Ray cluster answers; give the address" in said
