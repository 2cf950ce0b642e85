"""The oracles against brute force: joint Gaussians, quadrature, limits."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from differential_diffusion.core.oracle import Gaussian, GaussianMixture, Oracle, PointMixture
from differential_diffusion.errors import InputError

from .helpers import gaussian, mixture, normal, points

ORACLES = {"gaussian": gaussian(2), "mixture": mixture(2), "points": points(6, 2)}
SIGMAS = {
    "uniform": torch.full((1, 1, 1, 1), 0.7, dtype=torch.float64),
    "map": torch.tensor([1.0, 0.3, 0.1, 2.0], dtype=torch.float64).view(1, 1, 2, 2),
    "kept": torch.tensor([1.0, 0.0, 0.1, 0.0], dtype=torch.float64).view(1, 1, 2, 2),
    "large": torch.tensor([1e4, 0.0, 20.0, 0.5], dtype=torch.float64).view(1, 1, 2, 2),
}


def test_gaussian_is_conditioning_of_the_joint_law() -> None:
    """Condition (x0, x) ~ N with blocks [Σ, Σ; Σ, Σ + S] on x, by the textbook formula."""
    g, x, sigma = gaussian(2), normal(3, 2, 2, 2, seed=4), SIGMAS["map"]
    cov, s = g.covariance, torch.diag(sigma.expand(1, 2, 2, 2).flatten() ** 2)
    gain = cov @ torch.linalg.inv(cov + s)
    mean = g.mean.flatten() + (x - g.mean).flatten(1) @ gain.mT
    posterior = g.posterior(x, sigma)
    torch.testing.assert_close(posterior.mean, mean.view_as(x))
    torch.testing.assert_close(posterior.covariance[0], cov - gain @ cov)
    assert torch.equal(g(x, sigma), posterior.mean)


def test_gaussian_at_zero_conditions_on_the_pixel() -> None:
    """σ = 0 on some pixels and ∞ on the others is the conditional prior."""
    g, x = gaussian(2), normal(2, 2, 2, 2, seed=4)
    known = torch.tensor([True, False, True, False]).view(1, 1, 2, 2)
    sigma = torch.where(known, 0.0, torch.tensor(1e6, dtype=torch.float64))
    limit, exact = g.posterior(x, sigma), g.conditional(x, known)
    torch.testing.assert_close(limit.mean, exact.mean, rtol=0, atol=1e-5)
    torch.testing.assert_close(limit.covariance, exact.covariance, rtol=0, atol=1e-9)
    assert torch.equal(exact.mean[..., 0], x[..., 0])
    precision = torch.linalg.inv(g.covariance)
    u = (~known).expand(1, 2, 2, 2).flatten()
    torch.testing.assert_close(exact.covariance[0][u][:, u], torch.linalg.inv(precision[u][:, u]))


def test_gaussian_likelihood() -> None:
    g, x, sigma = gaussian(2), normal(3, 2, 2, 2), SIGMAS["kept"]
    k = g.covariance + torch.diag(sigma.expand(1, 2, 2, 2).flatten() ** 2)
    expected = torch.distributions.MultivariateNormal(g.mean.flatten(), k).log_prob(x.flatten(1))
    torch.testing.assert_close(g.log_likelihood(x, sigma), expected)


@pytest.mark.parametrize("sigma", [(0.5, 0.5), (1.0, 0.2), (2.0, 0.05)])
@pytest.mark.parametrize("kind", ["gaussian", "mixture"])
def test_posteriors_are_the_integrals_they_claim(kind: str, sigma: tuple[float, float]) -> None:
    """Bayes' rule on a fine grid over two pixels."""
    parts = [gaussian(1, 1, 2, seed=s) for s in (3, 5)]
    oracle: Oracle = parts[0]
    weights = torch.tensor([1.0, 0.0], dtype=torch.float64)
    if kind == "mixture":
        weights = torch.tensor([0.7, 0.3], dtype=torch.float64)
        oracle = GaussianMixture(parts, weights)
    x, levels = normal(1, 1, 1, 2, seed=9), torch.tensor(sigma, dtype=torch.float64)
    axis = torch.linspace(-7, 7, 1401, dtype=torch.float64)
    x0 = torch.cartesian_prod(axis, axis)
    prior = sum(
        w
        * torch.distributions.MultivariateNormal(g.mean.flatten(), g.covariance).log_prob(x0).exp()
        for w, g in zip(weights, parts, strict=True)
    )
    density = prior * torch.exp(-((x.flatten() - x0) ** 2 / (2 * levels**2)).sum(1))
    density = density / density.sum()
    mean = density @ x0
    covariance = (x0 - mean).mT @ (density[:, None] * (x0 - mean))
    posterior = oracle.posterior(x, levels.view(1, 1, 1, 2))
    torch.testing.assert_close(posterior.mean.flatten(), mean, rtol=0, atol=1e-6)
    torch.testing.assert_close(posterior.covariance[0], covariance, rtol=0, atol=1e-6)


def test_point_mixture_weighs_by_bayes_rule() -> None:
    prior = PointMixture(normal(4, 1, 1, 3, seed=1), torch.tensor([4.0, 3.0, 2.0, 1.0]).double())
    x = normal(1, 1, 1, 3, seed=2)
    sigma = torch.tensor([0.5, 1.0, 2.0], dtype=torch.float64).view(1, 1, 1, 3)
    likelihood = torch.exp(-((x - prior.points) ** 2 / (2 * sigma**2)).flatten(1).sum(1))
    w = likelihood * torch.tensor([0.4, 0.3, 0.2, 0.1])
    w = w / w.sum()
    torch.testing.assert_close(prior.weights(x, sigma)[0], w)
    mean = (w.view(-1, 1, 1, 1) * prior.points).sum(0)
    torch.testing.assert_close(prior(x, sigma)[0], mean)


def test_point_mixture_at_zero_is_the_limit() -> None:
    prior = points(6, 1)
    prior.points[3, ..., 0] = prior.points[1, ..., 0]  # two agree on the known column
    x = prior.points[1:2].clone()
    x[..., 1] += 0.8
    kept = torch.tensor([True, False, True, False]).view(1, 1, 2, 2)
    exact = prior.weights(x, torch.where(kept, 0.0, 1.0).double())
    limit = prior.weights(x, torch.where(kept, 1e-4, 1.0).double())
    torch.testing.assert_close(exact, limit, rtol=0, atol=1e-9)
    assert 0 < exact[0, 3] < exact[0, 1] < 1
    off = prior.weights(x + 0.01, torch.where(kept, 0.0, 1.0).double())
    assert off.argmax() in (1, 3)


def test_point_mixture_is_the_limit_of_narrow_gaussians() -> None:
    prior, x = points(4), normal(2, 1, 2, 2)
    eye = torch.eye(4, dtype=torch.float64)
    narrow = GaussianMixture(
        [Gaussian(p, 1e-10 * eye) for p in prior.points], torch.ones(4, dtype=torch.float64)
    )
    for sigma in (SIGMAS["uniform"], SIGMAS["map"]):
        torch.testing.assert_close(narrow(x, sigma), prior(x, sigma), rtol=0, atol=1e-6)
        torch.testing.assert_close(
            narrow.posterior(x, sigma).covariance,
            prior.posterior(x, sigma).covariance,
            rtol=0,
            atol=1e-6,
        )


@pytest.mark.parametrize("sigma", SIGMAS)
@pytest.mark.parametrize("oracle", ORACLES)
def test_mean_and_covariance_obey_tweedie(oracle: str, sigma: str) -> None:
    """Cov(x0 | x) = ∂D/∂x · S for every prior: the mean's Jacobian against the covariance."""
    prior, level = ORACLES[oracle], SIGMAS[sigma]
    x = normal(1, 2, 2, 2, seed=8)

    def mean(flat: Tensor) -> Tensor:
        return prior(flat.view(1, 2, 2, 2), level).flatten()

    jacobian = torch.autograd.functional.jacobian(mean, x.flatten())
    s = level.expand(1, 2, 2, 2).flatten() ** 2
    covariance = prior.posterior(x, level).covariance[0]
    torch.testing.assert_close(jacobian * s, covariance, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("sigma", SIGMAS)
@pytest.mark.parametrize("oracle", ORACLES)
def test_kept_pixels_are_themselves(oracle: str, sigma: str) -> None:
    prior, level = ORACLES[oracle], SIGMAS[sigma]
    x = normal(3, 2, 2, 2, seed=8)
    posterior = prior.posterior(x, level)
    kept = (level == 0).expand_as(x)
    assert bool(posterior.mean.isfinite().all())
    torch.testing.assert_close(posterior.mean[kept], x[kept], rtol=1e-14, atol=1e-14)
    variances = posterior.covariance.diagonal(dim1=1, dim2=2).view_as(x)
    assert bool((variances[kept].abs() < 1e-14).all())
    assert bool((torch.linalg.eigvalsh(posterior.covariance) > -1e-9).all())


def test_bad_priors_are_refused() -> None:
    mean, eye = torch.zeros(1, 1, 2), torch.eye(2)
    with pytest.raises(InputError, match="do not fit"):
        Gaussian(mean, torch.eye(3))
    with pytest.raises(InputError, match="positive definite"):
        Gaussian(mean, torch.tensor([[1.0, 2.0], [2.0, 1.0]]))
    with pytest.raises(InputError, match="symmetric"):
        Gaussian(mean, torch.tensor([[1.0, 0.5], [0.0, 1.0]]))
    with pytest.raises(InputError, match="2 positive numbers"):
        GaussianMixture([Gaussian(mean, eye)] * 2, torch.tensor([1.0, 0.0]))
    with pytest.raises(InputError, match="points must have the shape"):
        PointMixture(torch.zeros(3, 2))
    with pytest.raises(InputError, match="3 positive numbers"):
        PointMixture(torch.zeros(3, 1, 2, 2), torch.ones(2))
