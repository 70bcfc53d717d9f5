"""The merged model is an ordinary one, and says what rounding left of the update."""

import json

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from tests.unit.artifact.conftest import arithmetic_model, farthest, logits, save_adapter
from tinylora_rl import artifact
from tinylora_rl.adapter import TinyLoraConfig
from tinylora_rl.tasks.arithmetic import base_model_dir


def test_merged_in_fp32_it_computes_what_the_adapter_computes(tmp_path):
    directory, wanted = save_adapter(tmp_path / "adapter", TinyLoraConfig(), size=0.3)
    model = arithmetic_model()
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    survival = artifact.export_merged(
        directory, tmp_path / "out", model=model, tokenizer_dir=base_model_dir()
    )
    assert survival.share == pytest.approx(1, abs=1e-4)
    assert all(torch.equal(model.state_dict()[name], before[name]) for name in before)

    merged = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    assert merged.dtype == torch.float32
    got = logits(merged.eval())
    assert farthest(got, wanted) < 1e-5 * max(float(one.abs().max()) for one in wanted)
    assert len(merged.state_dict()) == len(before)
    text = "What is 1+2?"
    tokenizers = (
        AutoTokenizer.from_pretrained(path) for path in (base_model_dir(), merged.name_or_path)
    )
    one, other = (tokenizer(text)["input_ids"] for tokenizer in tokenizers)
    assert one == other
    assert merged.generation_config.eos_token_id == model.generation_config.eos_token_id


@pytest.mark.parametrize("rounding", ["nearest", "stochastic"])
def test_bf16_weights_are_exactly_the_adapters_merged_ones(tmp_path, rounding):
    directory, _ = save_adapter(tmp_path / "adapter", TinyLoraConfig(), size=1e-4)
    model = arithmetic_model()
    survival = artifact.export_merged(
        directory, tmp_path / "out", model=model, dtype=torch.bfloat16, rounding=rounding, seed=5
    )
    assert model.config.dtype == torch.float32
    merged = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    assert {weight.dtype for weight in merged.state_dict().values()} == {torch.bfloat16}
    with artifact.adapted(directory, model) as adapter:
        wanted = dict(adapter.merged_weights(torch.bfloat16, rounding=rounding, seed=5))
    for name, weight in merged.state_dict().items():
        assert torch.equal(weight, wanted.get(name, model.state_dict()[name].to(torch.bfloat16)))
    # the base lies on bf16's grid: most of a small update rounds away, or survives on average
    assert survival.share < 0.2 if rounding == "nearest" else 0.8 < survival.share < 1.2
    lineage = json.loads((tmp_path / "out" / "tinylora_merge.json").read_text())
    assert lineage["survival"] == survival.share
    assert lineage["adapter_digest"] == artifact.read_manifest(directory)["digest"]


def test_an_untrained_adapter_merges_to_the_base(tmp_path):
    directory, _ = save_adapter(tmp_path / "adapter", TinyLoraConfig(), size=0.0)
    model = arithmetic_model(torch.float32)
    artifact.export_merged(directory, tmp_path / "out", model=model)
    merged = AutoModelForCausalLM.from_pretrained(tmp_path / "out").state_dict()
    assert all(torch.equal(merged[name], weight) for name, weight in model.state_dict().items())
    assert json.loads((tmp_path / "out" / "tinylora_merge.json").read_text())["survival"] is None


def test_what_cannot_be_merged_is_refused(tmp_path):
    directory, _ = save_adapter(tmp_path / "adapter", TinyLoraConfig())
    model = arithmetic_model()
    with pytest.raises(ValueError, match="holds none of"):
        artifact.export_merged(directory, tmp_path / "out", model=model, tokenizer_dir=tmp_path)
    with pytest.raises(ValueError, match="only to bfloat16"):
        artifact.export_merged(
            directory, tmp_path / "out", model=model, dtype=torch.float16, rounding="stochastic"
        )
    with pytest.raises(ValueError, match="exists; give a new folder"):
        artifact.export_merged(directory, directory, model=model)
    assert not (tmp_path / "out").exists()
