"""The doctor as a person starts it: what it says, its exit code, and that it leaves nothing."""

import os
import subprocess
import sys

import pytest
import torch

without_gpu = pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")


def consult(folder, verb: str, *overrides: str) -> tuple[int, str]:
    result = subprocess.run(
        [sys.executable, "-m", f"tinylora_rl.{verb}", *overrides],
        cwd=folder,
        env={**os.environ, "HF_ENDPOINT": "http://127.0.0.1:9"},  # out of reach, at once
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert "Traceback" not in result.stderr, result.stderr
    assert list(folder.iterdir()) == []
    return result.returncode, " ".join((result.stdout + result.stderr).split())


@without_gpu
def test_a_7b_run_without_gpus_is_refused_with_what_it_needs(tmp_path):
    code, printed = consult(tmp_path, "doctor", "+recipe=gsm8k_qwen7b_u13")
    assert code == 3
    for text in (
        "trains 13 numbers over 196 modules",
        "sync merged: 12.2 GiB a step to each of 8 rollout replicas",
        "GPUs 8 with 38.3 GiB of memory or more each (L40S, A100 80GB or H100, H200, B200)",
        "fail GPUs device=cuda: no GPU is visible here",
        "(torch sees 0 GPUs, Ray sees 0 GPUs, vLLM sees cpu)",
        "device=cpu model=tiny walks its whole path",
        "fail base model base_model.path=Qwen/Qwen2.5-7B-Instruct: not to be had",
        "warn verl's checks not looked at; fix what failed first",
    ):
        assert text in printed, printed


@without_gpu
def test_the_embedded_recipe_passes(tmp_path):
    code, printed = consult(tmp_path, "doctor", "+recipe=arithmetic_cpu")
    assert code == 0, printed
    assert "fail" not in printed
    for text in (
        "trains 13 numbers over 21 modules",
        "16 prompts x 8 samples = 128 responses",
        "pass devices torch sees 0 GPUs, Ray sees 0 GPUs, vLLM sees cpu",
        "pass data arithmetic: 2,048 training and 256 held-out rows",
        "pass verl takes the configuration",
    ):
        assert text in printed, printed


def test_a_wrong_configuration_ends_with_2_and_all_that_is_wrong(tmp_path):
    code, printed = consult(
        tmp_path, "train", "+recipe=arithmetic_cpu", "dry_run=true", "adapter.u=0", "sync.mode=x"
    )
    assert code == 2
    assert "fail configuration adapter.u=0" in printed
    assert "fail configuration sync.mode='x'" in printed


def test_a_sweep_is_looked_at_otherwise(tmp_path):
    code, printed = consult(tmp_path, "doctor", "-m", "+recipe=arithmetic_cpu", "seed=0,1")
    assert code == 2
    assert printed.startswith("error: dry_run=true: looks at one run")
    assert "hydra/launcher=plan" in printed
