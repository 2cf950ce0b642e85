"""What several tests of the core share: small oracles with closed forms."""

from __future__ import annotations

import torch
from torch import Tensor

from differential_diffusion.core import Denoiser, Path, Solver, sample
from differential_diffusion.core.oracle import Gaussian, GaussianMixture, PointMixture


def normal(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def gaussian(
    channels: int = 1, height: int = 2, width: int = 2, *, smallest: float = 0.2, seed: int = 0
) -> Gaussian:
    """A Gaussian whose pixels correlate strongly, variances from `smallest` to about one."""
    d = channels * height * width
    q, _ = torch.linalg.qr(normal(d, d, seed=seed))
    variances = torch.linspace(smallest, 1.2, d, dtype=torch.float64)
    return Gaussian(0.5 * normal(channels, height, width, seed=seed + 1), q * variances @ q.mT)


def mixture(channels: int = 1, height: int = 2, width: int = 2) -> GaussianMixture:
    """Three overlapping Gaussians: a denoiser that is neither affine nor piecewise constant."""
    parts = [gaussian(channels, height, width, seed=seed) for seed in (3, 5, 7)]
    return GaussianMixture(parts, torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64))


def points(count: int, channels: int = 1, height: int = 2, width: int = 2) -> PointMixture:
    """A few pictures as the whole prior."""
    return PointMixture(normal(count, channels, height, width, seed=5))


def exact_law(
    denoise: Denoiser, path: Path, solver: Solver, x: Tensor, spread: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Mean (d,) and covariance (d,d) of a run's end, exactly.

    With a Gaussian prior the denoiser is affine, so the end is affine in each noise draw: a
    batch with one unit draw in each row gives all coefficients in one run. The run starts from
    x, (1,C,H,W), or, with `spread` (d,d), from N(x, spread spreadᵀ).
    """
    d = x[0].numel()
    starts = x.flatten(1).repeat(1 + solver.draws * len(path) * d, 1)
    if spread is not None:
        starts = torch.cat([starts, x.flatten(1) + spread.mT])

    def noise(k: int) -> Tensor:
        eps = torch.zeros_like(starts)
        eps[1 + k * d : 1 + (k + 1) * d] = torch.eye(d, dtype=x.dtype)
        return eps.view(-1, *x.shape[1:])

    end = sample(denoise, starts.view(-1, *x.shape[1:]), path, solver, noise).flatten(1)
    response = end[1:] - end[0]
    return end[0], response.mT @ response
