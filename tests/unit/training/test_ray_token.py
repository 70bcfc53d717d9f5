"""A Ray that a run starts is for this machine and this user alone: real Ray, real sockets."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.unit.settings.trusting import (  # noqa: F401  # a fixture
    nothing_in_the_environment,
    on_cpu,
    on_gpus,
)
from tinylora_rl.training.ray_setup import (
    CLUSTERS_ALLOWED,
    close_own_ray,
    cluster_address,
    readable_by_others,
    token_file,
)

PROGRAM = """
import os, psutil
from tinylora_rl.settings.verl_sections import RayStart
from tinylora_rl.training.ray_setup import close_own_ray

close_own_ray(RayStart(address="local", storage_units=1))
import ray

ray.init(address="local", num_cpus=1, num_gpus=0, include_dashboard=False,
         object_store_memory=80_000_000, log_to_driver=False)
print("worker", ray.get(ray.remote(lambda: ray.util.get_node_ip_address()).remote()))
me = psutil.Process()
family = {process.pid for process in (me, *me.children(recursive=True))}
for connection in psutil.net_connections("inet"):
    if connection.status == "LISTEN" and connection.pid in family:
        print("listens", connection.laddr.ip)
print("mode", os.environ["RAY_AUTH_MODE"])
ray.shutdown()
"""


def test_it_listens_on_loopback_and_its_token_is_private(tmp_path):
    result = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env={**os.environ, "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    words = [line.split() for line in result.stdout.splitlines()]
    addresses = {word[1] for word in words if word[0] == "listens"}
    assert addresses
    assert addresses <= {"127.0.0.1", "::ffff:127.0.0.1", "::1"}
    # what verl's and TransferQueue's servers bind to
    assert ["worker", "127.0.0.1"] in words
    assert ["mode", "token"] in words
    token = tmp_path / ".ray" / "auth_token"
    assert token.stat().st_mode & 0o777 == 0o600
    assert re.fullmatch("[0-9a-f]{64}", token.read_text())


def test_a_token_that_is_there_stays(tmp_path, monkeypatch):
    monkeypatch.setenv(CLUSTERS_ALLOWED, "1")  # this process may have Ray already
    token = tmp_path / ".ray" / "auth_token"
    token.parent.mkdir()
    token.write_text("mine")
    close_own_ray(on_cpu().ray)
    assert token.read_text() == "mine"
    assert [path.name for path in token.parent.iterdir()] == ["auth_token"]


def test_a_cluster_is_left_as_it_is(tmp_path, monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:4242")
    assert cluster_address(on_gpus().ray) == "10.0.0.1:4242"
    assert cluster_address(on_cpu().ray) is None  # address: local
    close_own_ray(on_gpus().ray)
    assert CLUSTERS_ALLOWED not in os.environ
    assert not (tmp_path / ".ray").exists()


def test_without_a_cluster_gpus_get_a_ray_of_their_own():
    assert on_gpus().ray.address == "local"
    assert cluster_address(on_gpus().ray) is None


@pytest.mark.parametrize("name", ["RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"])
def test_a_token_from_elsewhere_is_left_alone(tmp_path, monkeypatch, name):
    monkeypatch.setenv(CLUSTERS_ALLOWED, "1")
    monkeypatch.setenv(name, str(tmp_path / "mine"))
    close_own_ray(on_cpu().ray)
    assert not list(tmp_path.iterdir())
    assert token_file() == (None if name == "RAY_AUTH_TOKEN" else tmp_path / "mine")


def test_readable_means_that_every_folder_lets_others_through():
    folder = Path("/tmp") / f"ray_access_{os.getpid()}"
    file = folder / "token"
    folder.mkdir()
    try:
        file.write_text("x")
        for folder_mode, mode, expected in (
            (0o755, 0o644, True),
            (0o755, 0o600, False),
            (0o700, 0o644, False),
            (0o750, 0o640, True),
            (0o711, 0o604, True),
        ):
            folder.chmod(folder_mode)
            file.chmod(mode)
            assert readable_by_others(file) is expected, (oct(folder_mode), oct(mode))
    finally:
        file.unlink()
        folder.rmdir()
    assert not readable_by_others(file)
