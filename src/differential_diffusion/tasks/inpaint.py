"""Inpainting: holes start from pure noise, known pixels keep what noise they have."""

from __future__ import annotations

import torch

from ..core.plan import Plan, Run
from ..schema import InpaintRequest
from .base import (
    Task,
    TaskInput,
    TaskOutput,
    colour_noise,
    noise_tensor,
    plan_options,
    strength_tensor,
)


def inpaint(request: InpaintRequest, source: TaskInput, run: Run) -> TaskOutput:
    """Fill where the mask is positive; a soft mask is a strength and is not thresholded.

    A known pixel has start = target = its noise: the model is told the truth about it and
    leaves it alone. Pixels that may change end clean.
    """
    strength = strength_tensor(request.mask, source.size, invert=request.invert)
    known = strength == 0
    noise = noise_tensor(request.noise_level_8bit, source, ignore=~known)
    image, told = colour_noise(source, noise, request.seed)
    told = torch.where(known, told, torch.zeros_like(told))
    samples = run(Plan(image, strength, noise=told, target=told, **plan_options(request)))
    return TaskOutput(samples, known, strength, noise)


TASK = Task(InpaintRequest, inpaint, "fill holes, in a clean or a noisy photograph")
