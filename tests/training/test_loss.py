"""The loss in F-space: EDM's weighted loss where that is finite, finite where it is not."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from differential_diffusion.core.precondition import edm
from differential_diffusion.training.loss import level_weight, sigma_map_loss


def network(x: Tensor, c_noise: Tensor) -> Tensor:
    return 0.3 * x.roll(1, dims=-1) + c_noise.sin()


def test_equals_the_weighted_denoising_loss_of_edm() -> None:
    torch.manual_seed(0)
    x0, noise = torch.rand(2, 3, 8, 8).double() * 2 - 1, torch.randn(2, 3, 8, 8).double()
    sigma = torch.rand(2, 1, 8, 8).double() * 3 + 0.01
    denoised = edm(network)(x0 + sigma * noise, sigma)
    weight = level_weight(sigma, 0.5) * (sigma**2 + 0.25) / (sigma * 0.5) ** 2
    expected = (weight * (denoised - x0) ** 2).mean()
    torch.testing.assert_close(sigma_map_loss(network, x0, sigma, noise, 0.5), expected)


def test_the_level_weight_is_one_at_sigma_data_and_even_in_its_logarithm() -> None:
    sigma = torch.tensor([0.0, 0.5 / math.e, 0.5, 0.5 * math.e, math.inf])
    torch.testing.assert_close(level_weight(sigma, 0.5), torch.tensor([0, 0.75, 1, 0.75, 0]))


def test_clean_pixels_do_not_count() -> None:
    torch.manual_seed(0)
    x0, noise = torch.rand(1, 3, 8, 8), torch.randn(1, 3, 8, 8)
    sigma = torch.full((1, 1, 8, 8), 0.3)
    sigma[..., :4] = 0

    def local(x: Tensor, c_noise: Tensor) -> Tensor:
        return 0.3 * x

    mixed = sigma_map_loss(local, x0, sigma, noise, 0.5)
    half = sigma_map_loss(local, x0[..., 4:], sigma[..., 4:], noise[..., 4:], 0.5)
    torch.testing.assert_close(mixed, 0.5**0.5 * half)
    assert float(sigma_map_loss(local, x0, 0 * sigma, noise, 0.5)) == 0


def test_the_loss_of_a_batch_is_the_mean_of_its_pictures() -> None:
    torch.manual_seed(0)
    x0, noise = torch.rand(3, 3, 8, 8), torch.randn(3, 3, 8, 8)
    sigma = torch.full((3, 1, 8, 8), 0.3)
    sigma[1, :, 1:] = 0
    sigma[2] = 0
    alone = [
        sigma_map_loss(network, x0[b : b + 1], sigma[b : b + 1], noise[b : b + 1], 0.5)
        for b in range(3)
    ]
    together = sigma_map_loss(network, x0, sigma, noise, 0.5)
    torch.testing.assert_close(together, torch.stack(alone).mean())
