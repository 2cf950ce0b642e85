"""Pictures from linear measurements of them: what the tasks of restoration share."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import pairwise

import torch
from torch import Tensor

from ..core.guidance import data_consistency, ddnm, pigdm
from ..core.operators import LinearOperator
from ..core.plan import Plan, Run
from ..schema import DeblurRequest, DemosaicRequest, UpscaleRequest
from .base import (
    MEAN_ALONE,
    SAMPLE_ALONE,
    TaskInput,
    TaskOutput,
    denoise_plan,
    noise_tensor,
    plan_options,
    unused,
)

__all__ = ["ROUNDING", "Held", "posterior_mean", "reconstructed"]

Held = Callable[[float, float], float]
"""V from the σ of this pass and that of the next."""

LEVELS = 49 / 127.5, 2.55 / 127.5
"""σ that the mean begins and ends with, on [-1,1], unless told otherwise."""

ROUNDING = 12**-0.5 / 127.5
"""Deviation of what rounding to 8 bits takes away, on [-1,1]; no picture need repeat it."""

_LOOSE = 100.0
"""Variance, beside that of the picture, of what is measured where noise is known."""

GUIDANCE = {"diffpir": data_consistency, "ddnm": ddnm, "pigdm": pigdm}
"""Kinds of data consistency by the requests' names."""


def ten_times(sigma: float, following: float) -> float:
    """V = 10 σ²: where the measurement leaves out most, and its noise counts little."""
    return 10 * sigma**2


def reconstructed(
    request: UpscaleRequest | DemosaicRequest | DeblurRequest,
    source: TaskInput,
    run: Run,
    operator: LinearOperator,
    y: Tensor,
    start: Tensor,
    levels: tuple[float, float] = LEVELS,
    guidance: str = "diffpir",
    held: Held = ten_times,
    noise_sigma: Tensor | None = None,
) -> TaskOutput:
    """The mean, samples, or both, of the pictures that a measurement leaves open.

    Args:
        request: with `estimate`, `samples`, `passes` and the measurement's noise.
        source: that was measured.
        run: a model.
        operator: A.
        y: what was measured, like ``operator.forward(start)``.
        start: (1,C,H,W), a first guess.
        levels, held: of `posterior_mean`.
        guidance: of samples, in `GUIDANCE`.
        noise_sigma: the measurement's noise on [-1,1], where the request leaves it to the task.
    """
    given = noise_tensor(request.noise_level_8bit, source) if noise_sigma is None else noise_sigma
    noise = given.clamp(min=ROUNDING)
    everywhere, mean = torch.ones(1, 1, *start.shape[-2:]), None
    if request.estimate == "mean":
        mean = posterior_mean(
            run, operator, y, start, noise, request.passes, request.seed, levels, held
        )
        if request.samples == 1:
            notes = unused(request, MEAN_ALONE)
            return TaskOutput(mean, everywhere == 0, everywhere, mean=mean, notes=notes)
    seen = y[:, : source.model_channels]
    guide = partial(GUIDANCE[guidance], operator=operator, y=seen, noise_sigma=noise)
    samples = run(Plan(start, everywhere, guide=guide, **plan_options(request)))
    if not bool((given > 0).all()):
        samples = _held_in_range(operator, seen, samples, given)
    notes = unused(request, SAMPLE_ALONE, ("passes",)) if mean is None else ()
    return TaskOutput(samples, everywhere == 0, everywhere, mean=mean, notes=notes)


def _held_in_range(
    operator: LinearOperator, y: Tensor, samples: Tensor, noise: Tensor, times: int = 8
) -> Tensor:
    """Samples that hold the measurement within [-1,1] too, by projecting on either in turn.

    What leaves the range is cut off in a picture, and would be missing in what is measured of it.
    Where the measurement is noisy it need not be held so.
    Projections go nearly twice as far as they need to, which takes fewer of them.
    """
    loose = _LOOSE * (noise > 0).to(y) if bool(noise.any()) else 0.0
    for _ in range(times):
        inside = torch.lerp(samples, samples.clamp(-1, 1), 1.9)
        samples = operator.prox(inside, y, torch.ones(1, 1, 1, 1), loose)
    return samples


def posterior_mean(
    run: Run,
    operator: LinearOperator,
    y: Tensor,
    start: Tensor,
    noise_sigma: float | Tensor,
    passes: int,
    seed: int = 0,
    levels: tuple[float, float] = LEVELS,
    held: Held = ten_times,
) -> Tensor:
    """An estimate of the mean of the pictures that a measurement y = A x + noise leaves open.

    The model is told of falling levels what the picture's errors are like, and after each pass the
    measurement is held (plug-and-play by half-quadratic splitting, DPIR; Zhang et al., 2021):

        z ← D(x, σ_k),    x ← argmin Σ (x - z)²/(2 V_k) + Σ (A x - y)²/(2 R)

    with σ_k from the first level to the last, or to the measurement's noise, log-evenly, and V_k
    as `held` says, 10 σ_k² unless told otherwise. In the end V is no larger than it takes
    for A x to lie as near to y as its noise lets it (Morozov's discrepancy principle): more would
    put the noise back. No noise is added, so that this errs less than the mean of a few samples,
    at the cost of one.

    Args:
        run: a model.
        operator: A.
        y: what was measured, like ``operator.forward(start)``.
        start: (1,C,H,W), a first guess.
        noise_sigma: √R, on [-1,1], a number or a map like y.
        passes: how many levels.
        seed: of the plans, which draw nothing.
        levels: σ to begin and to end with, on [-1,1].
        held: V of a pass.

    Returns: (1,C,H,W).
    """
    noise = torch.as_tensor(noise_sigma).to(y)
    first, last = levels
    last = min(max(float(noise.square().mean().sqrt()), last), first)
    sigmas = [first * (last / first) ** (k / max(1, passes - 1)) for k in range(passes)]
    x, z, variance = start, start, torch.ones(1, 1, 1, 1)
    for sigma, following in pairwise([*sigmas, sigmas[-1]]):
        z = run(denoise_plan(x, torch.full((1, 1, 1, 1), sigma), seed))
        variance = torch.full((1, 1, 1, 1), held(sigma, following))
        x = operator.prox(z, y, variance, noise.square())
    for share in (0.0, 0.01, 0.03, 0.1, 0.3):
        nearer = operator.prox(z, y, share * variance, noise.square())
        if float(((operator.forward(nearer) - y) / noise).square().mean()) <= 1:
            return nearer
    return x
