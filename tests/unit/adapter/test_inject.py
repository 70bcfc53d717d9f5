"""The adapted model against a float64 reference of W + U S R Vt."""

import copy

import pytest
import torch

from tests.unit.adapter.models import CONFIGS, small_model, token_ids
from tinylora_rl.adapter import TinyLoraConfig, inject
from tinylora_rl.adapter.delta import delta_weight
from tinylora_rl.adapter.layer import TinyLoraLinear

CONFIGURATIONS = [
    TinyLoraConfig(),
    TinyLoraConfig(u=1, n_tie=4),
    TinyLoraConfig(u=3, n_tie=1, r=3),
    TinyLoraConfig(u=2, n_tie=1, tie_mode="structured"),
    TinyLoraConfig(u=4, svd_split="sqrt", projection="rademacher"),
]


def moved(adapter, scale: float = 0.3) -> None:
    """v is random and large enough to matter."""
    generator = torch.Generator().manual_seed(5)
    adapter.v.data.copy_(torch.randn(adapter.v.shape, generator=generator) * scale)


def reference_delta(weight: torch.Tensor, adapter, name: str) -> torch.Tensor:
    """dW in float64 from LAPACK's vectors, signs and all, written out as the paper has it."""
    config = adapter.config
    U, S, Vt = torch.linalg.svd(weight.double(), full_matrices=False)
    U, S, Vt = U[:, : config.r], S[: config.r], Vt[: config.r]
    sign = torch.sign(U.gather(0, U.abs().argmax(dim=0)[None])[0])
    U, Vt = U * sign, Vt * sign[:, None]
    v = adapter.v.detach().double()[adapter.groups[name]]
    R = torch.zeros(config.r, config.r, dtype=torch.float64)
    for v_i, P_i in zip(v, adapter.bank[name].P_URR.double(), strict=True):
        R += v_i * P_i
    if config.svd_split == "sqrt":
        return U @ S.sqrt().diag() @ R @ S.sqrt().diag() @ Vt
    return U @ S.diag() @ R @ Vt


@pytest.mark.parametrize("architecture", CONFIGS)
def test_at_zero_the_logits_are_the_bases_bit_for_bit(architecture):
    for dtype in (torch.float32, torch.bfloat16):
        model = small_model(architecture, dtype)
        with torch.no_grad():
            base = model(token_ids()).logits
            adapter = inject(model, TinyLoraConfig())
            assert torch.equal(model(token_ids()).logits, base)
        assert not adapter.v.detach().any()
        assert adapter.v.dtype == torch.float32


@pytest.mark.parametrize("architecture", CONFIGS)
@pytest.mark.parametrize("config", CONFIGURATIONS, ids=range(len(CONFIGURATIONS)))
def test_logits_are_those_of_a_model_with_reference_weights(architecture, config):
    model = small_model(architecture)
    twin = copy.deepcopy(model).double()
    adapter = inject(model, config)
    moved(adapter)
    for target in adapter.targets:
        linear = twin.get_submodule(target.name)
        linear.weight.data += reference_delta(linear.weight.data, adapter, target.name)
    with torch.no_grad():
        ours = model(token_ids()).logits
        true = twin(token_ids()).logits
        with adapter.disabled():
            base = model(token_ids()).logits
    # fp32 forward of two blocks: errors of about 1e-6 on logits of order 1
    torch.testing.assert_close(ours.double(), true, rtol=0, atol=2e-5)
    assert (ours - base).abs().max() > 100 * 2e-5


def test_merged_weights_are_base_plus_reference_and_leave_the_base_alone():
    model = small_model()
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    adapter = inject(model, TinyLoraConfig(u=2, n_tie=3))
    moved(adapter)
    merged = dict(adapter.merged_weights(dtype=torch.float32))
    assert sorted(merged) == sorted(target.weight_name for target in adapter.targets)
    for target in adapter.targets:
        weight = before[target.weight_name]
        true = weight.double() + reference_delta(weight, adapter, target.name)
        # one rounding to fp32 of the sum, and the factors' own fp32 error
        torch.testing.assert_close(merged[target.weight_name].double(), true, rtol=1e-6, atol=1e-6)
    for name, weight in model.state_dict().items():
        assert torch.equal(weight, before[name]), name


def test_merged_model_and_adapted_model_agree():
    model = small_model()
    merged_model = copy.deepcopy(model)
    adapter = inject(model, TinyLoraConfig())
    moved(adapter)
    merged_model.load_state_dict(
        dict(adapter.merge(merged_model.state_dict().items())), strict=True
    )
    with torch.no_grad():
        torch.testing.assert_close(
            merged_model(token_ids()).logits, model(token_ids()).logits, rtol=0, atol=2e-5
        )


def test_lora_factors_multiply_to_the_update():
    model = small_model()
    adapter = inject(model, TinyLoraConfig(u=2, n_tie=3))
    moved(adapter)
    for name, (A, B) in adapter.lora_factors().items():
        num_out, num_in = model.get_submodule(name).weight.shape
        assert A.shape == (2, num_in)
        assert B.shape == (num_out, 2)
        true = reference_delta(model.get_submodule(name).weight.data, adapter, name)
        torch.testing.assert_close((B @ A).double(), true, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("config", CONFIGURATIONS, ids=range(len(CONFIGURATIONS)))
def test_the_gradient_of_v_is_float64s(config):
    model = small_model()
    adapter = inject(model, config)
    moved(adapter)
    model(token_ids()).logits.square().mean().backward()

    twin = small_model().double()
    v = adapter.v.detach().double().requires_grad_()
    state = dict(twin.named_parameters())
    for target in adapter.targets:
        factors = adapter.bank[target.name]
        R = torch.tensordot(v[adapter.groups[target.name]], factors.P_URR.double(), dims=1)
        delta = factors.left_OR.double() @ R @ factors.right_RI.double()
        state[target.weight_name] = state[target.weight_name].detach() + delta
    logits = torch.func.functional_call(twin, state, (token_ids(),)).logits
    (true,) = torch.autograd.grad(logits.square().mean(), v)
    torch.testing.assert_close(
        adapter.v.grad.double(), true, rtol=1e-3, atol=1e-6 * float(true.abs().max())
    )


def test_the_gradient_at_zero_is_not_zero_and_only_v_has_one():
    model = small_model()
    adapter = inject(model, TinyLoraConfig())
    model(token_ids()).logits.square().mean().backward()
    assert float(adapter.v.grad.abs().min()) > 0
    assert [
        name for name, p in model.named_parameters() if p.requires_grad or p.grad is not None
    ] == []
    assert all(p is not adapter.v for p in model.parameters())


def test_gradient_checkpointing_and_autocast_change_no_meaning():
    gradients = []
    for checkpointing in (False, True):
        model = small_model(dtype=torch.bfloat16).train()
        if checkpointing:
            model.gradient_checkpointing_enable(
                gradient_checkpointing_kwargs={"use_reentrant": False}
            )
        adapter = inject(model, TinyLoraConfig())
        moved(adapter, scale=0.05)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = model(token_ids(), use_cache=False).logits.float().square().mean()
        loss.backward()
        gradients.append(adapter.v.grad)
    assert gradients[0].dtype == torch.float32
    torch.testing.assert_close(gradients[0], gradients[1], rtol=1e-2, atol=1e-4)


def test_backward_keeps_rank_r_activations_only():
    """What the adapter adds to the graph of one linear: nothing the size of its input or output."""
    num_tokens, width = 50, 32
    model = small_model()
    adapter = inject(model, TinyLoraConfig())
    linear = model.get_submodule(adapter.targets[0].name)
    x = torch.randn(num_tokens, width, requires_grad=True)
    saved: list[torch.Tensor] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: saved.append(t) or t, lambda t: t):
        linear(x)
    frozen = {
        factor.data_ptr() for f in adapter.bank.values() for factor in (f.left_OR, f.right_RI)
    }
    frozen.add(linear.weight.data_ptr())
    extra = [t for t in saved if t.data_ptr() not in frozen]
    assert max(t.numel() for t in extra) <= num_tokens * adapter.config.r


def test_state_dict_names_and_values_are_untouched_and_remove_restores():
    model = small_model()
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    adapter = inject(model, TinyLoraConfig())
    assert list(model.state_dict()) == list(before)
    linear = model.get_submodule(adapter.targets[0].name)
    assert type(linear) is TinyLoraLinear
    adapter.remove()
    assert type(linear) is torch.nn.Linear
    assert all(torch.equal(weight, before[name]) for name, weight in model.state_dict().items())


def test_delta_norm_matches_the_matrices():
    model = small_model()
    adapter = inject(model, TinyLoraConfig(u=2, n_tie=3))
    moved(adapter)
    square, base_square = 0.0, 0.0
    for name, factors in adapter.bank.items():
        square += (
            float(delta_weight(factors, adapter.v.detach()[adapter.groups[name]]).double().norm())
            ** 2
        )
        base_square += float(model.get_submodule(name).weight.double().norm()) ** 2
    assert adapter.relative_delta_norm() == pytest.approx((square / base_square) ** 0.5, rel=1e-4)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (
            {"target_modules": ("q_proj", "w_proj")},
            "target_modules=w_proj: Qwen2ForCausalLM has no such linear",
        ),
        ({"target_modules": ("input_layernorm",)}, "only a plain nn.Linear"),
        ({"r": 40}, "r=40: larger than the rank"),
    ],
)
def test_what_does_not_fit_the_model_is_refused(config, message):
    with pytest.raises(ValueError, match=message):
        inject(small_model(), TinyLoraConfig(**config))


def test_merging_a_stream_without_a_target_is_refused():
    adapter = inject(small_model(), TinyLoraConfig())
    with pytest.raises(ValueError, match="14 adapted weights were not among those to merge"):
        list(adapter.merge([("lm_head.weight", torch.zeros(2, 2))]))
