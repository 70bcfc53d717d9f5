"""The adapter on a GPU against the CPU."""

import pytest
import torch

from tests.unit.adapter.models import small_model, token_ids
from tests.unit.adapter.test_inject import moved
from tinylora_rl.adapter import TinyLoraConfig, inject
from tinylora_rl.adapter.svd import truncated_svd

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU"),
]


def test_singular_vectors_agree_signs_included():
    weight = torch.randn(700, 500, generator=torch.Generator().manual_seed(0))
    weight[:, :2] *= 8  # a spectral gap
    for here, there in zip(truncated_svd(weight, 2), truncated_svd(weight.cuda(), 2), strict=True):
        torch.testing.assert_close(there.cpu(), here, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_logits_and_gradient_agree(dtype):
    results = []
    for device in ("cpu", "cuda"):
        model = small_model(dtype=dtype)
        adapter = inject(model, TinyLoraConfig())
        moved(adapter)
        model.to(device)
        adapter.to(device)
        logits = model(token_ids().to(device)).logits.float()
        logits.square().mean().backward()
        results.append((logits.detach().cpu(), adapter.v.grad.cpu()))
    tolerance = 1e-4 if dtype == torch.float32 else 5e-2  # bf16 keeps 8 bits
    for here, there in zip(*results, strict=True):
        torch.testing.assert_close(
            there, here, rtol=tolerance, atol=tolerance * float(here.abs().max())
        )
