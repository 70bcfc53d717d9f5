"""Rounding of merged weights: nearest loses small updates, stochastic keeps them on average."""

import pytest
import torch

from tests.adapter.models import small_model
from tinylora_rl.adapter import Survival, TinyLoraConfig, inject
from tinylora_rl.adapter.merge import round_to


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_stochastic_rounding_is_unbiased_and_lands_on_a_neighbour():
    exact = torch.linspace(-3, 3, 4001)
    rounds = torch.stack(
        [
            round_to(exact, torch.bfloat16, rounding="stochastic", generator=generator(s)).float()
            for s in range(400)
        ]
    )
    spacing = (
        exact.abs() * 2**-7
    )  # bf16 has 8 significant bits: neighbours are at most this far apart
    assert ((rounds - exact).abs() <= spacing + 1e-30).all()
    error = rounds.mean(dim=0) - exact
    # variance of one draw is at most spacing^2 / 4: six standard errors of the mean of 400
    assert (error.abs() <= 6 * spacing / 2 / 400**0.5 + 1e-30).all()


def test_values_on_the_grid_stay_and_infinities_survive():
    on_grid = torch.tensor([0.0, -0.0, 1.0, -2.5, float("inf"), float("-inf")])
    rounded = round_to(on_grid, torch.bfloat16, rounding="stochastic", generator=generator(0))
    assert torch.equal(rounded.float(), on_grid)


def test_survival_shows_the_dead_zone_of_bf16():
    model = small_model(dtype=torch.bfloat16)
    adapter = inject(model, TinyLoraConfig())
    shares = {}
    for scale in (1e-4, 1e-1):
        adapter.v.data.fill_(scale)
        for rounding in ("nearest", "stochastic"):
            survival = Survival()
            list(adapter.merge(model.state_dict().items(), rounding=rounding, survival=survival))
            shares[scale, rounding] = survival.share
    assert shares[1e-4, "nearest"] < 0.3
    assert shares[1e-1, "nearest"] > 0.9
    assert shares[1e-1, "stochastic"] == pytest.approx(1, abs=0.1)


def test_survival_counts_the_updates_rounding_and_not_the_bases():
    """An fp32 base that the sampler holds in bf16 loses more in its own rounding than in dW's."""
    model = small_model(dtype=torch.float32)
    adapter = inject(model, TinyLoraConfig())
    adapter.v.data.fill_(0.3)
    survival = Survival()
    weights = model.state_dict().items()
    list(adapter.merge(weights, dtype=torch.bfloat16, survival=survival))
    assert survival.share == pytest.approx(1, abs=0.05)


def test_stochastic_merges_repeat_by_seed_and_differ_without():
    model = small_model(dtype=torch.bfloat16)
    adapter = inject(model, TinyLoraConfig())
    adapter.v.data.fill_(1e-3)
    first, again, other = (
        dict(adapter.merged_weights(rounding="stochastic", seed=seed)) for seed in (1, 1, 2)
    )
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert any(not torch.equal(first[name], other[name]) for name in first)


def test_bad_rounding_is_refused():
    exact = torch.zeros(3)
    with pytest.raises(ValueError, match="choose from nearest, stochastic"):
        round_to(exact, torch.bfloat16, rounding="up", generator=None)
    with pytest.raises(ValueError, match="give a generator"):
        round_to(exact, torch.bfloat16, rounding="stochastic", generator=None)
    with pytest.raises(ValueError, match="only to bfloat16"):
        round_to(exact, torch.float16, rounding="stochastic", generator=generator(0))
