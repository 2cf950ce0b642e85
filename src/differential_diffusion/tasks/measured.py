"""Pictures from linear measurements of them: what the tasks of restoration share."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from ..core.guidance import data_consistency, ddnm, pigdm
from ..core.operators import LinearOperator
from ..core.plan import Plan, Run
from ..schema import DemosaicRequest, UpscaleRequest
from .base import TaskInput, TaskOutput, denoise_plan, plan_options

__all__ = ["ROUNDING", "posterior_mean", "reconstructed"]

LEVELS = 49 / 127.5, 2.55 / 127.5
"""σ that the mean begins and ends with, on [-1,1], unless told otherwise."""

ROUNDING = 12**-0.5 / 127.5
"""Deviation of what rounding to 8 bits takes away, on [-1,1]; no picture need repeat it."""

GUIDANCE = {"diffpir": data_consistency, "ddnm": ddnm, "pigdm": pigdm}
"""Kinds of data consistency by the requests' names."""

_HELD = 10.0


def reconstructed(
    request: UpscaleRequest | DemosaicRequest,
    source: TaskInput,
    run: Run,
    operator: LinearOperator,
    y: Tensor,
    start: Tensor,
    levels: tuple[float, float] = LEVELS,
    guidance: str = "diffpir",
) -> TaskOutput:
    """The mean, samples, or both, of the pictures that a measurement leaves open.

    Args:
        request: with `estimate`, `samples`, `passes` and the measurement's noise.
        source: that was measured.
        run: a model.
        operator: A.
        y: what was measured, like ``operator.forward(start)``.
        start: (1,C,H,W), a first guess.
        levels: of `posterior_mean`.
        guidance: of samples, in `GUIDANCE`.
    """
    noise = max(request.noise_level_8bit / 127.5, ROUNDING)
    everywhere, mean = torch.ones(1, 1, *start.shape[-2:]), None
    if request.estimate == "mean":
        mean = posterior_mean(run, operator, y, start, noise, request.passes, request.seed, levels)
        if request.samples == 1:
            return TaskOutput(mean, everywhere == 0, everywhere, mean=mean)
    seen = y[:, : source.model_channels]
    guide = partial(GUIDANCE[guidance], operator=operator, y=seen, noise_sigma=noise)
    samples = run(Plan(start, everywhere, guide=guide, **plan_options(request)))
    if request.noise_level_8bit == 0:
        samples = _held_in_range(operator, seen, samples)
    return TaskOutput(samples, everywhere == 0, everywhere, mean=mean)


def _held_in_range(operator: LinearOperator, y: Tensor, samples: Tensor, times: int = 8) -> Tensor:
    """Samples that hold the measurement within [-1,1] too, by projecting on either in turn.

    What leaves the range is cut off in a picture, and would be missing in what is measured of it.
    Projections go nearly twice as far as they need to, which takes fewer of them.
    """
    for _ in range(times):
        inside = torch.lerp(samples, samples.clamp(-1, 1), 1.9)
        samples = operator.prox(inside, y, torch.ones(1, 1, 1, 1))
    return samples


def posterior_mean(
    run: Run,
    operator: LinearOperator,
    y: Tensor,
    start: Tensor,
    noise_sigma: float,
    passes: int,
    seed: int = 0,
    levels: tuple[float, float] = LEVELS,
) -> Tensor:
    """An estimate of the mean of the pictures that a measurement y = A x + noise leaves open.

    The model is told of falling levels what the picture's errors are like, and after each pass the
    measurement is held (plug-and-play by half-quadratic splitting, DPIR; Zhang et al., 2021):

        z ← D(x, σ_k),    x ← argmin Σ (x - z)²/(2 V_k) + Σ (A x - y)²/(2 R),    V_k = 10 σ_k²

    with σ_k from the first level to the last, or to the measurement's noise, log-evenly. In the
    end V is no larger than it takes for A x to lie as near to y as its noise lets it (Morozov's
    discrepancy principle): more would put the noise back. No noise is added, so that this errs
    less than the mean of a few samples, at the cost of one.

    Args:
        run: a model.
        operator: A.
        y: what was measured, like ``operator.forward(start)``.
        start: (1,C,H,W), a first guess.
        noise_sigma: √R, on [-1,1].
        passes: how many levels.
        seed: of the plans, which draw nothing.
        levels: σ to begin and to end with, on [-1,1].

    Returns: (1,C,H,W).
    """
    first, last = levels
    last = min(max(noise_sigma, last), first)
    x, z, variance = start, start, torch.ones(1, 1, 1, 1)
    for sigma in first * (last / first) ** torch.linspace(0, 1, passes):
        z = run(denoise_plan(x, sigma.view(1, 1, 1, 1), seed))
        variance = _HELD * sigma.square().view(1, 1, 1, 1)
        x = operator.prox(z, y, variance, noise_sigma**2)
    for share in (0.0, 0.01, 0.03, 0.1, 0.3):
        nearer = operator.prox(z, y, share * variance, noise_sigma**2)
        if float((operator.forward(nearer) - y).square().mean().sqrt()) <= noise_sigma:
            return nearer
    return x
