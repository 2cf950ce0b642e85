"""Guidance against closed forms: exact posteriors given a measurement, published rescaling."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from differential_diffusion.core import (
    DDIM,
    Heun,
    LinearOperator,
    Mask,
    classifier_free,
    data_consistency,
    ddnm,
    loss_guidance,
    pigdm,
    sample,
    wait,
)
from differential_diffusion.core.operators import BlockAverage, Blur
from differential_diffusion.core.oracle import Gaussian
from differential_diffusion.core.types import Denoiser
from differential_diffusion.errors import InputError

from .helpers import gaussian, mixture, normal

Loss = Callable[[Tensor], Tensor]

X = normal(2, 1, 2, 2, seed=2)
SIGMA = torch.tensor([1.3, 0.4, 0.05, 0.0], dtype=torch.float64).view(1, 1, 2, 2)
UNIFORM = torch.full((1, 1, 1, 1), 0.7, dtype=torch.float64)
MASK = torch.tensor([1.0, 1.0, 0.0, 1.0], dtype=torch.float64).view(1, 1, 2, 2)


def white(deviation: float) -> Gaussian:
    mean = normal(1, 2, 2, seed=7)
    return Gaussian(mean, deviation**2 * torch.eye(4, dtype=torch.float64))


def update(prior: Gaussian, x: Tensor, sigma: Tensor, y: Tensor, noise: Tensor) -> Tensor:
    """E[x0 | x, y] for y = m x0 + noise, by stacking both measurements into one system."""
    precision = torch.linalg.inv(prior.covariance)
    information = (precision @ prior.mean.flatten()).expand(len(x), -1)
    s, r = sigma.expand(1, 1, 2, 2).flatten() ** 2, noise.expand(1, 1, 2, 2).flatten() ** 2
    m = MASK.flatten()
    precision = precision + torch.diag(1 / s + m / r)
    information = information + x.flatten(1) / s + m * y.flatten(1) / r
    return torch.linalg.solve(precision, information.mT).mT.view_as(x)


@pytest.mark.parametrize("noise", [0.05, 0.5])
@pytest.mark.parametrize("sigma", [UNIFORM, SIGMA.clamp(min=0.05)])
def test_data_consistency_is_exact_for_a_white_prior(sigma: Tensor, noise: float) -> None:
    prior, y = white(0.6), MASK * normal(2, 1, 2, 2, seed=9)
    noise_map = noise * torch.tensor([1.0, 2.0, 3.0, 0.5], dtype=torch.float64).view(1, 1, 2, 2)
    guided = data_consistency(prior, Mask(MASK), y, noise_sigma=noise_map, sigma_data=0.6)
    torch.testing.assert_close(guided(X, sigma), update(prior, X, sigma, y, noise_map))


def test_exact_measurements_are_held_and_the_rest_left() -> None:
    y = normal(2, 1, 2, 2, seed=9)
    guided = data_consistency(mixture(), Mask(MASK), MASK * y)
    estimate, plain = guided(X, UNIFORM), mixture()(X, UNIFORM)
    measured = MASK.expand_as(X) == 1
    torch.testing.assert_close(estimate[measured], y[measured])
    assert torch.equal(estimate[~measured], plain[~measured])


@pytest.mark.parametrize("kind", [data_consistency, pigdm])
def test_a_run_under_guidance_samples_the_posterior_given_y(kind: Callable[..., Denoiser]) -> None:
    """White prior: the guided ODE is that of N(m, s²), which ends at m + s (x - m)/√(s² + σ²)."""
    prior, noise = white(0.6), torch.full((1, 1, 1, 1), 0.2, dtype=torch.float64)
    x, y = 5 * normal(1, 1, 2, 2, seed=8), MASK * normal(1, 1, 2, 2, seed=9)
    guided = kind(prior, Mask(MASK), y, noise_sigma=0.2, sigma_data=0.6)
    start = torch.full((1, 1, 1, 1), 5.0, dtype=torch.float64)
    end = sample(guided, x, wait(start, None, 400, sigma_max=5.0), Heun())
    mean = update(prior, x, torch.full_like(start, 1e6), y, noise)
    variance = 1 / (1 / 0.6**2 + MASK / 0.2**2)
    exact = mean + (variance / (variance + 5.0**2)).sqrt() * (x - mean)
    torch.testing.assert_close(end, exact, rtol=0, atol=1e-3)


@pytest.mark.parametrize("noise", [0.05, 0.5])
@pytest.mark.parametrize("sigma", [UNIFORM, SIGMA.clamp(min=0.05)])
def test_pigdm_is_exact_for_a_white_prior(sigma: Tensor, noise: float) -> None:
    prior, y = white(0.6), MASK * normal(2, 1, 2, 2, seed=9)
    noise_map = noise * torch.tensor([1.0, 2.0, 3.0, 0.5], dtype=torch.float64).view(1, 1, 2, 2)
    guided = pigdm(prior, Mask(MASK), y, noise_sigma=noise_map, sigma_data=0.6)
    torch.testing.assert_close(guided(X, sigma), update(prior, X, sigma, y, noise_map))


@pytest.mark.parametrize("pixel", range(4))
@pytest.mark.parametrize("sigma", [UNIFORM, SIGMA])
def test_pigdm_with_the_exact_variance_is_exact_for_any_covariance(
    sigma: Tensor, pixel: int
) -> None:
    """One measured value: A V Aᵀ is that of the covariance, and the others move by the prior."""
    prior, y, noise = gaussian(), normal(2, 1, 2, 2, seed=9), 0.3
    mask = torch.zeros(4, dtype=torch.float64)
    mask[pixel] = 1
    law = prior.posterior(X, sigma)
    column = law.covariance[:, :, pixel]
    gain = column / (column[:, pixel : pixel + 1] + noise**2)
    residual = (y - law.mean).flatten(1)[:, pixel : pixel + 1]
    expected = law.mean + (gain * residual).view_as(X)
    diagonal = law.covariance.diagonal(dim1=1, dim2=2).view_as(X)
    measured = Mask(mask.view(1, 1, 2, 2))
    guided = pigdm(
        prior, measured, measured.forward(y), noise_sigma=noise, variance=lambda _: diagonal
    )
    torch.testing.assert_close(guided(X, sigma), expected)
    if pixel < 3 and sigma is UNIFORM:  # what no guidance without the gradient does
        plain = data_consistency(prior, measured, measured.forward(y), noise_sigma=noise)
        others = mask.view(1, 1, 2, 2).expand_as(X) == 0
        assert torch.equal(plain(X, sigma)[others], prior(X, sigma)[others])
        assert float((expected - prior(X, sigma))[others].abs().min()) > 1e-3


@pytest.mark.parametrize("correlation", [0.0, 0.3, 0.9])
def test_pigdm_is_told_by_the_denoiser_how_pixels_are_correlated(correlation: float) -> None:
    """Exchangeable pixels and their mean measured: V's row sums are exact, variances are not."""
    ones = torch.ones(4, 4, dtype=torch.float64)
    covariance = 0.36 * (correlation * ones + (1 - correlation) * torch.eye(4, dtype=torch.float64))
    prior, average = Gaussian(normal(1, 2, 2, seed=7), covariance), BlockAverage(2)
    y, noise = normal(2, 1, 1, 1, seed=9), 0.1
    law = prior.posterior(X, UNIFORM)
    a = torch.full((1, 4), 0.25, dtype=torch.float64)
    gain = law.covariance @ a.mT / (a @ law.covariance @ a.mT + noise**2)
    residual = y.flatten(1) - law.mean.flatten(1) @ a.mT
    expected = law.mean + (gain.squeeze(2) * residual).view_as(X)
    guided = pigdm(prior, average, y, noise_sigma=noise, sigma_data=0.01)(X, UNIFORM)
    torch.testing.assert_close(guided, expected)
    diagonal = law.covariance.diagonal(dim1=1, dim2=2).view_as(X)
    published = pigdm(prior, average, y, noise_sigma=noise, variance=lambda _: diagonal)
    overshoot = (published(X, UNIFORM) - law.mean) / (expected - law.mean)
    if correlation:
        assert float(overshoot.min()) > 1 + correlation


KERNEL = torch.tensor([[0.0, 0.2, 0.1], [0.3, 1.0, 0.05], [0.1, 0.0, 0.15]], dtype=torch.float64)


@pytest.mark.parametrize("operator", [Mask(MASK), BlockAverage(2), Blur(KERNEL)])
def test_ddnm_holds_the_measurement_and_moves_nothing_else(operator: LinearOperator) -> None:
    """A D' = y to rounding; the change lies in the range of Aᵀ: the null space is the model's."""
    truth, x = normal(2, 1, 4, 4, seed=9), normal(2, 1, 4, 4, seed=2)
    if isinstance(operator, Mask):
        operator = Mask((normal(1, 1, 4, 4, seed=5) > 0).double())
    prior, y = mixture(1, 4, 4), operator.forward(truth)
    plain, guided = prior(x, UNIFORM), ddnm(prior, operator, y)(x, UNIFORM)
    torch.testing.assert_close(operator.forward(guided), y, rtol=0, atol=1e-12)
    free = normal(2, 1, 4, 4, seed=11)
    free = free - operator.pseudo_inverse(operator.forward(free))
    moved = ((guided - plain) * free).flatten(1).sum(1)
    torch.testing.assert_close(moved, torch.zeros_like(moved), rtol=0, atol=1e-10)


@pytest.mark.parametrize("noise", [0.0, 1e-9])
def test_ddnm_gives_kept_pixels_share_to_the_others(noise: float) -> None:
    """Of each block the pixels that may move hold the mean together, each as much as another."""
    sigma = torch.full((1, 1, 4, 4), 0.7, dtype=torch.float64)
    sigma[..., 0, 0] = sigma[..., 2:, 2:] = 0
    x, y = normal(2, 1, 4, 4, seed=2), normal(2, 1, 2, 2, seed=9)
    prior, average = mixture(1, 4, 4), BlockAverage(2)
    plain = prior(x, sigma)
    guided = ddnm(prior, average, y, noise_sigma=noise)(x, sigma)
    held = average.forward(guided)
    torch.testing.assert_close(held.flatten(2)[..., :3], y.flatten(2)[..., :3])
    assert torch.equal(guided[..., 2:, 2:], plain[..., 2:, 2:])
    change = (guided - plain)[..., :2, :2].flatten(1)
    assert torch.equal(change[:, 0], torch.zeros(2, dtype=torch.float64))
    torch.testing.assert_close(change[:, 1:], change[:, 1:2].expand(-1, 3))


def test_ddnm_takes_in_no_more_noise_than_the_state_carries() -> None:
    """The published line with λ = min(1, σ/σ_y), by hand: a number, or a map like y."""
    y = MASK * normal(2, 1, 2, 2, seed=9)
    plain = mixture()(X, SIGMA)
    levels = torch.tensor([0.5, 0.9, 0.2, 0.1], dtype=torch.float64).view(1, 1, 2, 2)
    for noise in (0.5, levels):
        share = (SIGMA / noise).clamp(max=1)
        expected = plain + share * MASK * (y - plain)
        guided = ddnm(mixture(), Mask(MASK), y, noise_sigma=noise)(X, SIGMA)
        torch.testing.assert_close(guided, expected)


def likelihood(prior: Gaussian, sigma: Tensor, y: Tensor, noise: float) -> Loss:
    """-log p(y | x) as a function of D: y ~ N(m D, m V m + R), V the posterior covariance."""
    m = torch.diag(MASK.flatten())
    v = prior.posterior(X, sigma).covariance[0]
    inverse = torch.linalg.inv(m @ v @ m + noise**2 * torch.eye(4, dtype=torch.float64))

    def loss(d: Tensor) -> Tensor:
        residual = y.flatten(1) - d.flatten(1) @ m
        return (residual @ inverse * residual).sum(1) / 2

    return loss


@pytest.mark.parametrize("sigma", [UNIFORM, SIGMA.clamp(min=0.05)])
def test_loss_guidance_with_the_likelihood_is_exact(sigma: Tensor) -> None:
    """Any covariance, any map: the posterior mean given y, by Tweedie's formula."""
    prior, y = gaussian(), MASK * normal(2, 1, 2, 2, seed=9)
    noise = torch.full((1, 1, 1, 1), 0.3, dtype=torch.float64)
    guided = loss_guidance(prior, likelihood(prior, sigma, y, 0.3))
    expected = update(prior, X, sigma, y, noise)
    torch.testing.assert_close(guided(X, sigma), expected)
    half = loss_guidance(prior, likelihood(prior, sigma, y, 0.3), 0.5)(X, sigma)
    torch.testing.assert_close(half, (prior(X, sigma) + expected) / 2)


def test_cheap_loss_guidance_is_exact_for_a_white_prior() -> None:
    prior, y = white(0.6), MASK * normal(2, 1, 2, 2, seed=9)
    sigma, noise = SIGMA.clamp(min=0.05), torch.full((1, 1, 1, 1), 0.3, dtype=torch.float64)
    calls = []

    def denoise(x: Tensor, sigma: Tensor) -> Tensor:
        calls.append(torch.is_grad_enabled() and x.requires_grad)
        return prior(x, sigma)

    loss = likelihood(prior, sigma, y, 0.3)
    guided = loss_guidance(denoise, loss, through_denoiser=False, sigma_data=0.6)
    torch.testing.assert_close(guided(X, sigma), update(prior, X, sigma, y, noise))
    assert calls == [False]


def test_loss_guidance_works_within_the_loop_and_lowers_the_loss() -> None:
    start = SIGMA * 10
    path = wait(start, None, 30)

    def loss(d: Tensor) -> Tensor:
        return 4 * (d - 1).square().flatten(1).sum(1)

    free = sample(mixture(), X, path, DDIM())
    for through in (True, False):
        guided = loss_guidance(mixture(), loss, through_denoiser=through)
        end = sample(guided, X, path, DDIM())
        assert not end.requires_grad
        assert bool((loss(end) < 0.5 * loss(free)).all())


def guided_denoisers() -> dict[str, Denoiser]:
    def singular(d: Tensor) -> Tensor:
        return d.abs().sqrt().sum()  # infinite gradient at 0

    y = normal(2, 1, 2, 2, seed=9)
    return {
        "classifier-free": classifier_free(mixture(), gaussian(), 7.5),
        "rescaled": classifier_free(mixture(), gaussian(), 7.5, rescale=0.7),
        "data": data_consistency(mixture(), Mask(MASK), y),
        "noisy data": data_consistency(mixture(), Mask(MASK), y, noise_sigma=0.1),
        "null space": ddnm(mixture(), Mask(MASK), y),
        "noisy null space": ddnm(mixture(), Mask(MASK), y, noise_sigma=0.1 + MASK),
        "pseudo-inverse": pigdm(mixture(), Mask(MASK), y),
        "noisy pseudo-inverse": pigdm(mixture(), Mask(MASK), y, noise_sigma=0.1 + MASK),
        "loss": loss_guidance(mixture(), singular),
        "cheap loss": loss_guidance(mixture(), singular, through_denoiser=False),
    }


@pytest.mark.parametrize("name", guided_denoisers())
def test_kept_pixels_do_not_move(name: str) -> None:
    x = X.clone()
    x[..., 1, 1] = 0.0
    estimate = guided_denoisers()[name](x, SIGMA)
    assert bool((estimate[..., 1, 1] == 0).all())
    assert bool(estimate.isfinite().all())
    zero = torch.zeros(1, 1, 1, 1, dtype=torch.float64)
    torch.testing.assert_close(guided_denoisers()[name](x, zero), x)


def test_classifier_free_is_the_published_line() -> None:
    cond, uncond = mixture(), gaussian()
    d_c, d_u = cond(X, SIGMA), uncond(X, SIGMA)
    assert torch.equal(classifier_free(cond, uncond, 1.0)(X, SIGMA), d_u + (d_c - d_u))
    torch.testing.assert_close(classifier_free(cond, uncond, 0.0)(X, SIGMA), d_u)
    scale = torch.tensor([1.0, 3.0, 0.0, 2.0], dtype=torch.float64).view(1, 1, 2, 2)
    guided = classifier_free(cond, uncond, scale)(X, SIGMA)
    torch.testing.assert_close(guided, d_u + scale * (d_c - d_u))


def test_rescaling_is_the_published_formula() -> None:
    """Lin et al. (2024): of the predicted noise, ε = (x - D)/σ, by its deviation per image."""
    cond, uncond = mixture(), gaussian()
    eps_c, eps_u = ((X - d(X, UNIFORM)) / UNIFORM for d in (cond, uncond))
    eps = eps_u + 7.5 * (eps_c - eps_u)
    rescaled = eps * eps_c.std((1, 2, 3), keepdim=True) / eps.std((1, 2, 3), keepdim=True)
    guided = classifier_free(cond, uncond, 7.5, rescale=0.7)(X, UNIFORM)
    torch.testing.assert_close(guided, X - UNIFORM * (0.7 * rescaled + 0.3 * eps))


def test_rescaling_looks_at_noisy_pixels_only() -> None:
    """The kept part of a picture must not change how the rest is guided."""
    x, sigma = normal(1, 1, 4, 4), torch.full((1, 1, 4, 4), 0.5, dtype=torch.float64)
    sigma[..., 2:, :] = 0

    def cond(x: Tensor, sigma: Tensor) -> Tensor:
        return x / (1 + sigma**2)

    def uncond(x: Tensor, sigma: Tensor) -> Tensor:
        return (x + 0.3 * sigma) / (1 + 2 * sigma**2)

    guided = classifier_free(cond, uncond, 5.0, rescale=1.0)
    part = guided(x[..., :2, :], sigma[..., :2, :])
    torch.testing.assert_close(guided(x, sigma)[..., :2, :], part)


def test_bad_settings_are_refused() -> None:
    d = gaussian()
    with pytest.raises(InputError, match="rescale must lie"):
        classifier_free(d, d, 2.0, rescale=1.1)
    with pytest.raises(InputError, match="noise_sigma must be"):
        data_consistency(d, Mask(MASK), X, noise_sigma=-0.1)
    for kind in (ddnm, pigdm):
        with pytest.raises(InputError, match="noise_sigma must be"):
            kind(d, Mask(MASK), X, noise_sigma=-0.1)
    with pytest.raises(InputError, match="the denoiser passes no gradient"):
        pigdm(lambda x, sigma: d(x, sigma).detach(), Mask(MASK), X)(X, SIGMA)
    for bad in (0.0, -1.0, math.nan):
        with pytest.raises(InputError, match="sigma_data must be above 0"):
            pigdm(d, Mask(MASK), X, sigma_data=bad)
        with pytest.raises(InputError, match="sigma_data must be above 0"):
            data_consistency(d, Mask(MASK), X, sigma_data=bad)
    with pytest.raises(InputError, match="the loss has no gradient"):
        loss_guidance(d, lambda x: x.detach().sum())(X, SIGMA)
