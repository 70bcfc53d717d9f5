import json
import shutil

import pytest
from safetensors.torch import load_file, save_file

from tests.unit.serving.made import make_adapters
from tinylora_rl import artifact
from tinylora_rl.adapter import TinyLoraConfig
from tinylora_rl.artifact import stored
from tinylora_rl.serving.admission import AdapterLoader, Limits, limits_of
from tinylora_rl.tasks.arithmetic import base_model_dir
from tinylora_rl.vllm_plugin import lora_limits
from tinylora_rl.vllm_plugin.shared_factors import SharedFactors

LIMITS = Limits(max_rank=8, target_modules=frozenset(TinyLoraConfig().target_modules))


def loader_of(tmp_path, base=None, limits=LIMITS) -> AdapterLoader:
    (tmp_path / "store").mkdir(exist_ok=True)
    return AdapterLoader(base or base_model_dir(), tmp_path / "store", limits)


def test_what_is_admitted_is_copied_and_does_not_need_its_directory(tmp_path, adapters):
    mine = shutil.copytree(adapters["one"], tmp_path / "mine")
    admitted = loader_of(tmp_path).load(mine)
    shutil.rmtree(mine)
    assert admitted.num_parameters == 13
    assert artifact.read_manifest(admitted.directory)["digest"] == admitted.digest
    assert artifact.read_vector(admitted.directory).equal(artifact.read_vector(adapters["one"]))
    assert admitted.directory.parent == tmp_path / "store"


def test_a_second_look_takes_the_copy(tmp_path, adapters):
    loader = loader_of(tmp_path)
    assert loader.load(adapters["one"]) == loader.load(adapters["one"])
    assert loader.load(adapters["two"]) != loader.load(adapters["one"])
    assert len(list((tmp_path / "store").iterdir())) == 2


def test_an_adapter_is_read_and_verified_once(tmp_path, adapters, monkeypatch):
    """And once more by the worker, from the copy."""
    reads = []
    read_numbers = stored.read_numbers
    monkeypatch.setattr(
        stored, "read_numbers", lambda folder: reads.append(folder) or read_numbers(folder)
    )
    loader = loader_of(tmp_path)
    adapter = loader.load(adapters["one"])
    assert reads == [adapters["one"]]
    SharedFactors(base_model_dir()).read(adapter.directory)
    assert reads == [adapters["one"], adapter.directory]


def flip_a_bit_of_v(directory):
    path = directory / "adapter.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def raise_the_rank(directory):
    path = directory / "manifest.json"
    path.write_text(path.read_text().replace('"r": 2', '"r": 3'))


def drop_v(directory):
    (directory / "adapter.safetensors").unlink()


def pickle_instead(directory):
    (directory / "manifest.json").unlink()
    (directory / "adapter_model.bin").write_bytes(b"\x80\x04.")


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (flip_a_bit_of_v, "payload_sha256 differs"),
        (raise_the_rank, "digest differs: a field was changed"),
        (drop_v, "no such file"),
        (pickle_instead, r"no manifest\.json"),
    ],
)
def test_a_tampered_adapter_is_refused_and_leaves_nothing(tmp_path, adapters, damage, reason):
    mine = shutil.copytree(adapters["one"], tmp_path / "mine")
    damage(mine)
    with pytest.raises(ValueError, match=reason) as refusal:
        loader_of(tmp_path).load(mine)
    assert str(mine) in str(refusal.value)
    assert not list((tmp_path / "store").iterdir())


def test_an_adapter_of_another_base_is_refused_by_the_path_it_was_given(tmp_path, adapters):
    other = shutil.copytree(base_model_dir(), tmp_path / "other")
    weights = load_file(other / "model.safetensors")
    weights["model.layers.1.mlp.up_proj.weight"][0, 0] += 1
    save_file(weights, other / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match="base_digest differs") as refusal:
        loader_of(tmp_path, other).load(adapters["one"])
    assert str(adapters["one"]) in str(refusal.value)
    assert "store" not in str(refusal.value)
    assert not list((tmp_path / "store").iterdir())


def test_limits_are_refused_before_the_base_is_decomposed(tmp_path, adapters):
    loader = loader_of(tmp_path, limits=Limits(max_rank=1, target_modules=LIMITS.target_modules))
    with pytest.raises(ValueError, match="r=2: this server has slots up to rank 1"):
        loader.load(adapters["one"])
    loader = loader_of(tmp_path, limits=Limits(max_rank=8, target_modules=frozenset({"q_proj"})))
    with pytest.raises(ValueError, match="target_modules=k_proj: this server has slots for q_proj"):
        loader.load(adapters["one"])
    assert loader.load(adapters["narrow"]).num_parameters == 2


def test_limits_hold_what_is_given_and_no_more(adapters, monkeypatch):
    opened = {name: artifact.open(directory) for name, directory in adapters.items()}
    assert limits_of([opened["narrow"]], TinyLoraConfig()) == Limits(
        max_rank=8, target_modules=frozenset({"q_proj"})
    )
    assert limits_of(opened.values(), TinyLoraConfig()).max_rank == 8
    assert limits_of([], TinyLoraConfig()) == LIMITS
    monkeypatch.setattr(lora_limits, "LORA_RANKS", (1,))
    with pytest.raises(ValueError, match=r"wide: r=4: vLLM serves LoRA up to rank 1"):
        limits_of([opened["wide"]], TinyLoraConfig())


def test_a_strangers_digest_proves_nothing_about_the_base(tmp_path, adapters):
    """Whoever forges a manifest states its digest, too: the base decides."""
    from tinylora_rl.artifact.manifest import render_manifest

    mine = make_adapters(tmp_path, ["mine"])["mine"]
    manifest = json.loads((mine / "manifest.json").read_text())
    manifest["identity"]["projection_digest"] = "0" * 64
    del manifest["digest"]
    (mine / "manifest.json").write_bytes(render_manifest(manifest))
    with pytest.raises(ValueError, match="projection_digest differs"):
        loader_of(tmp_path).load(mine)
