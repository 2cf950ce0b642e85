"""Deblurring: the sharp pictures that, blurred again, are the one given."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ..core.operators import Blur, CutBlur, gaussian_kernel, motion_kernel
from ..core.plan import Run
from ..errors import InputError
from ..maps.blur_width import SHARP, estimate_blur
from ..schema import DeblurRequest, is_auto
from .base import (
    Task,
    TaskInput,
    TaskOutput,
    channels_last_pixels,
    in_part,
    noise_tensor,
    numbers,
    strength_tensor,
)
from .measured import ROUNDING, reconstructed

_LEVELS = 35 / 127.5, 2.55 / 127.5
_PASSED = 0.5  # of σ²: noise that the picture may bring along, beside the denoiser's own error
_MOST = 50.0  # of σ²: the largest V
_NARROWEST = 0.3  # pixels; narrower Gaussians leave every pixel as it is
_CELL = 4  # pixels: what is added around is a multiple, as the bundled prior errs less so


def deblur(request: DeblurRequest, source: TaskInput, run: Run) -> TaskOutput:
    """Estimate the mean, or sample, held to the blurred picture in every step.

    The picture is taken for a part cut out of a larger scene: what is estimated is larger by the
    kernel's reach, of which no more is known than the light that it shed into the picture, and in
    the end is cut as the picture was.
    """
    strength = strength_tensor(request.strength, source, invert=request.invert)
    noise = noise_tensor(request.noise_level_8bit, source)
    if is_auto(request.noise_level_8bit):
        noise = noise.median().view(1, 1, 1, 1)
    noise = noise.clamp(min=ROUNDING)
    kernel, notes = _kernel(request, source, noise)
    operator = _operator(kernel, source)
    y, level = source.image, float(noise.square().mean())

    def held(sigma: float, following: float) -> float:
        return held_variance(operator, y, level, following)

    wide = F.pad(y, operator.around, "reflect")
    first = torch.full((1, 1, 1, 1), held(0, _LEVELS[0]))
    start = operator.prox(wide, y, first, noise.square())
    output = reconstructed(
        request, source, run, operator, y, start, _LEVELS, held=held, noise_sigma=noise
    )
    mean = None if output.mean is None else in_part(source, operator.cut(output.mean), strength)
    if is_auto(request.noise_level_8bit):
        notes = (*notes, f"noise: {127.5 * math.sqrt(level):.1f} of 255, estimated")
    return replace(
        output,
        samples=in_part(source, operator.cut(output.samples), strength),
        keep=strength == 0,
        map=strength,
        mean=mean,
        notes=(*notes, *output.notes),
    )


def held_variance(operator: Blur, like: Tensor, noise_variance: float, sigma: float) -> float:
    """The V with which the prox lets in noise of half the variance that the denoiser is told.

    With more, the denoiser takes noise for picture, and each pass adds to it: kernels that pass
    much of the spectrum a little, such as motion, need less than a Gaussian, which passes some of
    it well and the rest not at all.

    Args:
        operator: A.
        like: a picture of the size.
        noise_variance: R.
        sigma: σ that the denoiser is told next.
    """
    low, high = 0.1 * sigma**2, _MOST * sigma**2
    for _ in range(20):
        middle = math.sqrt(low * high)
        if operator.passed_noise(like, middle, noise_variance) > _PASSED * sigma**2:
            high = middle
        else:
            low = middle
    return low


def _kernel(
    request: DeblurRequest, source: TaskInput, noise: Tensor
) -> tuple[Tensor, tuple[str, ...]]:
    """The kernel, and what there is to say of it."""
    kind = request.kernel
    if isinstance(kind, str) and kind == "gaussian":
        if request.sigma is not None:
            return gaussian_kernel(max(request.sigma, _NARROWEST)), ()
        sigma = estimate_blur(channels_last_pixels(source), float(noise.square().mean().sqrt()))
        if sigma < SHARP:
            note = f"blur: none found (a Gaussian's width would be under {SHARP:g} pixels)"
            return gaussian_kernel(_NARROWEST), (note,)
        return gaussian_kernel(sigma), (f"blur: a Gaussian of {sigma:.2f} pixels, estimated",)
    if isinstance(kind, str) and kind == "motion":
        return motion_kernel(float(request.length or 1), request.angle), ()
    return given_kernel(kind), ()


def given_kernel(value: Any) -> Tensor:
    """A kernel as the user gives it, (h,w) with odd sides and sum 1, its middle in the middle.

    Args:
        value: an array (h,w), or a grey picture or its file.

    Raises:
        InputError: anything else, or values without a positive sum.
    """
    kernel = numbers(
        value,
        "kernel",
        scale=1,
        file="'gaussian', 'motion', an array, or a grey picture's file",
        other="'gaussian', 'motion', an array (h,w), or a grey picture",
        dtype=torch.float64,
    )
    if kernel.ndim != 2:
        raise InputError(f"kernel has the shape {tuple(kernel.shape)}: give (h,w)")
    if not bool(kernel.isfinite().all()) or float(kernel.sum()) <= 0:
        raise InputError("kernel must be finite and sum to more than 0: check its values")
    odd = F.pad(kernel, (0, 1 - kernel.shape[1] % 2, 0, 1 - kernel.shape[0] % 2))
    return odd / odd.sum()


def _operator(kernel: Tensor, source: TaskInput) -> CutBlur:
    """The blur, if the picture is large enough for it, with a reach of whole cells if it can."""
    if any(side // 2 >= length for side, length in zip(kernel.shape, source.size, strict=True)):
        raise InputError(
            f"the kernel has {kernel.shape[0]}x{kernel.shape[1]} pixels and the picture "
            f"{source.size[0]}x{source.size[1]}: give a smaller kernel or a larger picture"
        )
    more = [
        max(0, min(-(-(side // 2) // _CELL) * _CELL, length - 1) - side // 2)
        for side, length in zip(kernel.shape, source.size, strict=True)
    ]
    return CutBlur(F.pad(kernel, (more[1], more[1], more[0], more[0])))


TASK = Task(DeblurRequest, deblur, "take a known blur away, or a Gaussian one of unknown width")
