"""Closed-form denoisers: priors whose posterior under any σ-map is known exactly.

They are what the tests of everything else compare with, so they favour exactness over speed:
pictures are small, and covariances are full matrices over the d = C·H·W values of a picture in
the order of ``x.flatten(1)``. Use float64.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import NamedTuple

import torch
from torch import Tensor

from ..errors import InputError

__all__ = ["Gaussian", "GaussianMixture", "Oracle", "PointMixture", "Posterior"]


class Posterior(NamedTuple):
    """Mean (B,C,H,W) and covariance (B,d,d) of p(x0 | x)."""

    mean: Tensor
    covariance: Tensor


class Oracle(ABC):
    """A prior with a closed-form posterior; calling it makes it a `Denoiser`."""

    @abstractmethod
    def posterior(self, x: Tensor, sigma: Tensor) -> Posterior:
        """p(x0 | x) for x = x0 + σ ε: x (B,C,H,W), σ broadcastable to (B,1,H,W), σ ≥ 0."""

    def __call__(self, x: Tensor, sigma: Tensor, /) -> Tensor:
        """The posterior mean, (B,C,H,W)."""
        return self.posterior(x, sigma).mean


class Gaussian(Oracle):
    """A Gaussian prior with any covariance, x0 ~ N(μ, Σ).

        K = Σ + S,    S = diag σ²
        D = x - S K⁻¹ (x - μ),    Cov = Σ K⁻¹ S

    which where σ = 0 is x itself, with no variance: the pixel is conditioned on.

    Args:
        mean: μ, (C,H,W).
        covariance: Σ, (d,d), symmetric and positive definite.

    Raises:
        InputError: shapes that do not fit, or a covariance that is not positive definite.
    """

    def __init__(self, mean: Tensor, covariance: Tensor) -> None:
        d = mean.numel()
        if mean.ndim != 3 or covariance.shape != (d, d):
            raise InputError(
                f"mean {tuple(mean.shape)} and covariance {tuple(covariance.shape)} do not fit:"
                " give (C,H,W) and (d,d) with d = C·H·W."
            )
        symmetric = torch.allclose(covariance, covariance.mT)
        if not symmetric or bool(torch.linalg.cholesky_ex(covariance).info):
            raise InputError("covariance must be symmetric and positive definite: fix the prior.")
        self.mean, self.covariance = mean, covariance

    def _factor(self, x: Tensor, sigma: Tensor) -> Tensor:
        """Cholesky factor of K, (B or 1,d,d)."""
        k = self.covariance.to(x) + torch.diag_embed(_variances(x, sigma))
        factor: Tensor = torch.linalg.cholesky(k)
        return factor

    def posterior(self, x: Tensor, sigma: Tensor) -> Posterior:
        """N(D, Cov), see the class."""
        s, factor = _variances(x, sigma), self._factor(x, sigma)
        residual = (x - self.mean.to(x)).flatten(1).unsqueeze(2)
        gain = torch.cholesky_solve(residual, factor).squeeze(2)
        mean = x - (s * gain).view_as(x)
        covariance = self.covariance.to(x) @ torch.cholesky_inverse(factor) * s.unsqueeze(1)
        covariance = (covariance + covariance.mT) / 2
        noisy = (s > 0).unsqueeze(1) & (s > 0).unsqueeze(2)
        covariance = torch.where(noisy, covariance, 0.0)
        return Posterior(mean, covariance.expand(len(x), -1, -1))

    def log_likelihood(self, x: Tensor, sigma: Tensor) -> Tensor:
        """The logarithm of p(x; σ) = N(x; μ, K), (B,)."""
        factor = self._factor(x, sigma)
        residual = (x - self.mean.to(x)).flatten(1).unsqueeze(2)
        white: Tensor = torch.linalg.solve_triangular(factor, residual, upper=False).squeeze(2)
        half_log_det: Tensor = factor.diagonal(dim1=1, dim2=2).log().sum(1)
        quadratic = white.square().sum(1) + white.shape[1] * math.log(2 * math.pi)
        return -half_log_det - quadratic / 2

    def conditional(self, x: Tensor, known: Tensor) -> Posterior:
        """p(x0 | x0 = x where known), the other pixels of x being ignored.

            μ_u + Σ_uk Σ_kk⁻¹ (x_k - μ_k),    Σ_uu - Σ_uk Σ_kk⁻¹ Σ_ku

        Args:
            x: (B,C,H,W).
            known: boolean mask (1,1,H,W).
        """
        k = known.expand(1, *self.mean.shape).flatten()
        cov = self.covariance.to(x)
        gain = torch.linalg.solve(cov[k][:, k], cov[k]).mT  # Σ_:k Σ_kk⁻¹
        mean = self.mean.to(x).flatten() + (x - self.mean.to(x)).flatten(1)[:, k] @ gain.mT
        mean = torch.where(known, x, mean.view_as(x))
        covariance = torch.where(k | k[:, None], 0.0, cov - gain @ cov[k])
        return Posterior(mean, covariance.expand(len(x), -1, -1))


class GaussianMixture(Oracle):
    """A mixture of Gaussians, x0 ~ Σ_m π_m N(μ_m, Σ_m).

    Its posterior is the mixture of the Gaussians' posteriors with the weights

        w_m ∝ π_m N(x; μ_m, Σ_m + diag σ²)

    Args:
        components: at least one `Gaussian`, all of one shape.
        weights: π, (M,), positive; they are normalised.

    Raises:
        InputError: weights that are not positive, or not one for each component.
    """

    def __init__(self, components: list[Gaussian], weights: Tensor) -> None:
        self.components = components
        self.log_weights = _log_weights(weights, len(components))

    def weights(self, x: Tensor, sigma: Tensor) -> Tensor:
        """Posterior weights of the components, (B,M)."""
        likelihoods = [g.log_likelihood(x, sigma) for g in self.components]
        return (self.log_weights.to(x) + torch.stack(likelihoods, 1)).softmax(1)

    def posterior(self, x: Tensor, sigma: Tensor) -> Posterior:
        """Mean and covariance of the posterior mixture."""
        parts = [g.posterior(x, sigma) for g in self.components]
        means = torch.stack([p.mean for p in parts], 1)
        within = torch.stack([p.covariance for p in parts], 1)
        return _moments(self.weights(x, sigma), means, within)


class PointMixture(Oracle):
    """One of M pictures, x0 ~ Σ_m π_m δ(x0 - μ_m): a training set as its own prior.

    The posterior is the same mixture with the weights

        w_m ∝ π_m Π_p exp(-(x_p - μ_mp)²/(2 σ_p²))

    In the limit σ_p → 0 the pictures that are nearest to x over the pixels with σ = 0 share the
    weight alone, by their likelihood over the others.

    Args:
        points: μ, (M,C,H,W).
        weights: π, (M,), positive, normalised; equal by default.

    Raises:
        InputError: points of another shape, or weights that do not fit.
    """

    def __init__(self, points: Tensor, weights: Tensor | None = None) -> None:
        if points.ndim != 4 or not len(points):
            raise InputError(f"points must have the shape (M,C,H,W), not {tuple(points.shape)}.")
        self.points = points
        self.log_weights = _log_weights(
            torch.ones(len(points), dtype=points.dtype) if weights is None else weights, len(points)
        )

    def weights(self, x: Tensor, sigma: Tensor) -> Tensor:
        """Posterior weights of the pictures, (B,M)."""
        s = _variances(x, sigma).unsqueeze(1)
        square = (x.flatten(1).unsqueeze(1) - self.points.to(x).flatten(1)).square()
        noisy = s > 0
        exponent = torch.where(noisy, square / torch.where(noisy, 2 * s, 1.0), 0.0).sum(2)
        distance = torch.where(noisy, 0.0, square).sum(2)
        nearest = distance.amin(1, keepdim=True)
        farther = distance > nearest * (1 + 1e-6) + torch.finfo(x.dtype).tiny
        logits = (self.log_weights.to(x) - exponent).masked_fill(farther, -torch.inf)
        return logits.softmax(1)

    def posterior(self, x: Tensor, sigma: Tensor) -> Posterior:
        """Mean and covariance of the weighted pictures; x, without variance, where σ = 0."""
        points = self.points.to(x).expand(len(x), *self.points.shape)
        points = torch.where(sigma.unsqueeze(1) > 0, points, x.unsqueeze(1))
        d = x[0].numel()
        return _moments(self.weights(x, sigma), points, x.new_zeros(1, 1, d, d))


def _variances(x: Tensor, sigma: Tensor) -> Tensor:
    """σ² of every value of the picture, (B,d), or (1,d) if σ is the same for all images."""
    return sigma.to(x).square().expand(-1, *x.shape[1:]).flatten(1)


def _log_weights(weights: Tensor, count: int) -> Tensor:
    if weights.shape != (count,) or not count or not bool((weights > 0).all()):
        raise InputError(f"weights must be {count} positive numbers: fix the mixture.")
    return (weights / weights.sum()).log()


def _moments(weights: Tensor, means: Tensor, within: Tensor) -> Posterior:
    """Moments of a mixture: weights (B,M), means (B,M,C,H,W), covariances (B or 1,M or 1,d,d)."""
    w = weights[:, :, None, None]
    mean = (w.unsqueeze(4) * means).sum(1)
    deviation = (means - mean.unsqueeze(1)).flatten(2)
    between = deviation.mT @ (w.squeeze(3) * deviation)
    return Posterior(mean, (w * within).sum(1) + between)
