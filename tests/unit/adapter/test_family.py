"""One family: TinyLoRA, LoRA-XS and LoRA-XS with tied R are configurations of one equation."""

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.adapter.models import small_model, token_ids
from tests.unit.adapter.test_inject import moved, reference_delta
from tinylora_rl.adapter import TinyLoraConfig, inject
from tinylora_rl.adapter.delta import Factors, acting_vector, delta_weight, mixing_matrix
from tinylora_rl.adapter.projection import draw_projection
from tinylora_rl.adapter.svd import truncated_svd


def random_matrix(num_out: int, num_in: int, seed: int) -> torch.Tensor:
    return torch.randn(num_out, num_in, generator=torch.Generator().manual_seed(seed))


def factors_of(weight: torch.Tensor, config: TinyLoraConfig, name: str = "m") -> Factors:
    U, S, Vt = truncated_svd(weight, config.r)
    is_paper = config.svd_split == "paper"
    return Factors(
        left_OR=U * (S if is_paper else S.sqrt()),
        right_RI=Vt if is_paper else S.sqrt()[:, None] * Vt,
        P_URR=draw_projection(config, name),
        weight_norm=float(weight.norm()),
    )


@given(r=st.integers(1, 4), seed=st.integers(0, 1000))
@settings(max_examples=25, deadline=None)
def test_the_basis_makes_it_lora_xs(r, seed):
    config = TinyLoraConfig(r=r, u=r * r, projection="basis")
    weight = random_matrix(9, 7, seed)
    factors = factors_of(weight, config)
    R = random_matrix(r, r, seed + 1)
    U, S, Vt = truncated_svd(weight, r)
    assert torch.equal(mixing_matrix(R.flatten(), factors.P_URR), R)
    ours = delta_weight(factors, R.flatten()).double()
    true = (U * S).double() @ R.double() @ Vt.double()
    torch.testing.assert_close(ours, true, rtol=0, atol=1e-6 * float(S[0]) * r * r)


@given(r=st.integers(1, 3), u=st.integers(1, 9), seed=st.integers(0, 1000))
@settings(max_examples=25, deadline=None)
def test_random_tinylora_is_lora_xs_at_the_mixed_matrix(r, u, seed):
    """TinyLoRA moves in the image of v -> R inside LoRA-XS's space."""
    weight = random_matrix(8, 10, seed)
    tiny = factors_of(weight, TinyLoraConfig(r=r, u=u, seed=seed))
    xs = factors_of(weight, TinyLoraConfig(r=r, u=r * r, projection="basis"))
    v = torch.randn(u, generator=torch.Generator().manual_seed(seed))
    R = mixing_matrix(v, tiny.P_URR)
    torch.testing.assert_close(delta_weight(tiny, v), delta_weight(xs, R.flatten()))


@given(r=st.integers(1, 4), seed=st.integers(0, 1000))
@settings(max_examples=25, deadline=None)
def test_the_splits_agree_at_rescaled_off_diagonals(r, seed):
    """U S R Vt = U sqrt(S) R' sqrt(S) Vt with R'_ij = R_ij sqrt(S_i / S_j)."""
    weight = random_matrix(8, 6, seed)
    basis = {"r": r, "u": r * r, "projection": "basis"}
    paper = factors_of(weight, TinyLoraConfig(**basis))
    sqrt = factors_of(weight, TinyLoraConfig(**basis, svd_split="sqrt"))
    R = random_matrix(r, r, seed + 1)
    _, S, _ = truncated_svd(weight, r)
    rescaled = R * (S[:, None] / S[None, :]).sqrt()
    torch.testing.assert_close(
        delta_weight(paper, R.flatten()),
        delta_weight(sqrt, rescaled.flatten()),
        rtol=1e-4,
        atol=1e-5,
    )
    diagonal = R.diagonal().diag().flatten()  # where the splits do not differ at all
    torch.testing.assert_close(delta_weight(paper, diagonal), delta_weight(sqrt, diagonal))


@pytest.mark.parametrize("n_tie", [1, 3, "all"])
@pytest.mark.parametrize("svd_split", ["paper", "sqrt"])
def test_lora_xs_runs_through_the_same_layers(n_tie, svd_split):
    config = TinyLoraConfig(u=4, n_tie=n_tie, projection="basis", svd_split=svd_split)
    model = small_model()
    twin = copy.deepcopy(model).double()
    adapter = inject(model, config)
    moved(adapter)
    for target in adapter.targets:
        linear = twin.get_submodule(target.name)
        linear.weight.data += reference_delta(linear.weight.data, adapter, target.name)
    with torch.no_grad():
        # fp32 forward of two blocks: errors of about 1e-6 on logits of order 1
        torch.testing.assert_close(
            model(token_ids()).logits.double(), twin(token_ids()).logits, rtol=0, atol=2e-5
        )


@pytest.mark.parametrize("v_dtype", ["bfloat16", "float16"])
def test_v_acts_rounded_while_its_master_moves(v_dtype):
    dtype = getattr(torch, v_dtype)
    model, exact_model = small_model(), small_model()
    adapter = inject(model, TinyLoraConfig(u=3, n_tie=4, v_dtype=v_dtype))
    exact = inject(exact_model, TinyLoraConfig(u=3, n_tie=4))
    moved(adapter)
    exact.v.data.copy_(adapter.v.data.to(dtype))
    assert adapter.v.dtype == torch.float32
    assert torch.equal(adapter.acting_v, exact.v.data)
    assert not torch.equal(adapter.v.data, exact.v.data)

    logits, true = model(token_ids()).logits, exact_model(token_ids()).logits
    assert torch.equal(logits, true)
    logits.square().mean().backward()
    true.square().mean().backward()
    assert torch.equal(adapter.v.grad, exact.v.grad)  # straight through, in fp32
    for ours, other in zip(adapter.merged_weights(), exact.merged_weights(), strict=True):
        assert torch.equal(ours[1], other[1])
    for name, (A, B) in adapter.lora_factors().items():
        assert torch.equal(B @ A, delta_weight(exact.bank[name], exact.v[exact.groups[name]]))


@pytest.mark.parametrize("v_dtype", ["bfloat16", "float16"])
def test_small_steps_reach_v_only_through_the_master(v_dtype):
    """A step of 1e-6 at |v| = 1 is far below half a unit in the last place of either dtype."""
    moved_by = {}
    for v_master in (True, False):
        adapter = inject(small_model(), TinyLoraConfig(v_dtype=v_dtype, v_master=v_master))
        adapter.v.data.fill_(1.0)
        optimizer = torch.optim.SGD([adapter.v], lr=1e-6)
        for _ in range(2500):
            adapter.v.grad = -torch.ones_like(adapter.v)
            optimizer.step()
        moved_by[v_master] = float(adapter.acting_v.min()) - 1
    # 2.5e-3 to the nearest value: bfloat16 steps by 2^-7 above 1 and rounds that to 0
    expected = float(acting_vector(torch.tensor(1.0025), getattr(torch, v_dtype))) - 1
    assert moved_by == {True: pytest.approx(expected, abs=1e-3), False: 0.0}


def test_without_a_master_v_is_a_tensor_of_its_dtype_and_trains():
    model = small_model()
    adapter = inject(model, TinyLoraConfig(v_dtype="bfloat16", v_master=False))
    assert adapter.v.dtype == torch.bfloat16
    model(token_ids()).logits.square().mean().backward()
    assert adapter.v.grad.dtype == torch.bfloat16
    torch.optim.Adam([adapter.v], lr=1e-3).step()
    assert float(adapter.v.detach().abs().min()) > 0
