"""Signal and noise of the gradient of v."""

import pytest
import torch

from tinylora_rl.verl_plugin.gradient_snr import MicroBatchNoise, moment_snr


def adam_after(gradients: torch.Tensor) -> torch.optim.Adam:
    v = torch.nn.Parameter(torch.zeros(gradients.shape[1:]))
    optimizer = torch.optim.Adam([v], lr=1e-3)
    for gradient in gradients:
        v.grad = gradient.clone()
        optimizer.step()
    return optimizer


def snr(gradients: torch.Tensor) -> torch.Tensor:
    optimizer = adam_after(gradients)
    return moment_snr(optimizer.state[optimizer.param_groups[0]["params"][0]], (0.9, 0.999))


def test_one_group_of_signal_beside_one_of_noise():
    generator = torch.Generator().manual_seed(0)
    gradients = torch.randn(400, 2, 64, generator=generator)
    gradients[:, 0] = torch.randn(64, generator=generator)  # the same at every step
    signal, noise = snr(gradients).tolist()
    assert signal == pytest.approx(1, abs=1e-4)
    assert noise == pytest.approx((0.1 / 1.9) ** 0.5, rel=0.3)  # 64 numbers, about 10 % of spread


def test_of_one_gradient_nothing_is_said():
    assert snr(torch.randn(1, 1, 3)) is None


def test_micro_batches_tell_the_noise_of_their_sum():
    v = torch.nn.Parameter(torch.zeros(1, 1000))
    noise = MicroBatchNoise(v)
    generator = torch.Generator().manual_seed(1)
    for mean, expected in (
        (0.0, 1.0),
        (1.0, 9.0),
    ):  # |g|^2 = (8 mean)^2 + 8, variance 8, each of 1000
        v.grad = None
        for _ in range(8):
            part = torch.randn(1, 1000, generator=generator) + mean
            (v * part).sum().backward()
        assert noise.take_snr() == pytest.approx(expected, rel=0.15)
    assert noise.take_snr() is None
