"""P is a function of (seed, name) alone, with the stated moments."""

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


def test_another_process_with_another_hash_seed_draws_the_same():
    code = (
        "from tinylora_rl.adapter import TinyLoraConfig\n"
        "from tinylora_rl.adapter.projection import draw_projection\n"
        f"print(draw_projection(TinyLoraConfig(), {NAME!r}).flatten().tolist())"
    )
    output = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONHASHSEED": "77"},
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    assert output.strip() == str(draw_projection(TinyLoraConfig(), NAME).flatten().tolist())


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
