"""What the model of a run cannot explain in a picture: the anomaly map, and hidden damage."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..core.plan import Plan, Run
from ..maps._suspicion import hidden, offsets, opaque
from ..maps._unexplained import (
    ALL_LEVELS_8BIT,
    LEVELS_8BIT,
    anomaly,
    pieces,
    standard_residuals,
    suspects,
)
from .base import TaskInput, colour_noise, denoise_plan

__all__ = ["anomalies", "confirmed", "hidden_damage", "noise_removed"]

_MIDDLE = 512

Array = NDArray[np.float32]

_SHARE = 1.0
"""Noise level that a pixel of hidden damage is told to have, in units of the area's offset."""


def anomalies(image: Tensor, run: Run, *, grey: bool = False) -> Array:
    """How far each pixel lies from what the model explains, in its own deviations.

    Args:
        image: (1,C,H,W) in [-1,1].
        run: a model, which is run five times.
        grey: whether the channels are equal.

    Returns: (H,W), positive where the picture is lighter than explained. Over clean photographs the
        mean is about 0 and the variance 1.
    """
    zero = torch.zeros(1, 1, 1, 1)
    return anomaly(_residuals(image, zero, run, ALL_LEVELS_8BIT, grey=grey))


def hidden_damage(
    image: Tensor,
    noise: Tensor,
    run: Run,
    *,
    grey: bool = False,
    known: Tensor | None = None,
    beside: Tensor | None = None,
) -> Tensor:
    """The noise level that stands for damage which hides in the picture, σ (1,1,H,W), 0 for none.

    Areas that stand out are filled from what is around them. Where the difference is judged to be
    damage, its mean size is the level: of the area and of the pixels next to it.

    Args:
        image: (1,C,H,W) in [-1,1].
        noise: σ of its noise, (1,1,H,W) or (1,1,1,1).
        run: a model, which is run four times.
        grey: whether the channels are equal.
        known: (1,1,H,W) bool, pixels not to look at.
        beside: (1,1,H,W) bool, hidden damage that was found before.
    """
    level = np.zeros(tuple(image.shape[-2:]), np.float32)
    z = _residuals(image, noise, run, LEVELS_8BIT, grey=grey)
    if known is not None:
        z[:, known[0, 0].numpy()] = 0
    before = None if beside is None else beside[0, 0].numpy()
    found = [areas for areas in suspects(z, before) if areas.count]
    if found:
        suspected = np.any([areas.grown() > 0 for areas in found], axis=0)
        pixels = _pixels(image, grey=grey)
        filled = _pixels(_filled(image, noise, suspected, run), grey=grey)
        for areas in found:
            damage = hidden(areas, pixels, filled, z, before)
            size = np.where(damage, np.maximum(offsets(areas, pixels, filled), 0), 0)
            at = np.concatenate([[0], size / 127.5]).astype(np.float32)
            np.maximum(level, at[areas.grown()], out=level)
    return torch.from_numpy(level)[None, None]


def confirmed(found: Tensor, image: Tensor, noise: Tensor, run: Run, *, grey: bool) -> Tensor:
    """What looks like scratches and dust, and is to the model too: (1,1,H,W) bool.

    Args:
        found: (1,1,H,W) bool.
        image, noise, run, grey: as in `hidden_damage`; the model is run once.
    """
    if not bool(found.any()):
        return found
    looked = found[0, 0].numpy()
    pixels = _pixels(image, grey=grey)
    filled = _pixels(_filled(image, noise, looked, run), grey=grey)
    kept = np.zeros(looked.shape, bool)
    for areas in opaque(pieces(looked, pixels, filled), pixels, filled):
        kept |= areas.labels > 0
    return torch.from_numpy(kept)[None, None]


def noise_removed(source: TaskInput, noise: Tensor, run: Run) -> float:
    """How much of the noise that was estimated the model takes away.

        ρ = rms(x - D(x, σ)) / rms(σ)

    It is near 1 for noise, at least 0.7 for a camera's, whose high frequencies are gone, and
    little for texture that an estimate took for noise: the model knows texture.

    Args:
        source: the picture; the middle of a large one is looked at.
        noise: σ, (1,1,H,W) or (1,1,1,1), not 0 everywhere.
        run: a model, which is run once.
    """
    rows, columns = (
        slice(max(0, side - _MIDDLE) // 2, (side + min(side, _MIDDLE) + 1) // 2)
        for side in source.size
    )
    part = replace(source, image=source.image[..., rows, columns])
    level = noise if noise.shape[-1] == 1 else noise[..., rows, columns]
    if not bool((level > 0).any()):
        return 1.0
    image, told = colour_noise(part, level, 0)
    residual = image - run(denoise_plan(image, told, 0))
    if source.grey:
        residual = residual.mean(1, keepdim=True)
    return float((residual.square().mean() / level.square().mean()).sqrt())


def _pixels(image: Tensor, *, grey: bool) -> Array:
    """(1,C,H,W) as (H,W,C), one channel if the picture is grey."""
    planes = image[0, :1] if grey else image[0]
    return planes.permute(1, 2, 0).contiguous().numpy()


def _residuals(
    image: Tensor, noise: Tensor, run: Run, levels: tuple[float, ...], *, grey: bool
) -> Array:
    told = [(noise.square() + (level / 127.5) ** 2).sqrt() for level in levels]
    predictions = [_pixels(run(denoise_plan(image, sigma, 0)), grey=grey) for sigma in told]
    return standard_residuals(_pixels(image, grey=grey), predictions)


def _filled(image: Tensor, noise: Tensor, hole: NDArray[np.bool_], run: Run) -> Tensor:
    """The picture with a hole filled in one evaluation, which leans towards the mean."""
    strength = torch.from_numpy(hole)[None, None].float()
    plan = Plan(image, strength, noise=noise, target=torch.where(strength > 0, 0.0, noise), steps=1)
    return run(plan)
