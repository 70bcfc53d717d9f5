"""The bank is the same whoever builds it, from whatever source."""

import dataclasses
import json
import math
import os
import subprocess
import sys

import pytest
import torch

from tests.unit.adapter.checkpoints import write_sharded
from tests.unit.adapter.models import small_model
from tinylora_rl.adapter import TinyLoraConfig, build_bank, empty_bank, find_targets
from tinylora_rl.adapter.bank import fingerprint, identify, projection_digest
from tinylora_rl.adapter.svd import truncated_svd
from tinylora_rl.adapter.weights import CheckpointWeights
from tinylora_rl.artifact.stored import FINGERPRINT_TOLERANCE

CONFIG = TinyLoraConfig(u=2, n_tie=4)


def assert_close(bank, other, atol=1e-5):
    assert list(bank) == list(other)
    for name in bank:
        for field in ("left_OR", "right_RI", "P_URR"):
            torch.testing.assert_close(
                getattr(bank[name], field), getattr(other[name], field), rtol=0, atol=atol
            )
        assert bank[name].weight_norm == pytest.approx(other[name].weight_norm, rel=1e-6)


def test_a_checkpoint_gives_the_bank_of_the_model(tmp_path):
    model = small_model(dtype=torch.bfloat16)
    targets = find_targets(model, CONFIG)
    calls = []
    there = build_bank(
        CheckpointWeights(write_sharded(tmp_path / "base", dict(model.state_dict()))),
        targets,
        CONFIG,
        progress=lambda done, total: calls.append((done, total)),
    )
    here = build_bank(model, targets, CONFIG)
    assert_close(there, here, atol=0)
    assert list(here) == [target.name for target in targets]
    assert calls == [(k + 1, 14) for k in range(14)]


@pytest.mark.parametrize("split", ["paper", "sqrt"])
def test_factors_are_split_as_configured(split):
    model = small_model()
    config = TinyLoraConfig(svd_split=split)
    for name, factors in build_bank(model, find_targets(model, config), config).items():
        U, S, Vt = truncated_svd(model.get_submodule(name).weight, config.r)
        left, right = (U * S, Vt) if split == "paper" else (U * S.sqrt(), S.sqrt()[:, None] * Vt)
        assert torch.equal(factors.left_OR, left)
        assert torch.equal(factors.right_RI, right)


def test_an_upcast_base_has_the_same_factors_but_another_digest():
    model = small_model(dtype=torch.bfloat16)
    targets = find_targets(model, CONFIG)
    bank = build_bank(model, targets, CONFIG)
    here = identify(model, targets, bank)
    model.float()
    upcast = build_bank(model, targets, CONFIG)
    assert_close(bank, upcast)
    there = identify(model, targets, upcast)
    assert there.base_digest != here.base_digest
    assert there.projection_digest == here.projection_digest
    assert there.fingerprint == pytest.approx(here.fingerprint, rel=1e-4)


def test_an_empty_bank_has_the_shapes_and_P_of_the_full_one():
    model = small_model()
    targets = find_targets(model, CONFIG)
    full = build_bank(model, targets, CONFIG)
    with torch.device("meta"):
        hollow = small_model()
    empty = empty_bank(hollow, targets, CONFIG, "cpu")
    assert projection_digest(empty) == projection_digest(full)
    for name, factors in full.items():
        assert empty[name].left_OR.shape == factors.left_OR.shape
        assert empty[name].right_RI.shape == factors.right_RI.shape


def test_an_error_names_the_module():
    model = small_model()
    targets = find_targets(model, CONFIG)
    model.get_submodule(targets[3].name).weight.data.zero_()
    with pytest.raises(ValueError, match=f"{targets[3].name}: the base weight is zero"):
        build_bank(model, targets, CONFIG)


CHILD = """
import json, random, sys
import torch
from tinylora_rl.adapter import TinyLoraConfig, build_bank
from tinylora_rl.adapter.bank import fingerprint, projection_digest
from tinylora_rl.adapter.svd import truncated_svd
from tinylora_rl.adapter.targets import targets_of
from tinylora_rl.adapter.weights import CheckpointWeights

directory, threads = sys.argv[1], int(sys.argv[2])
torch.set_num_threads(threads)
config = TinyLoraConfig(u=2, n_tie=4)
weights = CheckpointWeights(directory)
targets = targets_of(weights.names(), config)
shuffled = random.Random(threads).sample(targets, len(targets))
bank = build_bank(weights, shuffled, config)
bank = {target.name: bank[target.name] for target in targets}
large = torch.randn(700, 500, generator=torch.Generator().manual_seed(0))
factors = [factor.tolist() for factor in truncated_svd(large, 2)]
print(json.dumps([projection_digest(bank), fingerprint(bank), factors]))
"""


def test_processes_threads_hash_seeds_and_orders_agree(tmp_path):
    model = small_model()
    directory = write_sharded(tmp_path / "base", dict(model.state_dict()))
    bank = build_bank(model, find_targets(model, CONFIG), CONFIG)
    large = torch.randn(700, 500, generator=torch.Generator().manual_seed(0))
    factors = truncated_svd(large, 2)
    for threads, hash_seed in (("1", "1"), ("2", "77")):
        output = subprocess.run(
            [sys.executable, "-c", CHILD, str(directory), threads],
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        their_digest, their_probes, their_factors = json.loads(output)
        assert their_digest == projection_digest(bank)  # every bit of P
        assert their_probes == pytest.approx(fingerprint(bank), rel=1e-4, abs=1e-5)
        for ours, theirs in zip(factors, their_factors, strict=True):
            # no spectral gap: the vectors themselves agree to the angle that was asked for
            torch.testing.assert_close(torch.tensor(theirs), ours, rtol=1e-5, atol=1e-4)


def test_the_fingerprint_sees_every_flipped_vector_of_every_module():
    model = small_model()
    config = TinyLoraConfig(u=13)
    bank = build_bank(model, find_targets(model, config), config)
    whole = fingerprint(bank)
    tolerance = FINGERPRINT_TOLERANCE * math.hypot(*whole)
    for name, factors in bank.items():
        for vector in range(2):
            flipped = factors.left_OR.clone()
            flipped[:, vector] *= -1
            changed = {**bank, name: dataclasses.replace(factors, left_OR=flipped)}
            assert math.dist(fingerprint(changed), whole) > 3 * tolerance, (name, vector)


def test_the_default_dtype_changes_nothing():
    model = small_model()
    config = TinyLoraConfig(u=13)
    targets = find_targets(model, config)
    before = build_bank(model, targets, config)
    torch.set_default_dtype(torch.float64)
    try:
        after = build_bank(model, targets, config)
        assert fingerprint(after) == fingerprint(before)
    finally:
        torch.set_default_dtype(torch.float32)
    assert_close(after, before, atol=0)
