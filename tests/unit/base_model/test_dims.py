"""Sizes that a plan counts from a shape are those of the real models."""

import json

import pytest
import torch
import yaml
from transformers import AutoConfig, AutoModelForCausalLM

from tests.unit.planning.planning import experiment
from tests.unit.recipes.shapes import LORA_RANK_1, NUM_MODULES, SHAPES, published_config
from tinylora_rl.adapter import TinyLoraConfig, empty_bank, find_targets
from tinylora_rl.adapter.config import TARGET_MODULES
from tinylora_rl.base_model.dims import PUBLISHED, dims_in, dims_of
from tinylora_rl.planning.cost import model_parameters
from tinylora_rl.planning.memory import sync_bytes
from tinylora_rl.settings.resolvers import config_dir
from tinylora_rl.tasks.arithmetic import base_model_dir

MODELS = sorted(PUBLISHED)


def test_every_model_of_a_recipe_can_be_planned_without_the_hub():
    paths = {
        yaml.safe_load(file.read_text())["path"] for file in (config_dir() / "model").glob("*.yaml")
    }
    assert paths - {"${tiny_model_dir:}"} == set(PUBLISHED)  # which is a folder


@pytest.mark.parametrize("model", MODELS)
def test_a_published_shape_has_the_models_numbers(model):
    shape = PUBLISHED[model]
    with torch.device("meta"):
        built = AutoModelForCausalLM.from_config(published_config(model))
    # norms and biases are left out
    assert shape.num_parameters == pytest.approx(built.num_parameters(), rel=1e-3)
    assert shape.num_parameters < built.num_parameters()
    linears = shape.adapted(TARGET_MODULES)
    assert len(linears) == NUM_MODULES[model]
    config = TinyLoraConfig(u=1, n_tie=1)
    real = [built.get_submodule(target.name).weight.shape for target in find_targets(built, config)]
    assert sorted(linears) == sorted(map(tuple, real))
    if model in LORA_RANK_1:
        assert sum(map(sum, linears)) == LORA_RANK_1[model]
    assert shape.context == SHAPES[model][1]["max_position_embeddings"]
    assert shape.is_tied == SHAPES[model][1]["tie_word_embeddings"]


def test_a_folders_shape_is_its_configurations(tmp_path):
    shape = dims_of("whatever it is called", base_model_dir())
    assert shape == dims_in(base_model_dir())
    stored = model_parameters(str(base_model_dir()))
    assert shape.num_parameters == pytest.approx(stored, rel=5e-3)  # a small model's norms
    assert str(shape) == "0.626M parameters"
    assert dims_in(tmp_path) is None
    stated = json.loads((base_model_dir() / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**stated, "num_experts": 8}))
    assert dims_in(tmp_path) is None
    (tmp_path / "config.json").write_text("[")
    assert dims_in(tmp_path) is None


def test_what_travels_is_what_the_weight_syncs_benchmark_counted():
    # README.md's table for a model of this shape, bf16, u=13 shared by all modules
    shape = PUBLISHED["Qwen/Qwen2.5-0.5B-Instruct"]
    for mode, num_bytes in (("merged", 715_653_120), ("vector", 52), ("factors", 2_199_552)):
        point = {"+recipe": "gsm8k_qwen0.5b", "adapter": "tinylora", "sync.mode": mode}
        run = experiment("train", point)
        assert sync_bytes(run, shape, run.method.size(shape)) == num_bytes
    whole = experiment("train", {"+recipe": "gsm8k_qwen0.5b", "adapter": "full"})
    assert sync_bytes(whole, shape, whole.method.size(shape)) == 2 * shape.num_parameters


def test_a_bank_has_the_counted_bytes():
    shape = dims_in(base_model_dir())
    adapter = TinyLoraConfig()
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(base_model_dir()))
    bank = empty_bank(model, find_targets(model, adapter), adapter, "cpu")
    real = sum(
        tensor.nbytes
        for factors in bank.values()
        for tensor in (factors.left_OR, factors.right_RI, factors.P_URR)
    )
    size = experiment("train", {"+recipe": "arithmetic_cpu"}).method.size(shape)
    assert size.bank_bytes == real
    assert (size.num_parameters, size.vector_bytes) == (13, 52)


@pytest.mark.parametrize(
    ("adapter", "count", "what"),
    [
        ("lora", 2_523_136, "2,523,136 numbers over 196 modules: LoRA r=1"),
        ("full", 7_615_283_200, "all 7,615,283,200 numbers of the model"),
        ("lora_xs", 784, "784 numbers over 196 modules: TinyLoRA r=2 u=4 n_tie=1 tiled"),
    ],
)
def test_peers_are_counted_too(adapter, count, what):
    run = experiment("train", {"+recipe": "gsm8k_qwen7b", "adapter": adapter})
    size = run.method.size(PUBLISHED["Qwen/Qwen2.5-7B-Instruct"])
    assert (size.num_parameters, size.what) == (count, what)
