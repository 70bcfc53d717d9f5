"""Weights from files and from a model are the same weights, targets and digest."""

import json
import os

import pytest
import safetensors.torch
import torch
from torch import nn

from tests.unit.adapter.checkpoints import write_sharded
from tests.unit.adapter.models import CONFIGS, small_model
from tinylora_rl.adapter import TinyLoraConfig
from tinylora_rl.adapter import digests as digests_module
from tinylora_rl.adapter.digests import base_digest
from tinylora_rl.adapter.targets import find_targets, targets_of
from tinylora_rl.adapter.weights import CheckpointWeights, ModelWeights

CONFIG = TinyLoraConfig()


@pytest.fixture
def checkpoint(tmp_path):
    return write_sharded(tmp_path / "base", dict(small_model(dtype=torch.bfloat16).state_dict()))


@pytest.mark.parametrize("architecture", CONFIGS)
@pytest.mark.parametrize("modules", [CONFIG.target_modules, ("up_proj", "q_proj")], ids=str)
def test_names_alone_give_the_targets_of_the_model(architecture, modules):
    model = small_model(architecture)
    config = TinyLoraConfig(target_modules=modules)
    expected = find_targets(model, config)
    assert len(expected) == 2 * len(modules)
    for names in (sorted(model.state_dict()), sorted(model.state_dict(), reverse=True)):
        assert targets_of(names, config) == expected


def test_blocks_are_in_numerical_order():
    names = [f"model.layers.{block}.mlp.up_proj.weight" for block in (10, 2, 0, 1)]
    targets = targets_of(names, TinyLoraConfig(target_modules=("up_proj",)))
    assert [target.block for target in targets] == [0, 1, 2, 10]


@pytest.mark.parametrize("architecture", CONFIGS)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32], ids=str)
def test_files_and_memory_hold_the_same(architecture, dtype, tmp_path):
    model = small_model(architecture, dtype)
    model.save_pretrained(tmp_path / "single")
    write_sharded(tmp_path / "sharded", dict(model.state_dict()))
    here = ModelWeights(model)
    targets = find_targets(model, CONFIG)
    for directory in (tmp_path / "single", tmp_path / "sharded"):
        there = CheckpointWeights(directory)
        assert targets_of(there.names(), CONFIG) == targets
        for target in targets:
            name = target.weight_name
            assert there.shape(name) == here.shape(name)
            assert there.dtype(name) == here.dtype(name) == dtype
            assert torch.equal(there.tensor(name), here.tensor(name))
        assert base_digest(there, targets) == base_digest(model, targets)


def test_the_digest_sees_values_dtype_names_shapes_and_order():
    model = small_model()
    targets = find_targets(model, CONFIG)
    digest = base_digest(model, targets)
    assert digest == base_digest(small_model(), targets)
    assert digest != base_digest(small_model(dtype=torch.bfloat16), targets)
    assert digest != base_digest(model, targets[::-1])
    assert digest != base_digest(model, targets[:-1])
    weight = model.get_parameter(targets[-1].weight_name)
    before = weight.data.clone()
    weight.data[-1, -1] = torch.nextafter(weight.data[-1, -1], torch.tensor(9.0))
    assert digest != base_digest(model, targets)
    weight.data = before.T.contiguous().view(*before.shape[::-1])
    assert digest != base_digest(model, targets)
    weight.data = before.T.contiguous().T  # the same values in another memory layout
    assert digest == base_digest(model, targets)


def test_threads_do_not_change_the_digest(checkpoint, monkeypatch):
    weights = CheckpointWeights(checkpoint)
    targets = targets_of(weights.names(), CONFIG)
    digest = base_digest(weights, targets)
    monkeypatch.setattr(digests_module, "MAX_THREADS", 1)
    assert base_digest(weights, targets) == digest


def test_an_unchanged_file_is_hashed_once_and_a_changed_one_again(
    checkpoint, tmp_path, monkeypatch
):
    hashed = []
    sha256 = digests_module._sha256
    monkeypatch.setattr(
        digests_module, "_sha256", lambda weight: hashed.append(1) or sha256(weight)
    )
    memo_dir = tmp_path / "digests"

    def digest():
        hashed.clear()
        weights = CheckpointWeights(checkpoint)
        targets = targets_of(weights.names(), CONFIG)
        return base_digest(weights, targets, memo_dir=memo_dir), len(hashed)

    first, num_hashed = digest()
    assert num_hashed == 14
    assert digest() == (first, 0)
    for memo in memo_dir.iterdir():  # a damaged memo is as none
        memo.write_text("{")
    assert digest() == (first, 14)

    shard = checkpoint / "model-00001-of-00003.safetensors"
    tensors = safetensors.torch.load_file(shard)
    changed = next(n for n in tensors if n.endswith("proj.weight"))
    stat = shard.stat()
    safetensors.torch.save_file({**tensors, changed: tensors[changed] + 1}, shard)
    os.utime(shard, ns=(stat.st_atime_ns, stat.st_mtime_ns + 1))
    second, num_hashed = digest()
    assert second != first
    assert 0 < num_hashed < 14


def test_a_file_changed_behind_its_time_is_hashed_again(checkpoint, tmp_path):
    config = TinyLoraConfig()
    targets = targets_of(CheckpointWeights(checkpoint).names(), config)
    memo_dir = tmp_path / "memo"
    before = base_digest(CheckpointWeights(checkpoint), targets, memo_dir=memo_dir)
    file = CheckpointWeights(checkpoint).file_of(targets[0].weight_name)
    stat = file.stat()
    content = bytearray(file.read_bytes())
    for place in range(len(content) // 2, len(content), 64):
        content[place] ^= 1
    with file.open("r+b") as same_inode:
        same_inode.write(content)
    os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert base_digest(CheckpointWeights(checkpoint), targets, memo_dir=memo_dir) != before


def test_a_link_into_a_store_of_blobs_is_the_blob(checkpoint, tmp_path):
    linked = tmp_path / "snapshot"
    linked.mkdir()
    for file in checkpoint.iterdir():
        (linked / file.name).symlink_to(file)
    memo_dir = tmp_path / "digests"
    for directory in (checkpoint, linked):
        weights = CheckpointWeights(directory)
        base_digest(weights, targets_of(weights.names(), CONFIG), memo_dir=memo_dir)
    assert len(list(memo_dir.iterdir())) == 3


def test_a_missing_shard_is_named(checkpoint):
    (checkpoint / "model-00002-of-00003.safetensors").unlink()
    with pytest.raises(
        ValueError, match=r"model-00002-of-00003.safetensors: this shard is missing"
    ):
        CheckpointWeights(checkpoint)


@pytest.mark.parametrize("keep", [0, 5, 200, -1], ids=str)
def test_a_file_cut_short_is_named(checkpoint, keep):
    weights = CheckpointWeights(checkpoint)
    shard = checkpoint / "model-00002-of-00003.safetensors"
    shard.write_bytes(shard.read_bytes()[:keep])
    name = next(n for n, file in weights.files.items() if file == shard)
    for read in (weights.shape, weights.dtype, weights.tensor):
        with pytest.raises(ValueError, match=r"00002-of-00003.* unreadable or cut short"):
            read(name)


def test_an_index_that_lies_is_named(checkpoint):
    index = checkpoint / "model.safetensors.index.json"
    content = json.loads(index.read_text())
    name = next(iter(content["weight_map"]))
    content["weight_map"][name] = "model-00003-of-00003.safetensors"
    index.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=f"{name} is missing, though"):
        CheckpointWeights(checkpoint).tensor(name)
    index.write_text("{")
    with pytest.raises(ValueError, match=r"index.json: damaged"):
        CheckpointWeights(checkpoint)


def test_folders_that_are_no_safetensors_checkpoint(tmp_path):
    with pytest.raises(ValueError, match="no such folder"):
        CheckpointWeights(tmp_path / "absent")
    with pytest.raises(ValueError, match="neither"):
        CheckpointWeights(tmp_path)
    (tmp_path / "pytorch_model.bin").write_bytes(b"never read")
    with pytest.raises(ValueError, match=r"pytorch_model.bin: pickled weights are never read"):
        CheckpointWeights(tmp_path)


def test_an_unknown_weight_is_refused(checkpoint):
    with pytest.raises(ValueError, match=r"no weight lm_head.nothing"):
        CheckpointWeights(checkpoint).tensor("lm_head.nothing")
    with pytest.raises(ValueError, match="the model has no such weight"):
        ModelWeights(small_model()).shape("lm_head.nothing")


def test_quantised_checkpoints_are_refused(checkpoint, tmp_path):
    config = {"quantization_config": {"quant_method": "gptq"}}
    (checkpoint / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match=r"quant_method=gptq: .* not supported yet"):
        CheckpointWeights(checkpoint)

    name = "model.layers.0.self_attn.q_proj.weight"
    for dtype in (torch.float8_e4m3fn, torch.int8):
        tensors = {name: torch.zeros(4, 4).to(dtype)}
        weights = CheckpointWeights(write_sharded(tmp_path / str(dtype), tensors, 1))
        with pytest.raises(ValueError, match=r"q_proj.weight is .* not supported yet"):
            weights.tensor(name)
    with pytest.raises(ValueError, match=r"q_proj.qweight belongs to a quantised layer"):
        targets_of(["model.layers.0.self_attn.q_proj.qweight"], CONFIG)


@pytest.mark.parametrize(
    "expert",
    [
        "mlp.experts.0.gate_proj.weight",
        "mlp.experts.gate_up_proj",
        "mlp.shared_expert.down_proj.weight",
    ],
)
def test_mixtures_of_experts_take_attention_alone(expert):
    attention = [
        f"model.layers.0.self_attn.{type_}.weight"
        for type_ in ("q_proj", "k_proj", "v_proj", "o_proj")
    ]
    names = [*attention, f"model.layers.0.{expert}"]
    with pytest.raises(ValueError, match=r"mixture-of-experts weights .* not supported yet"):
        targets_of(names, CONFIG)
    only = TinyLoraConfig(target_modules=("q_proj", "k_proj", "v_proj", "o_proj"))
    assert [target.weight_name for target in targets_of(names, only)] == attention


def test_a_type_that_is_not_there_is_named_with_those_that_are():
    with pytest.raises(ValueError, match=r"target_modules=k_proj: the checkpoint has no such"):
        targets_of(["model.layers.0.self_attn.q_proj.weight"], CONFIG)


def test_a_linear_that_is_not_plain_is_refused():
    class OtherLinear(nn.Linear):
        pass

    model = small_model()
    model.model.layers[0].mlp.up_proj = OtherLinear(32, 48)
    with pytest.raises(ValueError, match=r"up_proj is a .*OtherLinear, only a plain nn.Linear"):
        find_targets(model, CONFIG)
