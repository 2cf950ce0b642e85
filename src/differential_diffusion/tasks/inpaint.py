"""Inpainting: holes start from pure noise, known pixels keep what noise they have."""

from __future__ import annotations

import cv2
import numpy as np
import torch
from torch import Tensor

from ..core.ladder import log_linear, strength_to_sigma
from ..core.plan import Plan, Run
from ..schema import InpaintRequest
from .base import (
    Task,
    TaskInput,
    TaskOutput,
    colour_noise,
    draw,
    noise_tensor,
    plan_options,
    spreads,
    strength_tensor,
)

_FIRST, _LAST = 20 / 127.5, 1 / 127.5
_LARGEST, _REACH = 1 << 18, 6


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

    keep, mean = known & request.exact, None
    if request.estimate == "mean" and source.denoises:
        image, told = colour_noise(source, noise, request.seed)
        mean = mean_filling(image, strength, told, run, request.passes, request.seed)
        if request.samples == 1:
            return TaskOutput(mean, keep, strength, noise, mean=mean)
    samples = draw(request, source, noise, plan, run)
    return TaskOutput(samples, keep, strength, noise, spread=spreads(request, noise), mean=mean)


def mean_filling(
    image: Tensor,
    strength: Tensor,
    noise: Tensor,
    run: Run,
    passes: int,
    seed: int = 0,
) -> Tensor:
    """An estimate of the mean of what the holes may hold, which errs less than that of samples.

    From a smooth surface through what is known, or from what a soft mask leaves, the model is
    told of falling levels how far off the filling is, and the truth about the other pixels:

        x ← D(x, σ_k) where the mask is positive,    σ_k from 20 to 1 of 255, log-evenly

    and of no more than the level that a soft mask's strength stands for. No noise is added.

    Args:
        image: (1,C,H,W) in [-1,1].
        strength: the mask, (1,1,H,W).
        noise: σ of the known pixels, (1,1,H,W) or (1,1,1,1); it stays in them.
        run: a model.
        passes: how many levels.
        seed: of the plans, which draw nothing.

    Returns: (1,C,H,W).
    """
    hole, nothing = strength > 0, torch.zeros(1, 1, 1, 1)
    if not bool(hole.any()):
        return image
    most = strength_to_sigma(strength)
    x = _surface(image, most >= _FIRST, run, seed)
    for sigma in log_linear(passes, _LAST, _FIRST)[:-1]:
        level = torch.where(hole, most.clamp(max=float(sigma)), noise)
        still = torch.where(hole, 0.0, noise)
        x = run(Plan(x, nothing, level, still, seeds=(seed,), steps=1, path="together"))
    return x


def wide(hole: Tensor) -> Tensor:
    """The parts of a hole, (1,1,H,W) bool, too wide for the mean of fillings to have texture."""
    inside = hole[0, 0].numpy().astype(np.uint8)
    core = cv2.distanceTransform(inside, cv2.DIST_L2, cv2.DIST_MASK_5) > _REACH
    square = np.ones((2 * _REACH + 3, 2 * _REACH + 3), np.uint8)
    return torch.from_numpy(cv2.dilate(core.astype(np.uint8), square) > 0)[None, None] & hole


def _surface(image: Tensor, hole: Tensor, run: Run, seed: int) -> Tensor:
    """The picture with a biharmonic surface through each hole, or the model's guess in large ones.

    (Damelin and Hoang, 2018.)
    """
    if not bool(hole.any()):
        return image
    if int(hole.sum()) > _LARGEST or bool(hole.all()):
        return run(Plan(image, hole.float(), seeds=(seed,), steps=1, path="together"))
    from skimage.restoration import inpaint_biharmonic

    inside = hole[0, 0].numpy()
    pixels = np.where(inside[..., None], 0.0, image[0].permute(1, 2, 0).numpy())
    filled = inpaint_biharmonic((pixels + 1) / 2, inside, channel_axis=-1) * 2 - 1
    return torch.where(hole, torch.from_numpy(filled).to(image).permute(2, 0, 1), image)


TASK = Task(InpaintRequest, inpaint, "fill holes, in a clean or a noisy photograph")
