"""How likely a picture is, by the probability-flow ODE of any denoiser."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Literal

import torch
from torch import Tensor

from ..errors import InputError
from .types import Denoiser

__all__ = ["bits_per_dimension", "log_likelihood"]

Trace = Literal["exact", "hutchinson"]

LEVEL = 1 / 127.5
"""Width of an 8-bit level on [-1,1]."""


def log_likelihood(
    denoise: Denoiser,
    x: Tensor,
    *,
    unknown: Tensor | None = None,
    sigma_min: float = 0.002,
    sigma_max: float = 20.0,
    sigma_data: float = 0.5,
    steps: int = 32,
    trace: Trace = "exact",
    probes: int = 1,
    seed: int = 0,
) -> Tensor:
    """The logarithm of the density of pictures with noise σ_min, log p(x; σ_min), in nats.

    Along the probability-flow ODE, dx = (x - D(x, σ)) d ln σ, the density changes by the flow's
    divergence (Song et al., 2021, section 4.3):

        log p(x; σ_min) = log p(x_T; σ_max) + ∫ (n - tr ∂D/∂x) d ln σ

    from ln σ_min to ln σ_max, n being the number of unknown values. At σ_max pictures are taken for
    white about their mean, p = N(D(0, σ_max), σ_max² + σ_data²). Steps are even in
    ln σ, by Runge and Kutta's method of fourth order.

    With a σ-map model that holds for a part of the picture too: pixels that are known have σ = 0
    throughout, and the result is log p(unknown | known).

    Args:
        denoise: D(x, σ), differentiable in x.
        x: (B,C,H,W).
        unknown: (B or 1,1,H,W) bool, the pixels whose density it is; all by default.
        sigma_min, sigma_max: ends of the path.
        sigma_data: deviation of the data.
        steps: of the ODE; each takes four evaluations, and their traces.
        trace: "exact", by one backward pass for each value of a picture, or "hutchinson",
            an unbiased estimate by random signs.
        probes: of Hutchinson's estimate, backward passes for each evaluation.
        seed: of the probes, the same at every σ (Grathwohl et al., 2019).

    Returns: (B,).

    Raises:
        InputError: no unknown pixels, levels that are no range, or fewer than one step or probe.
    """
    if not 0 < sigma_min < sigma_max:
        raise InputError(
            f"the path from {sigma_min} to {sigma_max} is none: let σ rise from over 0."
        )
    if steps < 1 or probes < 1:
        raise InputError(f"steps is {steps} and probes {probes}: give 1 at least of each.")
    where = torch.ones(1, 1, *x.shape[2:], dtype=torch.bool) if unknown is None else unknown
    where = where.to(x.device).expand(len(x), 1, *x.shape[2:])
    count = where.expand_as(x).flatten(1).sum(1)
    if not bool((count > 0).all()):
        raise InputError("no pixel is unknown, and a density needs one: mark some as unknown.")
    directions = _directions(x, where, trace, probes, seed)

    def flow(at: Tensor, u: float) -> tuple[Tensor, Tensor]:
        sigma = torch.where(where, math.exp(u), 0.0).to(x)
        with torch.enable_grad():
            state = at.detach().requires_grad_()
            d = torch.where(where, denoise(state, sigma), state)
            summed = _trace(d, state, directions)
        return torch.where(where, at - d.detach(), 0.0), count - summed

    total, at = x.new_zeros(len(x)), x
    h = math.log(sigma_max / sigma_min) / steps
    for k in range(steps):
        u = math.log(sigma_min) + k * h
        slope, rate = flow(at, u)
        slopes, rates = slope, rate
        for share, weight in ((0.5, 2), (0.5, 2), (1.0, 1)):
            slope, rate = flow(at + share * h * slope, u + share * h)
            slopes, rates = slopes + weight * slope, rates + weight * rate
        at, total = at + h / 6 * slopes, total + h / 6 * rates
    variance = sigma_max**2 + sigma_data**2
    with torch.no_grad():
        mean = denoise(torch.where(where, 0.0, x), torch.where(where, sigma_max, 0.0).to(x))
    left = torch.where(where, at - mean, 0.0).flatten(1).square().sum(1)
    return total - left / (2 * variance) - count / 2 * math.log(2 * math.pi * variance)


def bits_per_dimension(
    denoise: Denoiser, levels: Tensor, *, seed: int = 0, **settings: object
) -> Tensor:
    """Bits for each value of 8-bit pictures, no less than the best code by this model needs.

    Levels are dequantised by uniform noise as wide as a level, so that the density's logarithm
    bounds the probability of the level from below (Theis et al., 2016):

        bits = -log2 p(x)/n + log2 127.5,    x = (level + u - 1/2)/127.5 - 1,    u uniform in [0,1)

    Args:
        denoise: D(x, σ), differentiable in x.
        levels: (B,C,H,W), 0 to 255.
        seed: of the noise and of the probes.
        settings: of `log_likelihood`.

    Returns: (B,).
    """
    draw = torch.Generator().manual_seed(seed)
    u = torch.rand(levels.shape, generator=draw, dtype=torch.float64).to(levels.device)
    x = (levels + u - 0.5) * LEVEL - 1
    dtype = levels.dtype if levels.is_floating_point() else torch.float32
    nats = log_likelihood(denoise, x.to(dtype), seed=seed, **settings)  # type: ignore[arg-type]
    return -nats / (x[0].numel() * math.log(2)) - math.log2(LEVEL)


def _directions(
    x: Tensor, where: Tensor, trace: Trace, probes: int, seed: int
) -> Callable[[], Iterator[Tensor]]:
    """Vectors v, like x, over which vᵀ J v is summed: the axes, or random signs."""
    inside = where.expand_as(x).to(x)

    def axes() -> Iterator[Tensor]:
        for index in range(x[0].numel()):
            axis = torch.zeros_like(x).flatten(1)
            axis[:, index] = 1
            axis = axis.view_as(x) * inside
            if bool(axis.any()):
                yield axis

    def signs() -> Iterator[Tensor]:
        draw = torch.Generator().manual_seed(seed)
        for _ in range(probes):
            sign = 2 * torch.randint(2, x.shape, generator=draw) - 1
            yield sign.to(x) * inside * probes**-0.5

    return axes if trace == "exact" else signs


def _trace(d: Tensor, x: Tensor, directions: Callable[[], Iterator[Tensor]]) -> Tensor:
    """Σ vᵀ (∂d/∂x) v of each picture, (B,)."""
    total = x.new_zeros(len(x))
    for v in directions():
        (row,) = torch.autograd.grad(d, x, v, retain_graph=True)
        total = total + (row * v).flatten(1).sum(1)
    return total
