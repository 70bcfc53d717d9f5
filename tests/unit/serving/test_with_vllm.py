"""vLLM's own command line and CPU kernels, asked once in a process of their own."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.unit.artifact.test_vllm import ENVIRONMENT

LINES = {
    "plain": [],
    "more": ["--max-lora-rank", "64", "--lora-target-modules", "q_proj"],
    "middleware": ["--middleware", "theirs.Middleware"],
    "unknown": ["--nonsense"],
    "host": ["--host", "0.0.0.0"],
    "model": ["--model", "/models/other"],
    "positional": ["/models/other"],
    "remote code": ["--trust-remote-code"],
    "remote_code": ["--trust_remote_code"],
    "api key": ["--api-key", "secret"],
    "lora modules": ["--lora-modules", "x=/tmp/x"],
    "no lora": ["--no-enable-lora"],
    "extension": ["--worker-extension-cls", "os.path"],
    "servers": ["--api-server-count", "2"],
    "headless": ["--headless"],
}


def ask(folder: Path, **environment: str) -> dict:
    (folder / "lines.json").write_text(json.dumps(LINES))
    asked = subprocess.run(
        [
            *(sys.executable, "-m", "tests.unit.serving.ask_vllm"),
            *(str(folder / "lines.json"), str(folder / "told.json")),
        ],
        cwd=Path(__file__).parents[3],
        env={**os.environ, **ENVIRONMENT, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=300,
        check=False,
    )
    assert asked.returncode == 0, asked.stdout[-4000:]
    return json.loads((folder / "told.json").read_text())


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    return ask(tmp_path_factory.mktemp("told"))


def test_vllm_gives_the_base_an_adapter_on_a_cpu(told):
    """Fails when vLLM is fixed (vllm-project/vllm#48421): remove `keep_the_base_apart` then."""
    lora = told["lora"]
    assert lora["vllm"][0] != pytest.approx(lora["wanted"][0], abs=1e-3)


def test_patched_the_base_is_left_alone_and_adapters_are_as_before(told):
    lora = told["lora"]
    assert lora["patched"][0] == [0.0] * 4  # not a bit of any adapter
    assert lora["patched"][1:] == lora["vllm"][1:]
    for token in (1, 2):
        assert lora["patched"][token] == pytest.approx(lora["wanted"][token], abs=1e-5)


def test_our_arguments_are_vllms(told):
    assert told["parsed"]["plain"] == {
        "model": "/models/base",
        "served_model_name": ["base"],
        "host": "127.0.0.1",
        "dtype": "float32",
        "enable_chunked_prefill": False,
        "max_loras": 3,
        "max_rank": 8,
        "target_modules": ["k_proj", "q_proj"],
        "middleware": ["tinylora_rl.serving.app.AdapterMiddleware"],
    }


def test_what_is_passed_on_wins(told):
    more = told["parsed"]["more"]
    assert (more["max_rank"], more["target_modules"]) == (64, ["q_proj"])
    assert told["parsed"]["middleware"]["middleware"][0] == "theirs.Middleware"


@pytest.mark.parametrize(
    ("line", "fix"),
    [
        ("host", "before --"),
        ("model", "first argument"),
        ("positional", "first argument"),
        ("remote code", "no code"),
        ("remote_code", "no code"),
        ("api key", "VLLM_API_KEY"),
        ("lora modules", "before --"),
        ("no lora", "as LoRA"),
        ("extension", "taken"),
        ("servers", "behind a proxy"),
        ("headless", "serves nobody"),
    ],
)
def test_what_would_undo_the_server_is_refused(told, line, fix):
    assert fix in told["parsed"][line]["refused"]


def test_vllm_refuses_what_it_does_not_know(told):
    assert told["parsed"]["unknown"]["exit"] == 2
