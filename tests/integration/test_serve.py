"""`python -m tinylora_rl.serve` as a user starts it: adapters over HTTP, coming and going."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch

from tests.integration.training import REPOSITORY, environment
from tests.unit.artifact.conftest import arithmetic_prompts
from tests.unit.artifact.test_vllm import greedy
from tests.unit.serving.made import make_adapters, tiny_model
from tinylora_rl import artifact
from tinylora_rl.adapter import TinyLoraConfig
from tinylora_rl.tasks.arithmetic import base_model_dir

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.timeout(300),
    pytest.mark.skipif(torch.cuda.is_available(), reason="fp32 kernels and greedy ties differ"),
]

KEY = "key-of-this-test"
NUM_PROMPTS = 4
KINDS = {
    "shared": TinyLoraConfig(),
    "tied": TinyLoraConfig(u=4, n_tie=3),
    "wide": TinyLoraConfig(r=4, u=8, n_tie=7),
}


@dataclasses.dataclass
class Server:
    process: subprocess.Popen[str]
    url: str
    log: Path
    watched: Path

    def call(self, path: str, body: dict[str, Any] | None = None, key: str = KEY) -> tuple:
        """(status, what came back)."""
        request = urllib.request.Request(
            f"{self.url}{path}",
            data=None if body is None else json.dumps(body).encode(),
            headers={"Content-Type": "application/json", "Authorization": f"Bearer {key}"},
        )
        try:
            with urllib.request.urlopen(request, timeout=100) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            return error.code, json.loads(error.read())

    def greedy(self, model: str, prompt: list[int]) -> list[int]:
        status, answer = self.call(
            "/v1/completions",
            {
                "model": model,
                "prompt": prompt,
                "temperature": 0,
                "max_tokens": 48,
                "return_token_ids": True,
            },
        )
        assert status == 200, answer
        assert answer["model"] == model
        return answer["choices"][0]["token_ids"]

    def status_of(self, name: str, wanted: int, within_s: float = 60) -> dict[str, Any]:
        """What the server says of an adapter, once it says it with this status."""
        deadline = time.monotonic() + within_s
        while True:
            status, said = self.call(f"/v1/adapters/{name}")
            if status == wanted:
                return said
            assert time.monotonic() < deadline, (status, said, self.log.read_text()[-4000:])
            time.sleep(0.1)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def launch(folder: Path, *words: str) -> Server:
    """A server that is about to start."""
    port, log, watched = free_port(), folder / "log.txt", folder / "watched"
    watched.mkdir()
    with log.open("w") as file:
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", "tinylora_rl.serve", str(base_model_dir())),
                *words,
                *("--name", "base", "--watch", str(watched), "--port", str(port)),
            ],
            cwd=REPOSITORY,
            env=environment(VLLM_API_KEY=KEY, HF_HUB_OFFLINE="1"),
            stdout=file,
            stderr=subprocess.STDOUT,
            text=True,
        )
    return Server(process, f"http://127.0.0.1:{port}", log, watched)


def start(folder: Path, *words: str) -> Server:
    server = launch(folder, *words)
    deadline = time.monotonic() + 240
    while f"ready     {server.url}" not in server.log.read_text():
        assert server.process.poll() is None, server.log.read_text()[-4000:]
        assert time.monotonic() < deadline, server.log.read_text()[-4000:]
        time.sleep(0.2)
    return server


def stop(server: Server, number: int = signal.SIGTERM) -> int:
    """The exit code; nothing of the server is left."""
    family = [server.process, *psutil.Process(server.process.pid).children(recursive=True)]
    server.process.send_signal(number)
    code = server.process.wait(timeout=60)
    gone, alive = psutil.wait_procs(family[1:], timeout=20)
    assert not alive, gone
    return code


def merged_answers(
    adapters: dict[str, Path], prompts: list[list[int]]
) -> dict[str, list[list[int]]]:
    """{name: answers} of the base and of Hugging Face models whose weights are W + dW."""
    base, merged = tiny_model(), tiny_model()
    answers = {"base": greedy(base, prompts)}
    for name, directory in adapters.items():
        update = artifact.load_update(directory, base)
        merged.load_state_dict(dict(update.merge(base.state_dict().items())))
        answers[name] = greedy(merged, prompts)
    return answers


@pytest.fixture(scope="module")
def prompts() -> list[list[int]]:
    return arithmetic_prompts(NUM_PROMPTS)


@pytest.fixture(scope="module")
def adapters(tmp_path_factory) -> dict[str, Path]:
    home = tmp_path_factory.mktemp("adapters")
    made: dict[str, Path] = {}
    for first_seed, (kind, config) in enumerate(KINDS.items()):
        names = [f"{kind}-{number}" for number in range(4)]
        made |= make_adapters(home, names, config, first_seed=10 * first_seed)
    return made


@pytest.fixture(scope="module")
def server(adapters, tmp_path_factory) -> Iterator[Server]:
    """Twelve adapters, three kinds of them, and slots for four."""
    started = start(tmp_path_factory.mktemp("server"), *map(str, adapters.values()), "--slots", "4")
    yield started
    if started.process.poll() is None:
        assert stop(started) == 0, started.log.read_text()[-4000:]


def test_every_adapter_answers_as_its_merged_model(server, adapters, prompts):
    """The base among them, in the same batches; with fewer slots than adapters."""
    wanted = merged_answers(adapters, prompts)
    asked = [(model, number) for number in range(NUM_PROMPTS) for model in wanted]
    with ThreadPoolExecutor(len(asked)) as pool:
        answers = pool.map(lambda pair: server.greedy(pair[0], prompts[pair[1]]), asked)
        got = dict(zip(asked, answers, strict=True))
    differing = [pair for pair in asked if got[pair] != wanted[pair[0]][pair[1]]]
    assert not differing
    assert len({json.dumps(answers) for answers in wanted.values()}) == len(wanted)  # all unlike


def test_what_adapters_share_is_held_once(server):
    status, told = server.call("/v1/adapters")
    assert status == 200
    memory = told["memory"]
    assert memory["num_slots"] == 4
    assert memory["num_adapters"] == len(told["served"]) == 12
    assert memory["adapter_bytes"] == 4 * 21 * 4 * (2**2 + 2**2 + 4**2)  # R(v) in float32
    assert memory["shared_bytes"] < memory["slot_bytes"]  # one bank per rank, unpadded


def test_an_adapter_comes_goes_and_comes_back(server, tmp_path, prompts):
    made = make_adapters(tmp_path, ["late"], first_seed=77)
    wanted = merged_answers(made, prompts[:1])["late"][0]
    for _ in range(2):
        shutil.copytree(made["late"], server.watched / "late")
        assert server.status_of("late", 200)["num_parameters"] == 13
        assert server.greedy("late", prompts[0]) == wanted
        shutil.rmtree(server.watched / "late")
        server.status_of("late", 404)
        status, said = server.call("/v1/completions", {"model": "late", "prompt": prompts[0]})
        assert (status, said["error"]["param"]) == (404, "model")
    assert "withdrawn late" in server.log.read_text()


def test_a_tampered_adapter_is_refused_and_the_server_goes_on(server, adapters, prompts):
    mine = shutil.copytree(adapters["shared-0"], server.watched / "tampered")
    content = bytearray((mine / "adapter.safetensors").read_bytes())
    content[-3] ^= 1
    (mine / "adapter.safetensors").write_bytes(content)
    reason = server.status_of("tampered", 422)["error"]["message"]
    assert "payload_sha256 differs" in reason
    assert str(server.watched) not in reason
    assert f"refused {reason}" in server.log.read_text()
    status, _ = server.call("/v1/completions", {"model": "tampered", "prompt": prompts[0]})
    assert status == 404
    assert server.greedy("base", prompts[0])


def test_no_request_adds_an_adapter_or_passes_without_the_key(server, adapters):
    path = str(adapters["shared-0"])
    for route, body in {
        "/v1/load_lora_adapter": {"lora_name": "x", "lora_path": path},
        "/v1/adapters/x": {"path": path},
    }.items():
        status, _ = server.call(route, body)
        assert status in (404, 405)
    for route in ("/v1/adapters", "/v1/adapters/shared-0", "/v1/models"):
        assert server.call(route, key="wrong")[0] == 401


def test_the_client_asks_everybody(server):
    command = [sys.executable, "scripts/serve_client.py", "--url", server.url, "12+30"]
    asked = subprocess.run(
        command,
        cwd=REPOSITORY,
        env={**os.environ, "VLLM_API_KEY": KEY},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert asked.returncode == 0, asked.stderr
    assert asked.stdout.count("--- ") == 13


def test_a_taken_port_is_the_machines_fault(server):
    port = server.url.rpartition(":")[2]
    refused = subprocess.run(
        [*(sys.executable, "-m", "tinylora_rl.serve", str(base_model_dir())), "--port", port],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert refused.returncode == 3, refused.stderr
    assert "Address already in use; choose another --port" in refused.stderr


def test_a_signal_ends_it_with_nothing_left(server):
    assert stop(server) == 0, server.log.read_text()[-4000:]
    assert "Traceback" not in server.log.read_text()


@pytest.mark.slow
def test_a_dead_engine_is_a_failure(tmp_path):
    started = start(tmp_path)
    engines = psutil.Process(started.process.pid).children(recursive=True)
    largest = max(engines, key=lambda process: process.memory_info().rss)
    largest.kill()
    assert started.process.wait(timeout=60) == 1
    assert "error: the engine died" in started.log.read_text()


@pytest.mark.slow
def test_a_signal_before_it_is_ready_leaves_nothing_either(tmp_path):
    launched = launch(tmp_path)
    process = psutil.Process(launched.process.pid)
    while not process.children(recursive=True):  # the engine's, on its way
        assert launched.process.poll() is None, launched.log.read_text()[-4000:]
        time.sleep(0.05)
    assert stop(launched) == 75, launched.log.read_text()[-4000:]


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_hundred_adapters_answer_as_their_merged_models():
    checked = subprocess.run(
        [sys.executable, "scripts/bench/serving.py", "--check-only", "--counts", "100"],
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        text=True,
        timeout=540,
        check=False,
    )
    assert checked.returncode == 0, checked.stdout
    outcome = json.loads(checked.stdout.splitlines()[0])
    assert outcome["equal"] == outcome["answers"] == 4 * 101
    assert outcome["distinct_adapters"] > 90  # an answer is the adapter's own, not just any
