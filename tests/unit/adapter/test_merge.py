"""Rounding of merged weights: nearest loses small updates, stochastic keeps them on average."""

import pytest
import torch

from tests.unit.adapter.models import small_model
from tinylora_rl.adapter import Survival, TinyLoraConfig, inject
from tinylora_rl.adapter.delta import Factors, delta_weight
from tinylora_rl.adapter.merge import BLOCK_ELEMENTS, merge_weight, round_to
from tinylora_rl.adapter.projection import draw_projection
from tinylora_rl.adapter.svd import truncated_svd


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


def module_of(num_out: int, num_in: int, dtype: torch.dtype) -> tuple[torch.Tensor, Factors]:
    """A weight on the grid of `dtype` and its factors; entries as large as a 7B's."""
    weight = (torch.randn(num_out, num_in, generator=generator(0)) * 0.02).to(dtype)
    U, S, Vt = truncated_svd(weight, 2)
    P = draw_projection(TinyLoraConfig(), "m")
    return weight, Factors(left_OR=U * S, right_RI=Vt, P_URR=P, weight_norm=float(weight.norm()))


def test_stochastic_merges_are_unbiased_where_nearest_keeps_a_few_per_cent():
    """Over 1,000 seeds, along the update and entry by entry, within the standard errors."""
    weight, factors = module_of(96, 64, torch.bfloat16)
    v = torch.full((13,), 1e-4)
    delta = delta_weight(factors, v)
    nearest = merge_weight(weight, factors, v).float() - weight.float()
    power = float((delta * delta).sum())
    assert float((nearest * delta).sum()) / power < 0.1

    mean, square = torch.zeros(2, 96, 64, dtype=torch.float64)
    shares = []
    for seed in range(1000):
        merged = merge_weight(weight, factors, v, rounding="stochastic", generator=generator(seed))
        moved = merged.double() - weight.double()
        mean += moved / 1000
        square += moved**2 / 1000
        shares.append(float((moved * delta).sum()) / power)
    share = torch.tensor(shares, dtype=torch.float64)
    assert abs(float(share.mean()) - 1) <= 3 * float(share.std()) / 1000**0.5
    # 6,144 entries, most of which never moved: their variance is |delta| times the spacing
    spacing = weight.double().abs() * 2**-7
    error = (mean - delta).abs()
    assert (error <= 6 * (delta.abs().double() * spacing / 1000).sqrt() + spacing / 100).all()
    # pooled over the entries, errors are those of independent draws: chi-squared over its mean
    variance = ((square - mean**2) / 1000).sum()
    assert float((mean - delta).square().sum() / variance) == pytest.approx(1, abs=0.2)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("rounding", ["nearest", "stochastic"])
def test_blocks_are_the_whole(monkeypatch, dtype, rounding):
    weight, factors = module_of(37, 50, torch.bfloat16)
    v = torch.full((13,), 3e-3)
    results = []
    for size in (1, 350, 10**6):  # one row, seven rows with a rest of two, all rows
        monkeypatch.setitem(BLOCK_ELEMENTS, "cpu", size)
        survival = Survival()
        merged = merge_weight(
            weight,
            factors,
            v,
            dtype=dtype,
            rounding=rounding,
            generator=generator(1),
            survival=survival,
        )
        results.append((merged, survival.share))
    for merged, share in results[:-1]:
        # BLAS may round a product differently in blocks of another height: the last place of fp32
        torch.testing.assert_close(merged.float(), results[-1][0].float(), rtol=1e-6, atol=1e-9)
        assert share == pytest.approx(results[-1][1], rel=1e-5)


@pytest.mark.parametrize(("dtype", "unit"), [(torch.float32, 2**-24), (torch.bfloat16, 2**-8)])
def test_nearest_is_one_rounding_of_the_float64_sum(dtype, unit):
    weight, factors = module_of(300, 700, dtype)
    v = torch.full((13,), 0.1)
    delta = factors.left_OR.double() @ torch.tensordot(v.double(), factors.P_URR.double(), dims=1)
    true = weight.double() + delta @ factors.right_RI.double()
    merged = merge_weight(weight, factors, v)
    # half a unit of the target, and fp32's own error in R, dW and the sum
    slack = 1e-6 * float(true.abs().max())
    assert ((merged.double() - true).abs() <= unit * true.abs() + slack).all()
    assert merged.is_contiguous()
