"""Sizes that are counted from `ModelDims` are those of the real models."""

import json

import pytest
import torch
import yaml
from transformers import AutoModelForCausalLM

from tests.unit.base_model.published import (
    LORA_RANK_1,
    NUM_MODULES,
    NUM_PARAMETERS,
    published_config,
)
from tinylora_rl.adapter import TinyLoraConfig, find_targets
from tinylora_rl.adapter.config import TARGET_MODULES
from tinylora_rl.base_model import BaseModel
from tinylora_rl.base_model.dims import PUBLISHED, dims_in, dims_of, num_stored_parameters
from tinylora_rl.settings.compose import config_dir
from tinylora_rl.tasks.arithmetic import base_model_dir

MODELS = sorted(PUBLISHED)


def test_every_model_of_a_recipe_can_be_planned_without_the_hub():
    paths = {
        yaml.safe_load(file.read_text())["path"] for file in (config_dir() / "model").glob("*.yaml")
    }
    assert paths - {"${tiny_model_dir:}"} == set(PUBLISHED)  # which is a folder
    assert BaseModel(MODELS[0]).dims == PUBLISHED[MODELS[0]]


@pytest.mark.parametrize("model", MODELS)
def test_published_dims_have_the_models_numbers(model):
    dims = PUBLISHED[model]
    with torch.device("meta"):
        built = AutoModelForCausalLM.from_config(published_config(model))
    assert built.num_parameters() == NUM_PARAMETERS[model]
    # norms and biases are left out
    assert dims.num_parameters == pytest.approx(built.num_parameters(), rel=1e-3)
    assert dims.num_parameters < built.num_parameters()
    linears = dims.adapted(TARGET_MODULES)
    assert len(linears) == NUM_MODULES[model]
    config = TinyLoraConfig(u=1, n_tie=1)
    real = [built.get_submodule(target.name).weight.shape for target in find_targets(built, config)]
    assert sorted(linears) == sorted(map(tuple, real))
    if model in LORA_RANK_1:
        assert sum(map(sum, linears)) == LORA_RANK_1[model]


@pytest.mark.parametrize("model", MODELS)
def test_dims_are_read_from_a_transformers_configuration(model, tmp_path):
    published_config(model).save_pretrained(tmp_path)
    assert dims_in(tmp_path) == PUBLISHED[model]


def test_a_folders_dims_are_its_configurations(tmp_path):
    dims = dims_of("whatever it is called", base_model_dir())
    assert dims == dims_in(base_model_dir())
    stored = num_stored_parameters(base_model_dir())
    assert dims.num_parameters == pytest.approx(stored, rel=5e-3)  # a small model's norms
    assert str(dims) == "0.626M parameters"
    assert dims_in(tmp_path) is None
    stated = json.loads((base_model_dir() / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**stated, "num_experts": 8}))
    assert dims_in(tmp_path) is None
    (tmp_path / "config.json").write_text("[")
    assert dims_in(tmp_path) is None
