"""P is a function of (seed, name) alone, with the stated moments."""

import hashlib
import os
import subprocess
import sys

import pytest
import torch

from tinylora_rl.adapter import TinyLoraConfig
from tinylora_rl.adapter.projection import draw_projection

NAME = "model.layers.0.self_attn.q_proj"


def test_equal_key_equal_bits_and_nothing_else_matters():
    config = TinyLoraConfig()
    first = draw_projection(config, NAME)
    torch.manual_seed(123)
    draw_projection(config, "another module")
    assert torch.equal(draw_projection(config, NAME), first)
    assert not torch.equal(draw_projection(config, NAME + "x"), first)
    assert not torch.equal(draw_projection(TinyLoraConfig(seed=1), NAME), first)


PRINT_DIGESTS = """
import hashlib, sys
from tinylora_rl.adapter import TinyLoraConfig
from tinylora_rl.adapter.projection import draw_projection
for name in sys.argv[1:]:
    P = draw_projection(TinyLoraConfig(projection="normal"), name)
    print(name, hashlib.sha256(P.numpy().tobytes()).hexdigest())
"""


@pytest.mark.parametrize("hash_seed", ["0", "77"])
def test_another_process_order_and_hash_seed_draw_the_same_bytes(hash_seed):
    names = [f"model.layers.{i}.self_attn.q_proj" for i in range(5)]
    here = {
        name: hashlib.sha256(draw_projection(TinyLoraConfig(), name).numpy().tobytes()).hexdigest()
        for name in names
    }
    output = subprocess.run(
        [sys.executable, "-c", PRINT_DIGESTS, *reversed(names)],
        env={**os.environ, "PYTHONHASHSEED": hash_seed},
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    assert dict(line.split() for line in output.splitlines()) == here
    assert len(set(here.values())) == len(names)


@pytest.mark.parametrize("projection", ["normal", "uniform", "rademacher"])
@pytest.mark.parametrize(("r", "std"), [(2, None), (4, None), (2, 0.3)])
def test_moments_are_the_stated_ones(projection, r, std):
    config = TinyLoraConfig(u=20_000, r=r, projection=projection, projection_std=std)
    P = draw_projection(config, NAME)
    assert P.shape == (20_000, r, r)
    assert P.dtype == torch.float32
    expected = r**-0.5 if std is None else std
    # 80,000 draws and more: the standard error of both estimates is under 0.4 %
    assert abs(float(P.mean())) < 0.02 * expected
    assert float(P.std()) == pytest.approx(expected, rel=0.02)


@pytest.mark.parametrize(("projection", "bound"), [("uniform", 3**0.5), ("rademacher", 1.0)])
def test_bounded_distributions_keep_their_bounds(projection, bound):
    P = draw_projection(TinyLoraConfig(u=5000, projection=projection), NAME) * 2**0.5
    assert float(P.abs().max()) == pytest.approx(bound, rel=2e-3)
    if projection == "rademacher":
        assert float(P.abs().min()) == pytest.approx(bound)


@pytest.mark.parametrize("projection", ["normal", "uniform", "rademacher"])
def test_scaling_divides_by_the_root_of_u(projection):
    plain = TinyLoraConfig(u=16, projection=projection)
    scaled = TinyLoraConfig(u=16, projection=projection, projection_scaling="inverse_sqrt_u")
    torch.testing.assert_close(draw_projection(scaled, NAME), draw_projection(plain, NAME) / 4)


@pytest.mark.parametrize("r", [1, 2, 3])
def test_the_basis_is_canonical_in_every_module_and_for_every_seed(r):
    config = TinyLoraConfig(r=r, u=r * r, projection="basis")
    P = draw_projection(config, NAME)
    for i in range(r * r):
        single = torch.zeros(r, r)
        single[i // r, i % r] = 1
        assert torch.equal(P[i], single)
    other = TinyLoraConfig(r=r, u=r * r, projection="basis", seed=9)
    assert torch.equal(draw_projection(other, "another module"), P)


@pytest.mark.parametrize("projection", ["normal", "uniform", "rademacher"])
def test_p_does_not_depend_on_the_instructions_of_the_cpu(projection):
    program = (
        "import sys, hashlib; from tinylora_rl.adapter.projection import draw_projection;"
        "from tinylora_rl.adapter.config import TinyLoraConfig;"
        "P = draw_projection(TinyLoraConfig(u=13, projection=sys.argv[1]), 'a.b');"
        "print(hashlib.sha256(P.numpy().tobytes()).hexdigest())"
    )
    digests = {
        subprocess.run(
            [sys.executable, "-c", program, projection],
            env={**os.environ, "ATEN_CPU_CAPABILITY": capability},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for capability in ("default", "avx2")
    }
    assert len(digests) == 1
