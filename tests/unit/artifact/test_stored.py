"""An adapter on disk: complete, verified, refused with a reason."""

import contextlib
import copy
import hashlib
import json
import os
import pickle
import shutil

import pytest
import torch
from safetensors.torch import load_file
from safetensors.torch import save as to_safetensors

from tests.unit.adapter.models import small_model, token_ids
from tests.unit.artifact.conftest import PROVENANCE, arithmetic_model, save_adapter
from tinylora_rl import artifact
from tinylora_rl.adapter import TinyLoraConfig, inject
from tinylora_rl.artifact import ArtifactError
from tinylora_rl.artifact.files import read_bounded
from tinylora_rl.artifact.manifest import read_numbers, render_manifest


@pytest.fixture
def saved(tmp_path):
    model = small_model()
    adapter = inject(model, TinyLoraConfig())
    adapter.v.data.copy_(torch.linspace(-0.2, 0.3, 13)[None])
    artifact.save(adapter, tmp_path / "adapter", PROVENANCE)
    with torch.no_grad():
        return tmp_path / "adapter", model(token_ids()).logits


def forge(directory, **changes) -> None:
    """Changes fields and puts the digest right: what one does who knows the format."""
    manifest = json.loads((directory / "manifest.json").read_text())
    del manifest["digest"]
    for key, value in changes.items():
        part, _, field = key.partition("__")
        (manifest[part] if field else manifest)[field or part] = value
    (directory / "manifest.json").write_bytes(render_manifest(manifest))


def forge_payload(directory, file: bytes, **changes) -> None:
    (directory / "adapter.safetensors").write_bytes(file)
    forge(directory, payload_sha256=hashlib.sha256(file).hexdigest(), **changes)


def test_round_trip_gives_the_same_logits_bit_for_bit(saved):
    directory, logits = saved
    model = small_model()
    adapter = artifact.load(directory, model)
    with torch.no_grad():
        assert torch.equal(model(token_ids()).logits, logits)
    assert adapter.v.requires_grad


def test_thirteen_numbers_take_52_bytes_and_the_directory_under_4_kilobytes(saved):
    directory, _ = saved
    manifest = artifact.read_manifest(directory)
    assert manifest["num_parameters"] == 13
    assert manifest["payload_bytes"] == 52
    assert manifest["provenance"] == PROVENANCE
    assert sum(file.stat().st_size for file in directory.iterdir()) < 4096


def test_the_manifest_does_not_grow_with_the_adapter(saved, tmp_path):
    adapter = inject(small_model(), TinyLoraConfig(u=4096, n_tie=1))
    artifact.save(adapter, tmp_path / "large", PROVENANCE)
    sizes = [(path / "manifest.json").stat().st_size for path in (saved[0], tmp_path / "large")]
    assert sizes[1] < sizes[0] + 40


def test_safetensors_itself_reads_the_payload(saved):
    tensors = load_file(saved[0] / "adapter.safetensors")
    assert list(tensors) == ["v"]
    assert torch.equal(tensors["v"], torch.linspace(-0.2, 0.3, 13)[None])


@pytest.mark.parametrize("name", ["manifest.json", "adapter.safetensors"])
def test_one_flipped_bit_anywhere_is_detected(saved, name):
    directory, _ = saved
    path = directory / name
    whole = path.read_bytes()
    accepted = []
    with path.open("r+b", buffering=0) as file:  # in place: thirteen thousand new files take long
        for position, byte in enumerate(whole):
            for bit in range(8):
                os.pwrite(file.fileno(), bytes([byte ^ 1 << bit]), position)
                with contextlib.suppress(ValueError):
                    read_numbers(directory)
                    accepted.append((position, bit))
            os.pwrite(file.fileno(), bytes([byte]), position)
    assert not accepted
    assert path.read_bytes() == whole
    assert artifact.read_vector(directory).shape == (1, 13)


def test_the_manifest_is_accepted_in_one_form_only(saved):
    path = saved[0] / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text())))  # the same values, other spaces
    with pytest.raises(ValueError, match="not every byte"):
        artifact.read_manifest(saved[0])


@pytest.mark.parametrize("name", ["manifest.json", "adapter.safetensors"])
@pytest.mark.parametrize("keep", [0, 1, 100])
def test_a_truncated_file_is_refused(saved, name, keep):
    path = saved[0] / name
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(ValueError, match=r"differs|that was written"):
        artifact.read_vector(saved[0])


def test_another_base_is_refused_and_left_alone(saved):
    directory, _ = saved
    other = small_model(seed=1)
    with pytest.raises(ValueError, match="base_digest differs"):
        artifact.load(directory, other)
    assert type(other.model.layers[0].self_attn.q_proj) is torch.nn.Linear
    assert all(parameter.requires_grad for parameter in other.parameters())


def test_the_base_in_another_dtype_is_refused_with_the_fix(saved):
    with pytest.raises(ValueError, match=r"base_digest differs.*with dtype=torch\.float32"):
        artifact.load(saved[0], small_model(dtype=torch.bfloat16))


def test_an_adapter_trained_in_fp32_fits_its_bf16_checkpoint(tmp_path):
    directory, _ = save_adapter(tmp_path / "adapter", TinyLoraConfig(), dtype=torch.float32)
    adapter = artifact.load(directory, arithmetic_model(torch.bfloat16))  # the same values
    assert torch.equal(adapter.v, artifact.read_vector(directory))


def test_another_revision_is_refused_where_both_are_known(saved):
    model = small_model()
    with pytest.raises(ValueError, match=r"base_revision=a09a35.*the model here is 0123"):
        artifact.load(saved[0], model, revision="0123")
    model.config = copy.deepcopy(model.config)
    model.config._commit_hash = "4567"  # transformers notes it when it loads from the Hub
    with pytest.raises(ValueError, match=r"base_revision=a09a35.*the model here is 4567"):
        artifact.load(saved[0], model)
    assert artifact.load(saved[0], model, revision=PROVENANCE["base_revision"])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"config__seed": 1}, "projection_digest differs"),
        ({"config__svd_split": "sqrt"}, "fingerprint differs"),
        ({"identity__fingerprint": [1.0]}, "fingerprint differs"),
        ({"payload_sha256": "0"}, "payload_sha256 differs"),
        ({"format": 99}, "format=99: this version reads 2"),
        ({"config__u": 0}, "u=0"),
        ({"config__target_modules": 5}, "config: 'int' object is not iterable"),
        ({"config__n_tie": 2}, r"config needs v of \[7, 13\]"),
        ({"config__r": 10**6}, "P of one module would have"),
        ({"num_modules": -1}, "num_modules=-1: not a value of this field"),
        ({"num_modules": True}, "num_modules=True"),
        ({"payload_shape": [1, 14]}, "payload_shape does not fit"),
        ({"payload_dtype": "float64"}, "payload_dtype='float64'"),
        ({"payload_dtype": "bfloat16"}, "payload_shape does not fit"),
        ({"identity": {}}, "identity={}"),
        ({"identity__fingerprint": [10**400]}, "identity="),
        ({"extra": 1}, "'extra'"),
        ({"provenance__author": "me"}, "provenance.author: no such field"),
        ({"provenance__metrics": {"a": 10**400}}, "metrics.a=inf: is not finite"),
        (
            {
                "payload_shape": [1 << 20, 1 << 20],
                "num_parameters": 1 << 40,
                "payload_bytes": 1 << 42,
            },
            "payload_bytes=.*are read",
        ),
    ],
)
def test_whatever_does_not_match_is_named_even_under_a_right_digest(saved, changes, message):
    directory, _ = saved
    forge(directory, **changes)
    with pytest.raises(ValueError, match=message) as caught:
        artifact.load(directory, small_model())
    assert "\n" not in str(caught.value)


V = torch.linspace(-0.2, 0.3, 13)[None]


@pytest.mark.parametrize(
    "tensors",
    [
        {"v": V, "w": V + 1},
        {"w": V},
        {"v": V[0]},
        {"v": V.T.contiguous()},
        {"v": V.to(torch.float64)},
        {"v": V.to(torch.bfloat16)},
        {"v": V.view(torch.int32)},
    ],
    ids=["extra tensor", "other name", "one axis", "transposed", "float64", "bf16", "int32"],
)
def test_a_payload_that_is_not_v_alone_is_refused(saved, tensors):
    forge_payload(saved[0], to_safetensors(tensors))
    with pytest.raises(ValueError, match=r"adapter.safetensors: .*v of float32 \[1, 13\]"):
        artifact.read_vector(saved[0])


def test_a_payload_with_metadata_is_refused(saved):
    forge_payload(saved[0], to_safetensors({"v": V}, metadata={"note": "hidden"}))
    with pytest.raises(ValueError, match="alone takes"):
        artifact.read_vector(saved[0])


def test_a_payload_that_is_not_finite_is_refused(saved):
    forge_payload(saved[0], to_safetensors({"v": V.log()}))
    with pytest.raises(ValueError, match="not finite; refused"):
        artifact.read_vector(saved[0])


def test_a_vector_that_is_not_finite_is_not_saved(tmp_path):
    adapter = inject(small_model(), TinyLoraConfig())
    adapter.v.data[0, 0] = float("nan")
    with pytest.raises(ValueError, match="not finite"):
        artifact.save(adapter, tmp_path / "adapter")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("payload_dtype", ["bfloat16", "float16"])
def test_half_the_bytes_give_exactly_the_rounded_values(tmp_path, payload_dtype):
    dtype = getattr(torch, payload_dtype)
    model = small_model()
    adapter = inject(model, TinyLoraConfig())
    adapter.v.data.copy_(torch.randn(1, 13, generator=torch.Generator().manual_seed(0)))
    artifact.save(adapter, tmp_path / "adapter", payload_dtype=payload_dtype)
    manifest = artifact.read_manifest(tmp_path / "adapter")
    assert (manifest["payload_bytes"], manifest["payload_dtype"]) == (26, payload_dtype)
    assert load_file(tmp_path / "adapter" / "adapter.safetensors")["v"].dtype == dtype

    loaded = artifact.load(tmp_path / "adapter", other := small_model())
    assert loaded.v.dtype == torch.float32
    assert torch.equal(loaded.v, adapter.v.to(dtype).to(torch.float32))
    adapter.v.data.copy_(adapter.v.to(dtype).to(torch.float32))
    with torch.no_grad():
        assert torch.equal(other(token_ids()).logits, model(token_ids()).logits)


@pytest.mark.parametrize(("payload_dtype", "value"), [("float16", 7e4), ("bfloat16", 3.4e38)])
def test_what_a_payload_dtype_cannot_hold_is_refused(tmp_path, payload_dtype, value):
    adapter = inject(small_model(), TinyLoraConfig())
    adapter.v.data[0, 0] = value
    with pytest.raises(ValueError, match=f"payload_dtype={payload_dtype}: cannot hold"):
        artifact.save(adapter, tmp_path / "adapter", payload_dtype=payload_dtype)
    with pytest.raises(ValueError, match="payload_dtype='int8': choose from"):
        artifact.save(adapter, tmp_path / "adapter", payload_dtype="int8")
    assert not list(tmp_path.iterdir())


def test_flipped_singular_vectors_change_the_fingerprint(saved):
    adapter = inject(small_model(), TinyLoraConfig())
    stored = artifact.open(saved[0])
    stored.check_identity(adapter.identity)
    _, factors = next(iter(adapter.bank.items()))
    factors.left_OR[:, 1] *= -1
    factors.right_RI[1] *= -1
    del adapter.__dict__["identity"]
    with pytest.raises(ValueError, match="fingerprint differs"):
        stored.check_identity(adapter.identity)


def test_adapted_gives_the_model_back(saved):
    directory, logits = saved
    model = small_model()
    with torch.no_grad():
        before = model(token_ids()).logits
        with artifact.adapted(directory, model):
            assert torch.equal(model(token_ids()).logits, logits)
        assert torch.equal(model(token_ids()).logits, before)
    assert all(parameter.requires_grad for parameter in model.parameters())


@pytest.mark.parametrize("name", ["manifest.json", "adapter.safetensors"])
def test_a_missing_file_is_an_incomplete_adapter(saved, name):
    directory, _ = saved
    (directory / name).unlink()
    with pytest.raises(ValueError, match=r"no complete adapter|no such file"):
        artifact.load(directory, small_model())


def test_an_adapter_is_read_and_verified_once(saved, monkeypatch, tmp_path):
    read = []
    monkeypatch.setattr(
        "tinylora_rl.artifact.manifest.read_bounded",
        lambda path, limit_bytes: read.append(path.name) or read_bounded(path, limit_bytes),
    )
    stored = artifact.open(saved[0])
    stored.inject(small_model()).remove()
    stored.update(small_model())
    with stored.adapted(small_model()):
        pass
    stored.export_merged(tmp_path / "merged", model=small_model())
    stored.export_peft_lora(tmp_path / "lora", model=small_model())
    stored.export_peft_tinylora(tmp_path / "tinylora", model=small_model())
    artifact.stage(stored, tmp_path, repo_id="me/tiny")
    stored.copy_to(tmp_path / "copy")
    assert read == ["manifest.json", "adapter.safetensors"]


def test_a_stored_adapter_states_what_it_is(saved):
    stored = artifact.open(saved[0])
    assert torch.equal(stored.v, V)
    assert (stored.config, stored.num_parameters) == (TinyLoraConfig(), 13)
    assert stored.digest == stored.manifest["digest"]
    assert stored.provenance.to_dict() == PROVENANCE
    assert stored.base_dtype == torch.float32
    assert stored.directory == saved[0]


def test_a_run_directory_gives_its_adapter_and_its_name(saved, tmp_path):
    run = tmp_path / "runs" / "12-00"
    artifact.open(saved[0]).copy_to(run / "adapter")
    (tmp_path / "alone").symlink_to(saved[0].rename(tmp_path / "moved"))
    for directory, name in (
        (run, "12-00"),
        (run / "adapter", "12-00"),
        (tmp_path / "alone", "moved"),
    ):
        assert artifact.open(directory).name == name
    assert artifact.open(run).directory == run / "adapter"
    with pytest.raises(ArtifactError, match="no complete adapter is here"):
        artifact.open(run.parent)


def test_a_stored_adapter_travels_to_another_process(saved):
    stored = artifact.open(saved[0])
    shutil.rmtree(saved[0])
    sent = pickle.loads(pickle.dumps(stored))
    assert torch.equal(sent.v, stored.v)
    assert (sent.config, sent.digest, sent.name) == (stored.config, stored.digest, stored.name)
    assert sent.files() == stored.files()


@pytest.mark.parametrize("payload_dtype", ["float32", "bfloat16", "float16"])
def test_a_copy_has_the_same_bytes_or_states_other_metrics(tmp_path, payload_dtype):
    adapter = inject(small_model(), TinyLoraConfig())
    adapter.v.data.copy_(V)
    adapter.v.data[0, 0] = -0.0
    artifact.save(adapter, tmp_path / "one", PROVENANCE, payload_dtype=payload_dtype)
    one = artifact.open(tmp_path / "one")
    one.copy_to(tmp_path / "two")
    for name in ("manifest.json", "adapter.safetensors"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    one.copy_to(tmp_path / "one", metrics={"math500": 0.5})  # in its own place
    other = artifact.open(tmp_path / "one")
    assert other.provenance.to_dict() == {**PROVENANCE, "metrics": {"math500": 0.5}}
    assert other.digest != one.digest
    assert torch.equal(other.v, one.v)
    with pytest.raises(ValueError, match=r"provenance\.author: no such field"):
        one.copy_to(tmp_path / "one", author="me")
