"""The numbers and bytes that a method counts are those of what is built and sent."""

from types import SimpleNamespace

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from tinylora_rl.adapter import TinyLoraConfig, empty_bank, find_targets
from tinylora_rl.adapter.config import TARGET_MODULES
from tinylora_rl.base_model.dims import PUBLISHED, dims_in
from tinylora_rl.methods import make_method
from tinylora_rl.planning.memory import sync_bytes
from tinylora_rl.tasks.arithmetic import base_model_dir


def test_a_bank_has_the_counted_bytes():
    adapter = TinyLoraConfig()
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(base_model_dir()))
    bank = empty_bank(model, find_targets(model, adapter), adapter, "cpu")
    real = sum(
        tensor.nbytes
        for factors in bank.values()
        for tensor in (factors.left_OR, factors.right_RI, factors.P_URR)
    )
    size = make_method("tinylora", {}).size(dims_in(base_model_dir()))
    assert size.bank_bytes == real
    assert (size.num_parameters, size.vector_bytes) == (13, 52)


@pytest.mark.parametrize(
    ("method", "options", "count", "what"),
    [
        (
            "lora",
            {"r": 1, "alpha": 2, "target_modules": TARGET_MODULES},
            2_523_136,
            "2,523,136 numbers over 196 modules: LoRA r=1",
        ),
        ("full", {}, 7_615_283_200, "all 7,615,283,200 numbers of the model"),
        (
            "tinylora",
            {"projection": "basis", "u": 4, "n_tie": 1},
            784,
            "784 numbers over 196 modules: TinyLoRA r=2 u=4 n_tie=1 tiled",
        ),
    ],
)
def test_every_method_counts_its_numbers(method, options, count, what):
    size = make_method(method, options).size(PUBLISHED["Qwen/Qwen2.5-7B-Instruct"])
    assert (size.num_parameters, size.what) == (count, what)


def test_a_sync_sends_the_bytes_that_the_weight_syncs_benchmark_counted():
    # the table of sync modes for a model of these sizes, bf16, u=13 shared by all modules
    dims = PUBLISHED["Qwen/Qwen2.5-0.5B-Instruct"]

    def sent(method: str, mode: str) -> int:
        experiment = SimpleNamespace(
            rollout=SimpleNamespace(dtype="bfloat16"),
            sync=SimpleNamespace(mode=mode, sleep_level=1),
        )
        return sync_bytes(experiment, dims, make_method(method, {}).size(dims))

    for mode, num_bytes in (("merged", 715_653_120), ("vector", 52), ("factors", 2_199_552)):
        assert sent("tinylora", mode) == num_bytes
    assert sent("full", "merged") == 2 * dims.num_parameters
