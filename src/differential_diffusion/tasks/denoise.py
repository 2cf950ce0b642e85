"""Denoising: the noise that is there is the noise the model removes."""

from __future__ import annotations

import torch
from torch import Tensor

from ..core.plan import Plan, Run
from ..errors import InputError
from ..schema import DenoiseRequest, Request
from .base import (
    Task,
    TaskInput,
    TaskOutput,
    colour_noise,
    denoise_plan,
    draw,
    noise_tensor,
    plan_options,
    posterior_solvers,
    unused,
)

ONE_EVALUATION = "the posterior mean takes one evaluation: {} went unused; samples use them"


def denoise(request: DenoiseRequest, source: TaskInput, run: Run) -> TaskOutput:
    """The posterior mean E[x0 | x] in one evaluation, or n posterior samples.

    Raises:
        InputError: if several samples are asked of a solver that does not sample the posterior.
    """
    noise = noise_tensor(request.noise_level_8bit, source)
    notes: tuple[str, ...] = ()
    if wants_mean(request):
        samples = run(denoise_plan(*colour_noise(source, noise, request.seed), request.seed))
        notes = unused(request, ONE_EVALUATION)
    else:
        samples = posterior_samples(request, source, noise, run)
    active = (noise > 0).expand(1, 1, *source.size)
    return TaskOutput(samples, ~active, active.float(), noise, notes=notes)


def wants_mean(request: Request) -> bool:
    """Whether the posterior mean is all that is asked for."""
    return request.samples == 1 and request.estimate == "mean"


def posterior_samples(request: Request, source: TaskInput, noise: Tensor, run: Run) -> Tensor:
    """The request's samples of what the noisy picture may have been, (n,C,H,W).

    Raises:
        InputError: if the solver does not sample the posterior.
    """
    posterior = posterior_solvers()
    if request.solver not in posterior:
        raise InputError(
            f"the solver '{request.solver}' does not sample the posterior: for "
            f"samples use {' or '.join(posterior)}"
        )

    def plan(image: Tensor, told: Tensor) -> Plan:
        return Plan(image, torch.zeros(1, 1, 1, 1), noise=told, **plan_options(request))

    return draw(request, source, noise, plan, run)


TASK = Task(DenoiseRequest, denoise, "remove noise of known, mapped or estimated level")
