"""To PEFT's TinyLoRA and back, judged by PEFT's own code."""

import json

import peft
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from peft import PeftModel, get_peft_model

from tests.unit.artifact.conftest import arithmetic_model, farthest, logits, save_adapter
from tinylora_rl import artifact
from tinylora_rl.adapter import TinyLoraConfig
from tinylora_rl.artifact.peft_tinylora import _peft_groups

CONFIGS = {
    "one v": TinyLoraConfig(),
    "one v, sqrt": TinyLoraConfig(svd_split="sqrt", projection="uniform"),
    "untied": TinyLoraConfig(u=2, n_tie=1),
    "tied by 3": TinyLoraConfig(u=2, n_tie=3),
    "two types": TinyLoraConfig(r=3, u=3, n_tie=2, target_modules=("k_proj", "down_proj")),
}


def close(got, wanted) -> bool:
    return farthest(got, wanted) < 1e-5 * max(float(one.abs().max()) for one in wanted)


@pytest.mark.parametrize("name", CONFIGS)
def test_export_computes_the_same_and_comes_back(tmp_path, name):
    config = CONFIGS[name]
    directory, wanted = save_adapter(tmp_path / "adapter", config, size=0.3)
    out = artifact.export_peft_tinylora(directory, tmp_path / "out", model=arithmetic_model())
    loaded = PeftModel.from_pretrained(arithmetic_model(), out).eval()
    assert close(logits(loaded), wanted)
    num_trained = sum(
        tensor.numel() for key, tensor in loaded.named_parameters() if "tinylora_v" in key
    )
    assert num_trained == artifact.read_manifest(directory)["num_parameters"]

    adapter = artifact.import_peft_tinylora(out, arithmetic_model(), config)
    assert torch.allclose(adapter.v, artifact.read_vector(directory), rtol=1e-4, atol=1e-5)


def test_a_tying_that_peft_cannot_state_is_refused_or_untied(tmp_path):
    config = TinyLoraConfig(u=1, n_tie=16)  # 21 modules: 16 and 5; PEFT would put 10 and 11
    directory, wanted = save_adapter(tmp_path / "adapter", config, size=0.3)
    model = arithmetic_model()
    with pytest.raises(ValueError, match=r"n_tie=16: .* is in group 0 of 2, PEFT's weight_tying"):
        artifact.export_peft_tinylora(directory, tmp_path / "out", model=model)
    out = artifact.export_peft_tinylora(directory, tmp_path / "out", model=model, untie=True)
    assert close(logits(PeftModel.from_pretrained(model, out).eval()), wanted)


def from_peft(tmp_path, **changes):
    options = {"r": 2, "u": 5, "weight_tying": 0.6, "init_weights": "uniform", "init_v_bound": 0.3}
    options |= {"target_modules": ["q_proj", "v_proj", "down_proj"], **changes}
    torch.manual_seed(0)
    model = get_peft_model(arithmetic_model(), peft.TinyLoraConfig(**options)).eval()
    model.save_pretrained(tmp_path / "peft")
    return tmp_path / "peft", logits(model)


def test_what_peft_trained_is_taken_over_and_saved(tmp_path):
    directory, wanted = from_peft(tmp_path)
    model = arithmetic_model()
    adapter = artifact.import_peft_tinylora(directory, model)
    assert adapter.config.num_parameters(num_modules=9) == 9 * 4
    assert close(logits(model), wanted)
    artifact.save(adapter, tmp_path / "ours")
    artifact.load(tmp_path / "ours", other := arithmetic_model())
    assert farthest(logits(other), logits(model)) == 0


def edit(directory, **changes) -> None:
    path = directory / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_what_cannot_be_taken_over_is_refused_and_the_model_left_alone(tmp_path):
    directory, _ = from_peft(tmp_path)
    model = arithmetic_model()
    base = logits(model)
    narrow = TinyLoraConfig(u=1, target_modules=("q_proj", "v_proj", "down_proj"))
    with pytest.raises(ValueError, match="of the update has no v of this configuration"):
        artifact.import_peft_tinylora(directory, model, narrow)
    with pytest.raises(ValueError, match="adapts 9 modules"):
        artifact.import_peft_tinylora(directory, model, TinyLoraConfig())
    other = arithmetic_model()
    for parameter in other.parameters():
        parameter.data = parameter.data.flip(0)
    with pytest.raises(ValueError, match=r"of the update has no v"):
        artifact.import_peft_tinylora(directory, other)
    for changes, message in [
        ({"peft_type": "LORA"}, "peft_type is not TINYLORA"),
        ({"bias": "all"}, "bias='all'"),
        ({"r": 10**9}, "r=1000000000"),
        ({"r": 2, "weight_tying": "a"}, "weight_tying='a'"),
        ({"weight_tying": 0.0}, "not the tensors of a PEFT TinyLoRA"),
    ]:
        before = (directory / "adapter_config.json").read_text()
        edit(directory, **changes)
        with pytest.raises(ValueError, match=message):
            artifact.import_peft_tinylora(directory, model)
        (directory / "adapter_config.json").write_text(before)
    (directory / "adapter_model.safetensors").write_bytes(b"\x08\0\0\0\0\0\0\0{broken}")
    with pytest.raises(ValueError, match=r"adapter_model\.safetensors"):
        artifact.import_peft_tinylora(directory, model)
    assert farthest(logits(model), base) == 0
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_only_some_blocks_are_refused(tmp_path):
    directory, _ = from_peft(tmp_path, layers_to_transform=[0, 2])
    with pytest.raises(ValueError, match="only whole types of linears in all blocks"):
        artifact.import_peft_tinylora(directory, arithmetic_model())


def test_without_p_in_the_file_it_is_refused(tmp_path):
    with pytest.warns(UserWarning, match="not save projection"):
        directory, _ = from_peft(tmp_path, save_projection=False)
    with pytest.raises(ValueError, match="save_projection=false, so it holds no P"):
        artifact.import_peft_tinylora(directory, arithmetic_model())


@given(num_modules=st.integers(1, 400), data=st.data())
def test_the_ratio_written_gives_back_the_number_of_groups(num_modules, data):
    num_groups = data.draw(st.integers(1, num_modules))
    groups = _peft_groups(num_modules, 1 - num_groups / num_modules)
    assert sorted(set(groups)) == list(range(num_groups))
