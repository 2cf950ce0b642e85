"""Inpainting: holes start from pure noise, known pixels keep what noise they have."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from ..core.plan import Plan, Run
from ..schema import InpaintRequest
from .base import (
    MEAN_ALONE,
    SAMPLE_ALONE,
    Task,
    TaskInput,
    TaskOutput,
    colour_noise,
    draw,
    noise_tensor,
    plan_options,
    spreads,
    strength_tensor,
    unused,
)
from .filling import mean_filling, surroundings

NO_MEAN = "the model draws samples alone: {} went unused"


def inpaint(request: InpaintRequest, source: TaskInput, run: Run) -> TaskOutput:
    """Fill where the mask is positive; a soft mask is a strength and is not thresholded.

    A known pixel has start = target = its noise: the model is told the truth about it and
    leaves it alone. Pixels that may change end clean. What lies under a hole does not count: the
    colours around it stand there before the noise does.
    """
    strength = strength_tensor(request.mask, source, invert=request.invert)
    known = strength == 0
    noise = noise_tensor(request.noise_level_8bit, source, ignore=~known)

    def plan(image: Tensor, told: Tensor) -> Plan:
        still = torch.where(known, told, 0.0)
        return Plan(image, strength, noise=told, target=still, **plan_options(request))

    keep, mean = known & request.exact, None
    if request.estimate == "mean" and source.denoises:
        image, told = colour_noise(source, noise, request.seed)
        options = request.pipeline_options()
        mean = mean_filling(image, strength, told, run, request.passes, request.seed, options)
        if request.samples == 1:
            return TaskOutput(
                mean, keep, strength, noise, mean=mean, notes=unused(request, MEAN_ALONE)
            )
    if source.denoises:
        source = replace(source, image=surroundings(source.image, strength >= 1))
    samples = draw(request, source, noise, plan, run)
    notes: tuple[str, ...] = ()
    if mean is None:
        notes = unused(request, SAMPLE_ALONE if source.denoises else NO_MEAN, ("passes",))
    spread = spreads(request, noise)
    return TaskOutput(samples, keep, strength, noise, notes=notes, spread=spread, mean=mean)


TASK = Task(InpaintRequest, inpaint, "fill holes, in a clean or a noisy photograph")
