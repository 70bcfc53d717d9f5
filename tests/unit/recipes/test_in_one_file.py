"""The script of one page and the verl path are one algorithm: same samples, same step of v."""

import importlib.util
import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from tinylora_rl.adapter import TinyLoraConfig, inject
from tinylora_rl.sweeps.points import recipes_dir
from tinylora_rl.tasks import make_task
from tinylora_rl.tasks.arithmetic import base_model_dir

REPOSITORY = Path(__file__).parents[3]
SCRIPT = recipes_dir() / "in_one_file" / "grpo.py"
NUM_PROMPTS, NUM_SAMPLES, NUM_STEPS = 4, 4, 3
# one model in fp32, its rows padded and batched in two ways; seen: 3e-6 in log-probs and weights
CLOSE = {"rtol": 0, "atol": 1e-5}


@pytest.fixture(scope="module")
def grpo():
    spec = importlib.util.spec_from_file_location("grpo_in_one_file", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def policy():
    """Model, adapter with v != 0, tokenizer."""
    tokenizer = AutoTokenizer.from_pretrained(base_model_dir())
    model = AutoModelForCausalLM.from_pretrained(base_model_dir(), dtype=torch.float32).eval()
    adapter = inject(model, TinyLoraConfig(r=2, u=13, n_tie="all"))
    adapter.v.data.copy_(0.02 * torch.randn(1, 13, generator=torch.Generator().manual_seed(1)))
    return model, adapter, tokenizer


@pytest.fixture(scope="module")
def samples(grpo, policy) -> dict[str, torch.Tensor]:
    """Sampled by the script's sampler; then their log-probs are made those of another policy."""
    model, adapter, tokenizer = policy
    generator = torch.Generator().manual_seed(2)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        questions = make_task("arithmetic", {"train_rows": NUM_PROMPTS}).rows("train")
        ids, attention, sampled = grpo.sample(model, tokenizer, questions, NUM_SAMPLES)
    mask = attention[:, -sampled.shape[1] :].contiguous()
    rewards = torch.randint(0, 2, (NUM_PROMPTS, NUM_SAMPLES), generator=generator).float()
    rewards[:, 0], rewards[:, 1] = 0, 1
    rewards[1] = 1  # a group without spread
    return {
        "ids": ids,
        "attention": attention,
        "mask": mask,
        "sampled": (sampled + 0.5 * torch.randn(sampled.shape, generator=generator)) * mask,
        "rewards": rewards.flatten(),
        "v": adapter.v.detach().clone(),
    }


@pytest.fixture(scope="module")
def verl_steps(samples, tmp_path_factory) -> dict[str, torch.Tensor]:
    folder = tmp_path_factory.mktemp("verl")
    save_file(samples, folder / "batch.safetensors")
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    spec = {
        "model": str(base_model_dir()),
        "adapter": {"r": 2, "u": 13, "n_tie": "all"},
        "strategy": "fsdp2",
        "optimizer": {"lr": 5e-3, "lr_scheduler_type": "constant", "lr_warmup_steps": 0},
        "samples": NUM_SAMPLES,
        "steps": NUM_STEPS,
        "pad_token_id": AutoTokenizer.from_pretrained(base_model_dir()).pad_token_id,
        "batch": str(folder / "batch.safetensors"),
        "out": str(folder / "steps.safetensors"),
    }
    (folder / "spec.json").write_text(json.dumps(spec))
    result = subprocess.run(
        [sys.executable, "-m", "tests.unit.recipes.verl_steps", str(folder / "spec.json")],
        cwd=REPOSITORY,
        env={
            **os.environ,
            "RANK": "0",
            "WORLD_SIZE": "1",
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(port),
        },
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert result.returncode == 0, (result.stdout + result.stderr)[-6000:]
    return load_file(folder / "steps.safetensors")


def test_on_the_same_samples_verl_takes_the_same_steps(grpo, policy, samples, verl_steps):
    model, adapter, _ = policy
    mask, sampled = samples["mask"], samples["sampled"]
    lengths = mask.sum(1)
    assert len(set(lengths.tolist())) > 3
    optimizer = torch.optim.Adam([adapter.v], lr=grpo.LEARNING_RATE)
    for number in range(NUM_STEPS):
        theirs = {
            name: verl_steps[f"{number}.{name}"]
            for name in ("log_probs", "advantages", "weights", "gradient", "v")
        }
        log_probs = grpo.log_probs(model, samples["ids"], samples["attention"], mask.shape[1])
        advantages = grpo.advantages(samples["rewards"], NUM_SAMPLES)
        weights = grpo.importance_weights(log_probs, sampled, mask)
        if number == 0:  # the cases that the comparison is about are there
            assert (weights == grpo.WEIGHT_CAP).any()
            assert ((weights - 1).abs()[mask.bool()] > 0.01).float().mean() > 0.9
            assert (advantages[NUM_SAMPLES : 2 * NUM_SAMPLES] == 0).all()
            assert (advantages[:NUM_SAMPLES].abs() > 0.1).all()
        width = theirs["log_probs"].shape[1]
        for ours, name in (
            (log_probs.detach() * mask, "log_probs"),
            (advantages[:, None] * mask, "advantages"),
            (weights, "weights"),
        ):
            torch.testing.assert_close(ours[:, :width], theirs[name][:-1], **CLOSE)
        for name in ("advantages", "weights"):  # of the row of padding
            assert not theirs[name][-1].any()
        grpo.update(adapter.v, optimizer, grpo.policy_loss(log_probs, advantages, weights, mask))
        # Adam's first steps are nearly signs; the gradient shows what they hide
        torch.testing.assert_close(adapter.v.grad, theirs["gradient"], **CLOSE)
        torch.testing.assert_close(adapter.v.detach(), theirs["v"], **CLOSE)
        assert (adapter.v.detach() - samples["v"]).abs().max() > 1e-3


def test_the_script_trains_and_draws(grpo, tmp_path, capsys):
    rewards = grpo.train(2, tmp_path / "reward.png")
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[:2] for line in lines] == [["step", "1"], ["step", "2"]]
    assert all(0 < reward < 1 for reward in rewards)
    assert (tmp_path / "reward.png").read_bytes().startswith(b"\x89PNG")
    assert len(SCRIPT.read_text().splitlines()) < 200
