"""The exported LoRA makes the same update, in PEFT's own hands."""

import json

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file

from tests.unit.artifact.conftest import arithmetic_model, farthest, logits, save_adapter
from tinylora_rl import artifact
from tinylora_rl.adapter import TinyLoraConfig
from tinylora_rl.tasks.arithmetic import base_model_dir

CONFIGS = {
    "13 numbers": TinyLoraConfig(),
    "13 groups": TinyLoraConfig(u=1, n_tie=2),
    "untied, rank 4": TinyLoraConfig(r=4, u=16, n_tie=1, svd_split="sqrt"),
    "two types": TinyLoraConfig(r=1, u=3, target_modules=("k_proj", "down_proj")),
}


@pytest.mark.parametrize("size", [1e-4, 0.3])
@pytest.mark.parametrize("name", CONFIGS)
def test_peft_computes_what_the_adapter_computes(tmp_path, name, size):
    directory, wanted = save_adapter(tmp_path / "adapter", CONFIGS[name], size=size)
    model = arithmetic_model()
    base = logits(model)
    out = artifact.export_peft_lora(directory, tmp_path / "lora", model=model)
    assert farthest(logits(model), base) == 0  # the model came back as it was
    got = logits(PeftModel.from_pretrained(model, out).eval())
    scale = max(float(one.abs().max()) for one in wanted)
    assert farthest(got, wanted) < 1e-5 * scale  # fp32, products in another order
    assert farthest(wanted, base) > 20 * farthest(got, wanted)  # and the update is really there


def test_padding_changes_the_rank_and_not_the_update(tmp_path):
    directory, wanted = save_adapter(tmp_path / "adapter", TinyLoraConfig())
    model = arithmetic_model()
    out = artifact.export_peft_lora(directory, tmp_path / "lora", model=base_model_dir(), rank=8)
    config = json.loads((out / "adapter_config.json").read_text())
    assert config["r"] == config["lora_alpha"] == 8
    assert config["base_model_name_or_path"] == "Qwen/Qwen2.5-7B-Instruct"
    tensors = load_file(out / "adapter_model.safetensors")
    assert len(tensors) == 2 * 21
    assert all(8 in tensor.shape for tensor in tensors.values())
    got = logits(PeftModel.from_pretrained(model, out).eval())
    assert farthest(got, wanted) < 1e-5 * max(float(one.abs().max()) for one in wanted)


def test_bf16_factors_keep_the_update_to_their_precision(tmp_path):
    directory, _ = save_adapter(tmp_path / "adapter", TinyLoraConfig(), size=1e-3)
    model = arithmetic_model()
    out = artifact.export_peft_lora(
        directory, tmp_path / "lora", model=model, dtype=torch.bfloat16, base_model="other/name"
    )
    tensors = load_file(out / "adapter_model.safetensors")
    with artifact.adapted(directory, model) as adapter:
        for name, (A_RI, B_OR) in adapter.lora_factors().items():
            A, B = (tensors[f"base_model.model.{name}.lora_{part}.weight"] for part in "AB")
            assert A.dtype == torch.bfloat16
            delta_OI = B_OR @ A_RI
            error = (B.float() @ A.float() - delta_OI).norm() / delta_OI.norm()
            assert error < 2**-8  # two factors, each rounded by at most 2^-9, at random
    config = json.loads((out / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == "other/name"


def test_what_cannot_be_exported_is_refused(tmp_path):
    directory, _ = save_adapter(tmp_path / "adapter", TinyLoraConfig())
    model = arithmetic_model()
    with pytest.raises(ValueError, match="rank=1: the adapter has r=2"):
        artifact.export_peft_lora(directory, tmp_path / "out", model=model, rank=1)
    with pytest.raises(ValueError, match="choose from float32, bfloat16"):
        artifact.export_peft_lora(directory, tmp_path / "out", model=model, dtype=torch.float16)
    with pytest.raises(ValueError, match="exists; give a new folder"):
        artifact.export_peft_lora(directory, directory, model=model)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["adapter"]
