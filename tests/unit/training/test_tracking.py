"""W&B out of reach: a line and an offline record, not a minute's wait and an error."""

import os
import socket
import time

import pytest

from tests.unit.supervised.conftest import make  # noqa: F401
from tinylora_rl.training.tracking import prepare_tracking, unreachable

WANDB = ("WANDB_MODE", "WANDB_DIR", "WANDB_FINISH_TIMEOUT", "WANDB_BASE_URL")


@pytest.fixture(autouse=True)
def no_wandb(monkeypatch):
    for name in (*WANDB, "http_proxy", "HTTP_PROXY"):
        # set first: what the code under test sets is undone, too
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)


def closed_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def test_nobody_there_means_offline_and_a_line(make, tmp_path, monkeypatch):  # noqa: F811
    url = f"http://127.0.0.1:{closed_port()}"
    monkeypatch.setenv("WANDB_BASE_URL", url)
    run = make("train", "+recipe=arithmetic_cpu", "trainer.logger=[console,wandb]")
    start_s = time.monotonic()
    env_vars, [line] = prepare_tracking(run.tracking, tmp_path)
    assert time.monotonic() - start_s < 6
    assert f"{url} is not reachable (Connection refused): recording offline" in line
    assert f"wandb sync {tmp_path}/wandb/offline-run-*" in line
    assert os.environ["WANDB_MODE"] == "offline"
    tree = run.for_verl(env_vars=env_vars)
    assert tree.ray_kwargs.ray_init.runtime_env.env_vars.WANDB_MODE == "offline"


def test_workers_of_a_cluster_get_it_too(make, tmp_path, monkeypatch):  # noqa: F811
    monkeypatch.setenv("WANDB_BASE_URL", f"http://127.0.0.1:{closed_port()}")
    run = make("train", "+recipe=gsm8k_qwen7b_u13", "trainer.logger=[wandb]")
    assert not run.ray.env_vars
    env_vars, _ = prepare_tracking(run.tracking, tmp_path)
    assert run.for_verl(env_vars=env_vars).ray_kwargs.ray_init.runtime_env.env_vars == {
        "WANDB_DIR": str(tmp_path),
        "WANDB_FINISH_TIMEOUT": "120",
        "WANDB_MODE": "offline",
    }


def test_a_server_that_answers_is_used(make, tmp_path, monkeypatch):  # noqa: F811
    with socket.create_server(("127.0.0.1", 0)) as server:
        monkeypatch.setenv("WANDB_BASE_URL", f"http://127.0.0.1:{server.getsockname()[1]}")
        run = make("train", "+recipe=arithmetic_cpu", "trainer.logger=[console,wandb]")
        assert prepare_tracking(run.tracking, tmp_path)[1] == []
        assert "WANDB_MODE" not in os.environ
        # a connection that is lost later does not keep the run from ending
        assert os.environ["WANDB_FINISH_TIMEOUT"] == "120"


@pytest.mark.parametrize("mode", ["offline", "disabled"])
def test_who_wants_no_server_is_not_kept_waiting(make, tmp_path, monkeypatch, mode):  # noqa: F811
    monkeypatch.setenv("WANDB_BASE_URL", f"http://127.0.0.1:{closed_port()}")
    run = make("train", "+recipe=arithmetic_cpu")
    assert prepare_tracking(run.tracking, tmp_path) == ({}, [])  # not among the loggers
    monkeypatch.setenv("WANDB_MODE", mode)
    run = make("train", "+recipe=arithmetic_cpu", "trainer.logger=[wandb]")
    assert prepare_tracking(run.tracking, tmp_path) == ({}, [])


def test_a_name_that_does_not_resolve_is_unreachable():
    assert unreachable("https://no-such-host.invalid")
