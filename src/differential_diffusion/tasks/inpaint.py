"""Inpainting: holes start from pure noise, known pixels keep what noise they have."""

from __future__ import annotations

import torch
from torch import Tensor

from ..core.plan import Plan, Run
from ..schema import InpaintRequest
from .base import (
    Task,
    TaskInput,
    TaskOutput,
    draw,
    noise_tensor,
    plan_options,
    spreads,
    strength_tensor,
)


def inpaint(request: InpaintRequest, source: TaskInput, run: Run) -> TaskOutput:
    """Fill where the mask is positive; a soft mask is a strength and is not thresholded.

    A known pixel has start = target = its noise: the model is told the truth about it and
    leaves it alone. Pixels that may change end clean.
    """
    strength = strength_tensor(request.mask, source, invert=request.invert)
    known = strength == 0
    noise = noise_tensor(request.noise_level_8bit, source, ignore=~known)

    def plan(image: Tensor, told: Tensor) -> Plan:
        still = torch.where(known, told, 0.0)
        return Plan(image, strength, noise=told, target=still, **plan_options(request))

    samples = draw(request, source, noise, plan, run)
    return TaskOutput(
        samples, known & request.exact, strength, noise, spread=spreads(request, noise)
    )


TASK = Task(InpaintRequest, inpaint, "fill holes, in a clean or a noisy photograph")
