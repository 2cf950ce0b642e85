"""Enhancement: noise and compression go, then real detail and local contrast are raised."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..core.operators.channels import LUMA
from ..core.plan import Run
from ..maps.compression import estimate_compression
from ..schema import EnhanceRequest, is_auto
from .base import (
    Task,
    TaskInput,
    TaskOutput,
    above_floor,
    channels_last_pixels,
    colour_noise,
    denoise_plan,
    in_part,
    noise_tensor,
    strength_tensor,
    unused,
)
from .denoise import ONE_EVALUATION, posterior_samples, wants_mean

Array = NDArray[np.float32]


GAINS = {"low": 0.12, "medium": 0.25, "high": 0.4}
"""What is added of detail of middling contrast, as a share of it."""


@dataclass(frozen=True)
class Layer:
    """Detail that is finer than a window.

    Attributes:
        radius: of the window, in pixels.
        edge_8bit: deviation within the window at which half of the detail counts as an edge.
    """

    radius: int
    edge_8bit: float


LAYERS = Layer(2, 6.0), Layer(8, 10.0)
"""Detail, and local contrast in what is left of the picture without it."""

_SAFETY = 1.5


def enhance(request: EnhanceRequest, source: TaskInput, run: Run) -> TaskOutput:
    """The posterior mean, or samples, with the detail of the mean brought out.

    Samples get what the mean gets: what differs between them is not known, and is not amplified.
    """
    noise, doubt = _noise(request, source)
    strength = strength_tensor(request.strength, source, invert=request.invert)
    mean = run(denoise_plan(*colour_noise(source, noise, request.seed), request.seed))
    if source.grey:
        mean = mean.mean(1, keepdim=True).expand_as(source.image)
    added = detail(mean, doubt, GAINS[request.level])
    enhanced = in_part(source, mean + added, strength)
    if wants_mean(request):
        samples, notes = enhanced, unused(request, ONE_EVALUATION)
    else:
        drawn = posterior_samples(request, source, noise, run)
        samples, notes = in_part(source, drawn + added, strength), ()
    return TaskOutput(
        samples,
        strength == 0,
        strength,
        noise,
        notes=(_note(noise), *notes),
        mean=enhanced if request.estimate == "mean" else None,
    )


def detail(image: Tensor, noise: Tensor, gain: float) -> Tensor:
    """What to add to each channel of a picture, (1,1,H,W), for more detail and local contrast.

    For each layer, from the luma x of what the layers before have left, with mean m and variance v
    of x within the layer's window and a mean * over such windows:

        b = * (m + v/(v + ε) (x - m))        the guided filter: it keeps edges, of v above ε
        d = x - b                            the layer's detail; b is the next layer's x
        added = gain (* max(0, 1 - (1.5 σ)²/v)) d    as Wiener's filter, of noise half as much again

    so that what varies no more than the noise did is not amplified, and edges get no halo. What is
    added goes to zero where it would drive a channel out of the range.

    Args:
        image: without its noise, (1,C,H,W) in [-1,1].
        noise: σ of the noise that was there, (1,1,H,W) or (1,1,1,1).
        gain: share of a layer that is added, where it is neither noise nor edge.

    The filter is that of He, Sun and Tang, "Guided image filtering", IEEE TPAMI 2013.
    """
    image = image.clamp(-1, 1)
    weights = torch.tensor(LUMA).view(1, 3, 1, 1)
    x = (image * weights if image.shape[1] == 3 else image).sum(1)[0].numpy()
    variance = np.square(_SAFETY * noise[0, 0].numpy())
    added = np.zeros_like(x)
    for layer in LAYERS:
        v, base = _guided(x, layer.radius, (layer.edge_8bit / 127.5) ** 2)
        share = _window(np.maximum(1 - variance / np.maximum(v, 1e-12), 0), layer.radius)
        added += np.float32(gain) * share * (x - base)
        x = base
    wanted = torch.from_numpy(added)[None, None]
    room = torch.where(wanted > 0, 1 - image.amax(1, keepdim=True), 1 + image.amin(1, keepdim=True))
    return wanted.sign() * room * (1 - torch.exp(-wanted.abs() / room.clamp(min=1e-6)))


def _guided(x: Array, radius: int, epsilon: float) -> tuple[Array, Array]:
    """The variance of a plane within a window, and what the guided filter leaves of the plane."""
    m = _window(x, radius)
    v = np.maximum(_window(x * x, radius) - m * m, 0)
    a = v / (v + np.float32(epsilon))
    return v, _window(a, radius) * x + _window((1 - a) * m, radius)


def _window(plane: Array, radius: int) -> Array:
    """Mean over the square of 2 radius + 1 pixels a side around each pixel."""
    side = 2 * radius + 1
    return np.asarray(cv2.blur(plane, (side, side), borderType=cv2.BORDER_REFLECT))


def _noise(request: EnhanceRequest, source: TaskInput) -> tuple[Tensor, Tensor]:
    """σ of the picture's noise, and σ below which no detail is sure.

    Of estimates, compression counts where it did more. Where it left little to remove it may have
    taken all detail away: there its mean counts against what looks like detail.
    """
    noise = noise_tensor(request.noise_level_8bit, source)
    if not is_auto(request.noise_level_8bit):
        return noise, noise
    compression = torch.from_numpy(estimate_compression(channels_last_pixels(source)))[None, None]
    noise = above_floor(noise)
    noise = torch.maximum(noise, compression)
    return noise, noise.clamp(min=float(compression.mean()))


def _note(noise: Tensor) -> str:
    levels = noise * 127.5
    return (
        f"noise and compression: {float(levels.mean()):.1f} of 255 on average, "
        f"{float(levels.max()):.1f} at most"
    )


TASK = Task(EnhanceRequest, enhance, "remove noise and bring out detail and local contrast")
