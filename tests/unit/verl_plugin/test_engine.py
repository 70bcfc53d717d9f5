"""The engine under verl, with one rank and with two: FSDP2 over gloo, v replicated, its gradient
averaged.
"""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.unit.adapter.models import small_model
from tinylora_rl.tasks.arithmetic import base_model_dir

REPOSITORY = Path(__file__).parents[3]
ADAPTERS = {"shared": {"u": 13, "n_tie": "all"}, "untied": {"u": 2, "n_tie": 1}}


def save_base_model(directory: Path, *, tied_embeddings: bool) -> Path:
    model = small_model("qwen2")
    model.config.tie_word_embeddings = tied_embeddings
    if tied_embeddings:
        model.tie_weights()
    model.save_pretrained(directory)
    for file in base_model_dir().iterdir():
        if file.name.startswith(("tokenizer", "vocab", "merges", "chat_template")):
            shutil.copy(file, directory)
    return directory


@pytest.fixture(scope="module")
def base_model(tmp_path_factory) -> Path:
    """Embeddings not tied: every rank but 0 builds it on meta, as it would a 7B."""
    return save_base_model(tmp_path_factory.mktemp("base"), tied_embeddings=False)


def free_port() -> str:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return str(listener.getsockname()[1])


def run_ranks(world_size: int, spec: dict, out: Path) -> list[dict[str, torch.Tensor]]:
    out.mkdir(exist_ok=True)
    (out / "spec.json").write_text(json.dumps({**spec, "out": str(out)}))
    port = free_port()
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", "tests.unit.verl_plugin.engine_rank", str(out / "spec.json")],
            cwd=REPOSITORY,
            env={
                **os.environ,
                "RANK": str(rank),
                "WORLD_SIZE": str(world_size),
                "MASTER_ADDR": "127.0.0.1",
                "MASTER_PORT": port,
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in range(world_size)
    ]
    outputs = [process.communicate(timeout=300)[0] for process in processes]
    for process, output in zip(processes, outputs, strict=True):
        assert process.returncode == 0, output[-6000:]
    return [load_file(str(out / f"rank{rank}.safetensors")) for rank in range(world_size)]


@pytest.fixture(scope="module", params=ADAPTERS)
def runs(request, base_model, tmp_path_factory):
    out = tmp_path_factory.mktemp(request.param)
    spec = {"model": str(base_model), "adapter": ADAPTERS[request.param], "strategy": "fsdp2"}
    return request.param, run_ranks(1, spec, out / "one"), run_ranks(2, spec, out / "two"), out


def test_two_ranks_end_at_the_v_of_one(runs):
    _, (one,), two, _ = runs
    assert float(one["v"].abs().max()) > 0.01  # the steps went somewhere
    assert torch.equal(two[0]["v"], two[1]["v"])
    # the same sum in another order: fp32 rounding, amplified by Adam where a gradient is small
    torch.testing.assert_close(two[0]["v"], one["v"], rtol=0, atol=2e-6)
    torch.testing.assert_close(two[0]["grad_norms"], one["grad_norms"], rtol=1e-4, atol=0)


def test_the_optimiser_holds_v_and_nothing_else(runs):
    name, (one,), two, _ = runs
    count = {"shared": 13, "untied": 2 * 14}[name]
    for result in (one, *two):
        assert int(result["num_optimised"]) == count == result["v"].numel()
        assert float(result["v_norm_metric"]) == pytest.approx(float(result["v"].norm()), rel=1e-6)


def test_the_samples_of_an_update_are_reported(runs):
    _, _, _, out = runs
    for folder, num_samples in (("one", 8), ("two", 4)):  # of rank 0's share
        report = (out / folder / "progress.txt").read_text()
        assert re.fullmatch(rf"update \d/{num_samples}", report)


def test_what_is_not_finite_moves_v_on_no_rank_and_is_named_on_all(runs):
    name, _, _, out = runs
    groups = {"shared": "of all modules", "untied": "of group 13 of 14"}[name]
    for folder, rank in (("one", 0), ("two", 0), ("two", 1)):
        refused = json.loads((out / folder / f"refused{rank}.json").read_text())
        assert re.match(r"update 4: the loss of \d+ micro-batches is not finite", refused["loss"])
        assert f"update 4: the gradient {groups} is not finite" in refused["gradient"]
        first = {"shared": "of all modules", "untied": "of group 0 of 14"}[name]
        assert f"update 4: would make v {first} not finite" in refused["v"]


def test_merged_weights_are_base_plus_a_float64_reference(runs, base_model):
    name, (one,), two, _ = runs
    base = load_file(str(base_model / "model.safetensors"))
    from transformers import AutoModelForCausalLM

    from tinylora_rl.adapter import TinyLoraConfig, inject

    model = AutoModelForCausalLM.from_pretrained(base_model)
    adapter = inject(model, TinyLoraConfig(**ADAPTERS[name]))
    for target in adapter.targets:
        weight = base[target.weight_name].double()
        factors = adapter.bank[target.name]
        v = one["v"].double()[adapter.groups[target.name]]
        R = torch.tensordot(v, factors.P_URR.double(), dims=1)
        true = weight + factors.left_OR.double() @ R @ factors.right_RI.double()
        for result in (one, *two):
            merged = result[f"merged.{target.weight_name}"].double()
            torch.testing.assert_close(merged, true, rtol=1e-5, atol=2e-6)
            assert not torch.equal(merged, weight)


def test_the_settings_of_the_gpu_recipe_train_too(tmp_path):
    """bf16 base, gradient checkpointing, no resharding, offload, tied embeddings: as on GPUs."""
    spec = {
        "model": str(save_base_model(tmp_path / "base", tied_embeddings=True)),
        "adapter": ADAPTERS["shared"],
        "strategy": "fsdp2",
        "dtype": "bf16",
        "checkpointing": True,
        "reshard_after_forward": False,
        "offload": True,
    }
    one, two = run_ranks(1, spec, tmp_path / "one"), run_ranks(2, spec, tmp_path / "two")
    for result in (*one, *two):
        assert result["v"].dtype == torch.float32
        assert torch.equal(result["resumed"], result["undisturbed"])
    assert torch.equal(two[0]["v"], two[1]["v"])
    v, other = one[0]["v"], two[0]["v"]
    assert float(v.abs().max()) > 0.005
    # bf16 activations differ with the micro-batch (2^-8 each); Adam's early steps are nearly signs
    cosine = torch.nn.functional.cosine_similarity(v.flatten(), other.flatten(), dim=0)
    assert float(cosine) > 0.9


def test_the_reference_policy_is_the_base_and_the_actor_is_not(runs):
    _, (one,), _, _ = runs
    difference = (one["log_probs"] - one["reference_log_probs"]).abs().max()
    assert float(difference) > 1e-3


def test_a_checkpoint_brings_back_everything(runs):
    _, ones, twos, out = runs
    for results in (ones, twos):
        for result in results:
            assert torch.equal(result["reloaded_v"], result["v"])
            assert torch.equal(result["resumed"], result["undisturbed"])
    files = [file for file in (out / "two" / "checkpoint").rglob("*") if file.is_file()]
    assert sum(file.stat().st_size for file in files) < 100_000


def test_a_checkpoint_of_another_number_of_ranks_or_adapter_is_refused(runs, base_model, tmp_path):
    name, _, _, out = runs
    spec = {"model": str(base_model), "adapter": ADAPTERS[name], "strategy": "fsdp2"}
    code = (
        "import json, os, sys, torch.distributed as dist\n"
        "from tests.unit.verl_plugin.engine_rank import build_engine\n"
        "dist.init_process_group('cpu:gloo', rank=0, world_size=1)\n"
        "engine = build_engine(json.loads(sys.argv[1]))\n"
        "for path in sys.argv[2:]:\n"
        "    try:\n"
        "        engine.load_checkpoint(path)\n"
        "    except ValueError as error:\n"
        "        print('refused:', error)\n"
    )
    other = "untied" if name == "shared" else "shared"
    other_spec = {**spec, "adapter": ADAPTERS[other]}
    results = []
    for this in (spec, other_spec):
        results.append(
            subprocess.run(
                [sys.executable, "-c", code, json.dumps(this), str(out / "two" / "checkpoint")],
                cwd=REPOSITORY,
                env={**os.environ, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": free_port()},
                capture_output=True,
                text=True,
                timeout=300,
                check=True,
            ).stdout
        )
    assert "was saved by 2 ranks, this run has 1" in results[0]
    assert "was saved with adapter" in results[1]


def test_fsdp1_on_a_cpu_is_refused_in_one_line(base_model, tmp_path):
    spec = {
        "model": str(base_model),
        "adapter": ADAPTERS["shared"],
        "strategy": "fsdp",
        "out": str(tmp_path),
    }
    (tmp_path / "spec.json").write_text(json.dumps(spec))
    result = subprocess.run(
        [sys.executable, "-m", "tests.unit.verl_plugin.engine_rank", str(tmp_path / "spec.json")],
        cwd=REPOSITORY,
        env={
            **os.environ,
            "RANK": "0",
            "WORLD_SIZE": "1",
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": free_port(),
        },
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert result.returncode != 0
    assert (
        "actor.strategy=fsdp: torch's FSDP1 synchronises no CPU module; use actor.strategy=fsdp2"
        in result.stderr
    )
