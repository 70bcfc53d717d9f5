"""An adapter on disk: complete, verified, refused with a reason."""

import json

import pytest
import torch

from tests.adapter.models import small_model, token_ids
from tinylora_rl import artifact
from tinylora_rl.adapter import TinyLoraConfig, inject
from tinylora_rl.artifact.atomic import replacing_directory


@pytest.fixture
def saved(tmp_path):
    model = small_model()
    adapter = inject(model, TinyLoraConfig())
    adapter.v.data.copy_(torch.linspace(-0.2, 0.3, 13)[None])
    artifact.save(adapter, tmp_path / "adapter", {"run": "test"})
    with torch.no_grad():
        return tmp_path / "adapter", model(token_ids()).logits


def test_round_trip_gives_the_same_logits_bit_for_bit(saved):
    directory, logits = saved
    model = small_model()
    adapter = artifact.load(directory, model)
    with torch.no_grad():
        assert torch.equal(model(token_ids()).logits, logits)
    assert adapter.v.requires_grad


def test_payload_is_52_bytes_and_the_directory_small(saved):
    directory, _ = saved
    manifest = artifact.read_manifest(directory)
    assert manifest["num_parameters"] == 13
    assert manifest["payload_bytes"] == 52
    assert manifest["provenance"] == {"run": "test"}
    assert sum(file.stat().st_size for file in directory.iterdir()) < 4096


def edit_manifest(directory, **changes) -> None:
    manifest = json.loads((directory / "manifest.json").read_text())
    for key, value in changes.items():
        part, _, field = key.partition("__")
        (manifest[part] if field else manifest)[field or part] = value
    (directory / "manifest.json").write_text(json.dumps(manifest))


def test_another_base_is_refused_and_left_alone(saved):
    directory, _ = saved
    other = small_model(seed=1)
    with pytest.raises(ValueError, match="base_digest differs"):
        artifact.load(directory, other)
    assert type(other.model.layers[0].self_attn.q_proj) is torch.nn.Linear


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"config__seed": 1}, "projection_digest differs"),
        ({"config__svd_split": "sqrt"}, "fingerprint differs"),
        ({"payload_sha256": "0"}, "payload_sha256"),
        ({"format": 99}, "format 99, this version reads 1"),
        ({"config__u": 0}, "u=0"),
    ],
)
def test_whatever_does_not_match_is_named(saved, changes, message):
    directory, _ = saved
    edit_manifest(directory, **changes)
    with pytest.raises(ValueError, match=message):
        artifact.load(directory, small_model())


def test_flipped_singular_vectors_change_the_fingerprint():
    adapter = inject(small_model(), TinyLoraConfig())
    stored = adapter.identity
    name, factors = next(iter(adapter.bank.items()))
    factors.left_OR[:, 1] *= -1
    factors.right_RI[1] *= -1
    del adapter.__dict__["identity"]
    with pytest.raises(ValueError, match="fingerprint differs"):
        artifact.directory.check_identity(adapter.identity, vars(stored), name)


def test_a_missing_manifest_is_an_incomplete_adapter(saved):
    directory, _ = saved
    (directory / "manifest.json").unlink()
    with pytest.raises(ValueError, match="no complete adapter"):
        artifact.read_manifest(directory)


def test_values_that_are_not_finite_are_not_written(tmp_path):
    adapter = inject(small_model(), TinyLoraConfig())
    adapter.v.data[0, 0] = float("nan")
    with pytest.raises(ValueError, match="not finite"):
        artifact.save(adapter, tmp_path / "adapter")
    assert not (tmp_path / "adapter").exists()


def test_a_writer_killed_between_its_renames_loses_nothing(tmp_path):
    target = tmp_path / "target"
    with replacing_directory(target) as fresh:
        (fresh / "a").write_text("good")
    target.rename(tmp_path / ".target.old")  # what the kill leaves
    with pytest.raises(OSError, match="disk full"), replacing_directory(target):
        raise OSError("disk full")
    assert (target / "a").read_text() == "good"


def test_a_writer_that_fails_leaves_the_old_directory(tmp_path):
    target = tmp_path / "target"
    with replacing_directory(target) as fresh:
        (fresh / "a").write_text("old")
    with pytest.raises(RuntimeError, match="injected"), replacing_directory(target) as fresh:  # noqa: PT012
        (fresh / "a").write_text("new")
        raise RuntimeError("injected")
    assert (target / "a").read_text() == "old"
    with replacing_directory(target) as fresh:
        (fresh / "b").write_text("newer")
    assert [path.name for path in target.iterdir()] == ["b"]
    assert [path.name for path in tmp_path.iterdir()] == ["target"]
