"""Likelihood by the probability-flow ODE, against closed forms."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from differential_diffusion.core.likelihood import bits_per_dimension, log_likelihood
from differential_diffusion.core.oracle import Gaussian, GaussianMixture
from differential_diffusion.errors import InputError

SIZE = 2, 3, 4
COUNT = math.prod(SIZE)


def gaussian(seed: int = 0) -> Gaussian:
    draw = torch.Generator().manual_seed(seed)
    factor = torch.randn(COUNT, COUNT, generator=draw, dtype=torch.float64) / COUNT**0.5
    mean = 0.3 * torch.randn(SIZE, generator=draw, dtype=torch.float64)
    covariance = 0.2 * factor @ factor.mT + 0.01 * torch.eye(COUNT, dtype=torch.float64)
    return Gaussian(mean, covariance)


def drawn(oracle: Gaussian, count: int, seed: int = 1) -> Tensor:
    white = torch.randn(
        count, COUNT, generator=torch.Generator().manual_seed(seed), dtype=torch.float64
    )
    return oracle.mean + (white @ torch.linalg.cholesky(oracle.covariance).mT).view(count, *SIZE)


def level(sigma: float) -> Tensor:
    return torch.full((1, 1, 1, 1), sigma, dtype=torch.float64)


def test_a_gaussian_within_a_hundredth_of_a_nat_per_dimension() -> None:
    oracle = gaussian()
    x = drawn(oracle, 4)
    exact = oracle.log_likelihood(x, level(0.002))
    found = log_likelihood(oracle, x)
    assert float((found - exact).abs().max()) / COUNT < 0.01
    closer = log_likelihood(oracle, x, steps=64, sigma_max=200)
    assert float((closer - exact).abs().max()) / COUNT < 1e-3


def test_a_mixture() -> None:
    parts = [gaussian(3), gaussian(4)]
    oracle = GaussianMixture(parts, torch.tensor([0.3, 0.7], dtype=torch.float64))
    x = torch.cat([drawn(part, 2) for part in parts])
    logs = torch.stack([part.log_likelihood(x, level(0.01)) for part in parts])
    exact = (logs + torch.tensor([[0.3], [0.7]], dtype=torch.float64).log()).logsumexp(0)
    found = log_likelihood(oracle, x, sigma_min=0.01, sigma_max=80)
    assert float((found - exact).abs().max()) / COUNT < 0.01


def test_of_the_unknown_pixels_given_the_others() -> None:
    oracle = gaussian()
    x = drawn(oracle, 3)
    unknown = torch.zeros(1, 1, 3, 4, dtype=torch.bool)
    unknown[..., 1:, :2] = True
    where = unknown.expand(1, *SIZE).flatten()
    posterior = oracle.conditional(x, ~unknown)
    residual = (x - posterior.mean).flatten(1)[:, where]
    covariance = posterior.covariance[:, where][:, :, where]
    covariance = covariance + 0.002**2 * torch.eye(int(where.sum()), dtype=torch.float64)
    exact = torch.distributions.MultivariateNormal(
        torch.zeros(int(where.sum()), dtype=torch.float64), covariance
    ).log_prob(residual)
    found = log_likelihood(oracle, x, unknown=unknown, sigma_max=80)
    assert float((found - exact).abs().max()) / int(where.sum()) < 0.01


def test_random_probes_are_right_in_the_mean() -> None:
    oracle = gaussian()
    x = drawn(oracle, 1)
    exact = log_likelihood(oracle, x, steps=16)
    found = torch.stack(
        [log_likelihood(oracle, x, steps=16, trace="hutchinson", seed=k) for k in range(64)]
    )
    error = float(found.std()) / 8
    assert error > 0
    assert abs(float(found.mean() - exact)) < 4 * error
    many = log_likelihood(oracle, x, steps=16, trace="hutchinson", probes=256)
    assert abs(float(many - exact)) < float(found.std()) / 2


def test_bits_of_a_uniform_source() -> None:
    """No model codes evenly spread levels in fewer than 8 bits; a broad one comes near."""

    def broad(x: Tensor, sigma: Tensor) -> Tensor:
        return x * 0.36 / (0.36 + sigma * sigma)

    levels = torch.arange(256.0).view(1, 1, 16, 16)
    bits = bits_per_dimension(broad, levels, trace="hutchinson")
    variance = 0.36 + 0.002**2
    x = (levels - 127.5) / 127.5
    nats = (x.square().mean() / (2 * variance)) + 0.5 * math.log(2 * math.pi * variance)
    assert float(bits) == pytest.approx(float(nats) / math.log(2) + math.log2(127.5), abs=0.02)
    assert float(bits) > 8


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"sigma_min": 0}, "let σ rise"),
        ({"sigma_min": 3, "sigma_max": 2}, "let σ rise"),
        ({"steps": 0}, "give 1 at least"),
        ({"probes": 0}, "give 1 at least"),
        ({"unknown": torch.zeros(1, 1, 3, 4, dtype=torch.bool)}, "no pixel is unknown"),
    ],
)
def test_bad_settings_are_said(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        log_likelihood(gaussian(), drawn(gaussian(), 1), **settings)
