"""One adapted linear: its arithmetic, what it keeps, and the machinery around it."""

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from tests.unit.adapter.models import small_model, token_ids
from tests.unit.adapter.test_inject import moved
from tinylora_rl.adapter import TinyLoraConfig, inject
from tinylora_rl.adapter.delta import delta_weight
from tinylora_rl.adapter.layer import TinyLoraLinear

pytestmark = pytest.mark.filterwarnings(
    # torch 2.13's compiler over torch's own deprecated names
    "ignore::DeprecationWarning:torch.*"
)


def adapted(dtype: torch.dtype = torch.float32, **fields):
    model = small_model(dtype=dtype)
    adapter = inject(model, TinyLoraConfig(**fields))
    moved(adapter)
    return model, adapter


def linear_of(model: nn.Module, name: str = "model.layers.1.mlp.down_proj") -> TinyLoraLinear:
    linear = model.get_submodule(name)
    assert isinstance(linear, TinyLoraLinear)
    return linear


def inputs(*shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    x = torch.randn(*shape, generator=torch.Generator().manual_seed(2))
    return x.to(dtype).requires_grad_()


@pytest.mark.parametrize("name", ["self_attn.k_proj", "mlp.down_proj"])  # with and without bias
@pytest.mark.parametrize("shape", [(5,), (1, 3), (2, 4), (0, 2)], ids=str)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 2e-6), (torch.bfloat16, 2e-2)])
def test_value_and_gradients_are_float64s(name, shape, dtype, tolerance):
    """Within a few units of rounding: 2^-24 and 2^-9 of values summed over 48 terms or fewer."""
    model, adapter = adapted(dtype, u=3, n_tie=4)
    name = f"model.layers.1.{name}"
    linear = linear_of(model, name)
    x = inputs(*shape, linear.in_features, dtype=dtype)
    weight_of_sum = inputs(*shape, linear.out_features)
    y = linear(x)
    (y.float() * weight_of_sum).sum().backward()

    factors, group = adapter.bank[name], adapter.groups[name]
    v = adapter.v.detach().double().requires_grad_()
    R = torch.tensordot(v[group], factors.P_URR.double(), dims=1)
    weight = linear.weight.double() + factors.left_OR.double() @ R @ factors.right_RI.double()
    true_x = x.detach().double().requires_grad_()
    bias = None if linear.bias is None else linear.bias.double()
    true = nn.functional.linear(true_x, weight, bias)
    (true * weight_of_sum.double()).sum().backward()
    assert y.dtype == x.grad.dtype == dtype
    for ours, other in ((y, true), (x.grad, true_x.grad), (adapter.v.grad, v.grad)):
        scale = float(other.detach().abs().max()) if other.numel() else 0.0
        torch.testing.assert_close(
            ours.double(), other, rtol=0, atol=3 * tolerance * max(scale, 1e-3)
        )


def test_inputs_and_gradients_need_not_be_contiguous():
    model, adapter = adapted()
    linear = linear_of(model)
    results = []
    for arrange in (lambda t: t.transpose(0, 1), lambda t: t.transpose(0, 1).contiguous()):
        adapter.v.grad = None
        x = inputs(4, 3, linear.in_features)
        y = linear(arrange(x))
        y.backward(arrange(torch.ones(4, 3, 1)).expand_as(y))
        results.append((y.detach(), x.grad, adapter.v.grad))
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_backward_keeps_what_the_base_keeps_and_r_numbers_per_token(dtype):
    model, adapter = adapted(dtype)
    linear = linear_of(model)
    x = inputs(50, linear.in_features, dtype=dtype)
    factors = adapter.bank["model.layers.1.mlp.down_proj"]
    frozen = [linear.weight, factors.left_OR, factors.right_RI, factors.P_URR]
    saved: list[torch.Tensor] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: saved.append(t) or t, lambda t: t):
        linear(x)
    pointers = {t.data_ptr() for t in frozen}
    extra = {t.data_ptr(): t for t in saved if t.data_ptr() not in pointers}
    assert sorted(tuple(t.shape) for t in extra.values()) == [(2, 2), (2, 50)]


def test_the_update_is_in_no_weight_sized_tensor():
    """Of a pass over one token, forward and backward, no new tensor is nearly as large as W."""
    model, _ = adapted()
    linear = linear_of(model)
    sizes: list[int] = []

    class Sizes(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            result = func(*args, **(kwargs or {}))
            if isinstance(result, torch.Tensor) and result.data_ptr() != linear.weight.data_ptr():
                sizes.append(result.numel())
            return result

    with Sizes():
        linear(inputs(1, linear.in_features)).sum().backward()
    assert max(sizes) < linear.weight.numel() / 4


@pytest.mark.parametrize("use_reentrant", [False, True])
@pytest.mark.parametrize("n_tie", [1, "all"])
def test_checkpointing_gives_the_gradient_of_the_plain_pass(use_reentrant, n_tie):
    gradients = []
    for is_checkpointed in (False, True):
        model, adapter = adapted(u=2, n_tie=n_tie)
        model.train()
        if is_checkpointed:
            model.gradient_checkpointing_enable({"use_reentrant": use_reentrant})
            model.enable_input_require_grads()  # the reentrant kind drops blocks without it
        for rows in (1, 3):  # two passes before a step, as gradient accumulation has them
            logits = model(token_ids(rows), use_cache=False).logits
            logits.square().mean().backward()
        gradients.append(adapter.v.grad)
    # the sum over modules that share v may run in another order
    scale = float(gradients[0].abs().max())
    torch.testing.assert_close(gradients[1], gradients[0], rtol=0, atol=1e-6 * scale)


def test_autocast_runs_in_its_dtype_and_equals_a_cast_model():
    model, adapter = adapted()
    linear = linear_of(model)
    x = inputs(6, linear.in_features)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = linear(x)
    y.float().square().sum().backward()
    cast_model, cast = adapted(torch.bfloat16)
    cast.bank, cast.groups = adapter.bank, adapter.groups
    cast_x = x.detach().to(torch.bfloat16).requires_grad_()
    cast_y = linear_of(cast_model)(cast_x)
    cast_y.float().square().sum().backward()
    assert y.dtype == torch.bfloat16
    assert x.grad.dtype == adapter.v.grad.dtype == torch.float32
    assert torch.equal(y, cast_y)
    assert torch.equal(adapter.v.grad, cast.v.grad)
    assert torch.equal(x.grad, cast_x.grad.float())


@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
def test_compiles_into_one_graph_that_follows_v_and_the_switch(backend):
    model, adapter = adapted(u=3, n_tie=4)
    mlp = model.get_submodule("model.layers.0.mlp")
    torch._dynamo.reset()
    compiled = torch.compile(mlp, backend=backend, fullgraph=True)
    for scale in (1.0, 2.0):
        adapter.v.data.mul_(scale)
        results = []
        for function in (compiled, mlp):
            adapter.v.grad = None
            x = inputs(5, 32)
            y = function(x)
            y.square().sum().backward()
            results.append((y.detach(), x.grad, adapter.v.grad))
        for ours, plain in zip(*results, strict=True):
            torch.testing.assert_close(ours, plain)
    with torch.no_grad(), adapter.disabled():
        assert torch.equal(compiled(inputs(5, 32)), mlp(inputs(5, 32)))
        base = mlp(inputs(5, 32))
    assert not torch.equal(compiled(inputs(5, 32)), base)


def test_tied_modules_add_into_one_row():
    model, adapter = adapted(u=2, n_tie="all")
    untied_model, untied = adapted(u=2, n_tie=1)
    untied.v.data.copy_(adapter.v.data.expand_as(untied.v))
    for each in (model, untied_model):
        each(token_ids()).logits.square().mean().backward()
    torch.testing.assert_close(adapter.v.grad, untied.v.grad.sum(dim=0, keepdim=True))


def test_disabled_is_the_base_bit_for_bit_and_gives_v_no_gradient():
    model, adapter = adapted()
    base = small_model()
    with adapter.disabled():
        logits = model(token_ids()).logits
    assert torch.equal(logits, base(token_ids()).logits)
    assert not logits.requires_grad
    assert model(token_ids()).logits.requires_grad


def test_an_unfrozen_base_is_refused():
    model, _ = adapted()
    linear = linear_of(model)
    linear.weight.requires_grad_()
    with pytest.raises(ValueError, match="down_proj: requires_grad=True, but the base is frozen"):
        linear(inputs(2, linear.in_features))


def test_the_weight_of_the_forward_pass_is_the_merged_one():
    """bf16: the thin path rounds its factors (2^-9 each), the merged weight is rounded once."""
    for dtype, tolerance in ((torch.float32, 1e-6), (torch.bfloat16, 1e-2)):
        model, adapter = adapted(dtype, u=3, n_tie=1)
        merged = dict(adapter.merged_weights(dtype=dtype))
        for target in adapter.targets:
            linear = linear_of(model, target.name)
            x = inputs(9, linear.in_features, dtype=dtype)
            bias = None if linear.bias is None else linear.bias.double()
            delta = delta_weight(adapter.bank[target.name], adapter.v[adapter.groups[target.name]])
            true = nn.functional.linear(
                x.double(), linear.weight.double() + delta.double(), bias
            ).detach()
            scale = float(true.abs().max())
            sampler = nn.functional.linear(x, merged[target.weight_name], linear.bias)
            for ours in (linear(x), sampler):
                torch.testing.assert_close(ours.double(), true, rtol=0, atol=tolerance * scale)


@pytest.mark.parametrize("size", [1e-4, 1e-3])
def test_small_updates_survive_in_bf16(size):
    """The share of x dW^T that reaches y, where adding it to a rounded y would lose it.

    Against exact values; rounding y once leaves noise that averages out over 10^5 entries.
    """
    torch.manual_seed(0)
    linear = nn.Linear(512, 512, bias=False)
    nn.init.normal_(linear.weight, std=512**-0.5)
    block = nn.ModuleDict({"up_proj": linear})
    model = nn.ModuleDict({"layers": nn.ModuleList([block])}).to(torch.bfloat16)
    adapter = inject(model, TinyLoraConfig(u=13, target_modules=("up_proj",)))
    x = torch.randn(512, 512).to(torch.bfloat16)
    base = x.double() @ linear.weight.double().T
    adapter.v.data.fill_(size)
    delta_OI = delta_weight(adapter.bank["layers.0.up_proj"], adapter.v[0].detach()).double()
    wanted = x.double() @ delta_OI.T
    with torch.no_grad():
        moved_y = linear(x).double() - base
    share = float((moved_y * wanted).sum() / (wanted * wanted).sum())
    assert share == pytest.approx(1.0, abs=0.15)
