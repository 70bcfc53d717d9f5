"""Three adapters and the base in one vLLM engine, through `python -m tinylora_rl.evaluate`."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from tests.integration.training import REPOSITORY, environment
from tinylora_rl import artifact
from tinylora_rl.adapter import TinyLoraConfig, inject
from tinylora_rl.evaluation.runner import key_of, read_items
from tinylora_rl.tasks.arithmetic import base_model_dir

pytestmark = pytest.mark.e2e

NUM_ROWS, NUM_SAMPLES = 96, 4
TOTAL = 4 * NUM_ROWS * (1 + NUM_SAMPLES)  # the base is always one of the policies


@pytest.fixture(scope="module")
def adapters(tmp_path_factory) -> dict[str, Path]:
    """Three adapters of different shapes and vectors, which change what the model says."""
    home = tmp_path_factory.mktemp("adapters")
    configs = {
        "shared": TinyLoraConfig(u=13),
        "tied": TinyLoraConfig(u=1, n_tie=3),
        "wide": TinyLoraConfig(r=4, u=8, n_tie=7),
    }
    for seed, (name, config) in enumerate(configs.items()):
        model = AutoModelForCausalLM.from_pretrained(base_model_dir(), dtype=torch.float32)
        adapter = inject(model, config)
        generator = torch.Generator().manual_seed(seed)
        adapter.v.data = torch.randn(adapter.v.shape, generator=generator) * 0.1
        artifact.save(adapter, home / name)
    return {name: home / name for name in configs}


def command(run_dir: Path, adapters: dict[str, Path], *overrides: str) -> list[str]:
    return [
        *(sys.executable, "-m", "tinylora_rl.evaluate", f"run.dir={run_dir}"),
        "benchmarks=[arithmetic]",
        f"data.rows={NUM_ROWS}",
        f"adapters=[{','.join(map(str, adapters.values()))}]",
        f"evaluate.samples={NUM_SAMPLES}",
        "evaluate.max_response_tokens=64",
        *overrides,
    ]


def evaluate(
    run_dir: Path, adapters: dict[str, Path], *overrides: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(run_dir, adapters, *overrides),
        cwd=REPOSITORY,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


@pytest.fixture(scope="module")
def stopped_and_continued(adapters, tmp_path_factory) -> tuple[Path, bytes]:
    """An evaluation killed half way and started again; what its file held when it was killed."""
    run_dir = tmp_path_factory.mktemp("evaluation") / "factors"
    process = subprocess.Popen(
        command(run_dir, adapters),
        cwd=REPOSITORY,
        env=environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    items = run_dir / "items.jsonl"
    deadline = time.monotonic() + 200
    while not items.exists() or items.read_bytes().count(b"\n") < TOTAL // 3:
        assert process.poll() is None, (run_dir / "log.txt").read_text()[-4000:]
        assert time.monotonic() < deadline
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    before = items.read_bytes()
    assert before.count(b"\n") < TOTAL
    result = evaluate(run_dir, adapters)
    log = (run_dir / "log.txt").read_text()[-4000:]
    assert result.returncode == 0, result.stdout + result.stderr + log
    assert "Traceback" not in result.stderr
    return run_dir, before


def test_a_killed_evaluation_continues_and_grades_nothing_twice(stopped_and_continued):
    run_dir, before = stopped_and_continued
    after = (run_dir / "items.jsonl").read_bytes()
    whole = before[: before.rfind(b"\n") + 1]
    assert after.startswith(whole)
    keys = [key_of(item) for item in read_items(run_dir / "items.jsonl")]
    assert len(keys) == len(set(keys)) == TOTAL


def test_every_adapter_is_compared_with_the_base(stopped_and_continued):
    run_dir, _ = stopped_and_continued
    results = json.loads((run_dir / "results.json").read_text())
    scores = results["scores"]
    assert {s["policy"] for s in scores} == {"base", "shared", "tied", "wide"}
    for score in scores:
        assert score["num_items"] == NUM_ROWS
        versus = score["judges"]["strict"]["against_base"]
        assert (versus is None) == (score["policy"] == "base")
    assert "| base |" in (run_dir / "results.md").read_text()
    assert (run_dir / "samples.html").stat().st_size > 10_000


def test_merged_weights_and_factors_agree_item_by_item(stopped_and_continued, adapters, tmp_path):
    result = evaluate(
        tmp_path / "merged", adapters, "evaluate.weights=merged", "evaluate.samples=0"
    )
    assert result.returncode == 0, result.stdout + result.stderr
    responses = [
        {key_of(item): item["response"] for item in read_items(folder / "items.jsonl")}
        for folder in (stopped_and_continued[0], tmp_path / "merged")
    ]
    greedy = {key: text for key, text in responses[0].items() if key.greedy}
    assert greedy == responses[1]
    by_policy = [
        [text for key, text in greedy.items() if key.policy == name] for name in ("base", *adapters)
    ]
    for one in range(4):
        for other in range(one):
            assert by_policy[one] != by_policy[other]  # the adapters do something, each its own


def test_a_sample_does_not_depend_on_what_is_asked_beside_it(stopped_and_continued, tmp_path):
    """Nor on a kill: the seed is what decides."""
    result = evaluate(tmp_path / "alone", {}, "evaluate.greedy=false", "evaluate.samples=2")
    assert result.returncode == 0, result.stdout + result.stderr
    before, alone = (
        {key_of(item): item["response"] for item in read_items(folder / "items.jsonl")}
        for folder in (stopped_and_continued[0], tmp_path / "alone")
    )
    assert len(alone) == 2 * NUM_ROWS
    assert {key: before[key] for key in alone} == alone


def test_another_plan_in_the_same_folder_is_refused(stopped_and_continued, adapters):
    result = evaluate(stopped_and_continued[0], adapters, "evaluate.seed=1")
    assert result.returncode == 2
    assert "holds another evaluation (sampling.seed=1 here, 0 there)" in result.stderr
