"""vLLM workers that merge for themselves: what they hold, at one and two tensor ranks."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.unit.artifact.conftest import arithmetic_model, arithmetic_prompts
from tests.unit.artifact.test_vllm import ENVIRONMENT
from tinylora_rl.adapter import CheckpointWeights, TinyLoraConfig, build_bank, inject, targets_of
from tinylora_rl.adapter.bank import bank_to_bytes
from tinylora_rl.tasks.arithmetic import base_model_dir
from tinylora_rl.verl_plugin.sync.deadline import SyncError
from tinylora_rl.verl_plugin.sync.verify import ExpectedReceipt, Verifier

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.timeout(300),
    pytest.mark.skipif(torch.cuda.is_available(), reason="two CPU ranks; fp32 kernels differ"),
]
REPOSITORY = Path(__file__).parents[3]
CONFIG = TinyLoraConfig(u=3, n_tie=5)
NUM_STEPS = 500


@pytest.fixture(
    scope="module",
    params=[pytest.param(1, marks=pytest.mark.slow), 2],
    ids=["one_worker", "two_workers"],
)
def held(request, tmp_path_factory, adapters):
    """(task, what the workers told, adapter on the Hugging Face model)."""
    folder = tmp_path_factory.mktemp("hold")
    base = CheckpointWeights(base_model_dir())
    model = arithmetic_model()
    adapter = inject(model, CONFIG, bank=build_bank(base, targets_of(base.names(), CONFIG), CONFIG))
    (folder / "bank").write_bytes(bank_to_bytes(adapter.bank))
    generator = torch.Generator().manual_seed(3)
    vectors = [torch.zeros_like(adapter.v.data)] + [
        torch.randn(adapter.v.shape, generator=generator) * size for size in (0.01, 0.1)
    ]
    task = {
        "dtype": "float32",
        "bank": str(folder / "bank"),
        "settings": {"groups": adapter.groups},
        "prompts": [list(ids) for ids in arithmetic_prompts(4)],
        "vectors": [v.tolist() for v in vectors],
        "num_steps": NUM_STEPS,
        "adapters": [
            str(adapters[name]) if name else None
            for name in ("one", "narrow", None, "wide", "narrow", "one", None)
        ],
    }
    (folder / "task.json").write_text(json.dumps(task))
    finished = subprocess.run(
        [
            sys.executable,
            "-m",
            "tests.unit.vllm_plugin.load_policies",
            *map(str, (base_model_dir(), request.param, folder / "task.json", folder / "out.json")),
        ],
        cwd=REPOSITORY,
        env={
            **os.environ,
            **ENVIRONMENT,
            "PYTHONPATH": str(REPOSITORY),
            "OMP_NUM_THREADS": "1",  # workers that wait for each other spin
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=280,
        check=False,
    )
    assert finished.returncode == 0, finished.stdout[-6000:]
    return request.param, task, json.loads((folder / "out.json").read_text()), model, adapter


def proof(adapter) -> Verifier:
    return Verifier(
        adapter.bank,
        adapter.groups,
        CheckpointWeights(base_model_dir()),
        dtype=torch.float32,
        rounded="nearest",
    )


@torch.no_grad()
def test_the_sampler_is_the_policy(held):
    _, task, told, model, adapter = held
    base = None
    for v, entry in zip(task["vectors"], told["held"], strict=True):
        adapter.v.data.copy_(torch.tensor(v))
        for ids, log_probs in zip(task["prompts"], entry["log_probs"], strict=True):
            tokens = torch.tensor([ids])
            logits = model(tokens).logits.float().log_softmax(-1)
            wanted = logits[0, :-1].gather(-1, tokens[0, 1:, None])[:, 0]
            # fp32 sums in another order: 1e-7 of logits of about 20, over three layers
            assert torch.tensor(log_probs) == pytest.approx(wanted, abs=2e-4)
        base = base or entry["log_probs"]
    far = torch.tensor(told["held"][-1]["log_probs"][0]) - torch.tensor(base[0])
    assert far.abs().mean() > 0.05, "the last v must change the policy for this to mean anything"


def test_every_worker_proves_what_it_holds(held):
    num_workers, task, told, _, adapter = held
    for version, (v, entry) in enumerate(zip(task["vectors"], told["held"], strict=True)):
        assert len(entry["receipts"]) == num_workers
        ExpectedReceipt(policy_version=version).check(entry["receipts"])
        measured = proof(adapter).check(entry["receipts"], torch.tensor(v))
        if version:
            assert measured["sync/held_share"] == pytest.approx(1, abs=1e-4)
            assert measured["sync/held_resolution"] < 1e-3
    rows = [entry["rows"] for r in told["held"][0]["receipts"] for entry in r["measurements"]]
    assert all(rows), "a worker that no row speaks for proves nothing"


def test_adapters_come_and_go_and_leave_the_base_bit_for_bit(held):
    """Of different ranks and modules: those that the next one does not adapt are the base's."""
    _, _, told, _, _ = held
    one, narrow, base, wide, narrow_again, one_again, base_again = told["adapters"]
    assert base == base_again == told["base"]
    assert (narrow, one) == (narrow_again, one_again)
    assert len({json.dumps(digests) for digests in (base, one, narrow, wide)}) == 4


def test_five_hundred_syncs_leave_what_one_leaves(held):
    _, _, told, _, _ = held
    assert told["after_walk"] == told["held"][-1]["digests"]
    assert told["after_walk"] != told["held"][0]["digests"]


@pytest.mark.parametrize(
    ("fault", "says"),
    [("twice", r": 2 of the way"), ("ignored", r"of the way .* \(must be 1\)")],
)
def test_a_worker_with_other_weights_is_found_and_named(held, fault, says):
    _, task, told, _, adapter = held
    receipts, v = told[fault], torch.tensor(task["vectors"][-1])
    ExpectedReceipt(policy_version=2).check(receipts)  # by its word alone all is well
    with pytest.raises(SyncError, match=says) as caught:
        proof(adapter).check(receipts, v)
    assert receipts[0]["worker"] in str(caught.value)


def test_the_previous_v_is_found(held):
    _, task, told, _, adapter = held
    receipts = told["held"][1]["receipts"]  # truthful, of version 1
    with pytest.raises(SyncError, match="weights are another's"):
        proof(adapter).check(receipts, torch.tensor(task["vectors"][2]))
    with pytest.raises(SyncError, match="holds policy version 1, the trainer sent"):
        ExpectedReceipt(policy_version=2).check(receipts)


def test_a_worker_that_came_back_says_that_it_holds_nothing(held):
    _, _, told, _, _ = held
    assert all(not receipt["has_factors"] for receipt in told["restarted"])
    with pytest.raises(SyncError, match="holds policy version None"):
        ExpectedReceipt(policy_version=2).check(told["restarted"])
