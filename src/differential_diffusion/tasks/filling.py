"""The mean of what holes may hold, for inpainting and for restoration."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from ..core.ladder import log_linear
from ..core.noise import derive_seed
from ..core.plan import Plan, Run

__all__ = ["LOST", "mean_filling", "surroundings", "wide"]

LOST = 0.9
"""From this strength on a pixel's content does not count: its noise is over 20 times as strong."""

_FIRST, _LAST = 20 / 127.5, 1 / 127.5
_NOTHING = 20.0  # σ that a guess is told: nothing is known
_RELAXED = 1.9
_NEAR, _REACH = 2, 6
_TILE, _MARGIN = 384, 16
_STREAM = 400

Mask = NDArray[np.bool_]


def mean_filling(
    image: Tensor,
    strength: Tensor,
    noise: Tensor,
    run: Run,
    passes: int,
    seed: int = 0,
    options: Mapping[str, Any] | None = None,
) -> Tensor:
    """An estimate of the mean of what the holes may hold, which errs less than that of samples.

    From a smooth surface through what is known, which far inside of wide holes gives way to the
    model's own guess, the model is told of falling levels how far off the filling is, and the
    truth about the other pixels:

        x ← x + ω (D(x, σ_k) - x) where the mask is 1,    σ_k from 20 to 1 of 255, log-evenly

    Each pass carries what is known a little farther into the hole; ω = 1.9 carries it as far in
    half the passes (over-relaxation; Young, 1954), and is 1 in the last. Nothing of the picture in
    the hole counts, and no noise is added there.

    Where the mask is between, samples begin from the picture with so much noise. There every pass
    draws that noise anew, and the result is the mean of the estimates.

    Args:
        image: (1,C,H,W) in [-1,1].
        strength: the mask, (1,1,H,W); `LOST` or more is a hole.
        noise: σ of the picture's pixels, (1,1,H,W) or (1,1,1,1); it stays in the known ones.
        run: a model.
        passes: how many levels; a guess for wide holes takes one evaluation more.
        seed: of the noise where the mask is between 0 and 1.
        options: of the plans.

    Returns: (1,C,H,W).
    """
    hole, lost = strength > 0, strength >= LOST
    if not bool(hole.any()):
        return image
    still, partly = torch.where(hole, 0.0, noise), torch.where(lost, 0.0, strength)
    settings: dict[str, Any] = {"steps": 1, "path": "together", "options": options or {}}
    x = _start(image, lost, noise, run, settings)
    total = torch.zeros_like(image)
    sigmas = log_linear(passes, _LAST, _FIRST)[:-1].tolist()
    for index, sigma in enumerate(sigmas):
        level, own = torch.where(lost, sigma, noise), derive_seed(seed, _STREAM + index)
        estimate = run(Plan(x, partly, level, still, seeds=(own,), **settings))
        total += estimate
        step = _RELAXED if index + 1 < len(sigmas) else 1.0
        x = torch.where(lost, torch.lerp(x, estimate, step), image)
    return torch.where(hole & ~lost, total / len(sigmas), x)


def surroundings(image: Tensor, hole: Tensor) -> Tensor:
    """The picture with the colours around each hole spread through it, from all its sides.

    Where sampling begins from noise, something of what the noise covers shows through in wide
    holes: this should, and not what is to be replaced.

    Args:
        image: (1,C,H,W).
        hole: (1,1,H,W) bool.
    """
    if not bool(hole.any()) or bool(hole.all()):
        return torch.where(hole, 0.0, image)
    known = (~hole).to(image)
    levels: list[tuple[Tensor, Tensor]] = [(image * known, known)]
    while not bool((levels[-1][1] > 0).all()):
        colours, weight = (F.avg_pool2d(part, 2, ceil_mode=True) for part in levels[-1])
        levels.append((colours, weight))
    filled = torch.zeros(())
    for colours, weight in reversed(levels):
        own = colours / torch.where(weight > 0, weight, 1.0)
        if filled.ndim:
            filled = F.interpolate(filled, own.shape[-2:], mode="bilinear", align_corners=False)
            own = torch.where(weight > 0, own, filled)
        filled = own
    return torch.where(hole, filled, image)


def wide(hole: Tensor) -> Tensor:
    """The parts of a hole, (1,1,H,W) bool, too wide for the mean of fillings to have texture."""
    core = _depth(hole[0, 0].numpy()) > _REACH
    square = np.ones((2 * _REACH + 3, 2 * _REACH + 3), np.uint8)
    return torch.from_numpy(cv2.dilate(core.astype(np.uint8), square) > 0)[None, None] & hole


def _depth(hole: Mask) -> NDArray[np.float32]:
    """Distance of each pixel from what is known, in pixels; far where nothing is."""
    if hole.all():
        return np.full(hole.shape, np.inf, np.float32)
    depth = cv2.distanceTransform(hole.astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_5)
    return np.asarray(depth, np.float32)


def _start(
    image: Tensor, lost: Tensor, noise: Tensor, run: Run, settings: dict[str, Any]
) -> Tensor:
    """The surface through what is known, beyond two pixels and wholly from four on the guess."""
    if not bool(lost.any()):
        return image
    inside = lost[0, 0].numpy()
    inner = torch.from_numpy((_depth(inside) / _NEAR - 1).clip(0, 1))[None, None]
    blank = surroundings(image, lost)
    pixels = np.ascontiguousarray(blank[0].permute(1, 2, 0).numpy())
    surface = torch.from_numpy(_surface(pixels, inside)).to(image).permute(2, 0, 1)[None]
    if not bool((inner > 0).any()):
        return surface
    level, still = torch.where(lost, _NOTHING, noise), torch.where(lost, 0.0, noise)
    guess = run(Plan(surface, torch.zeros(1, 1, 1, 1), level, still, **settings))
    return torch.lerp(surface, guess, inner)


def _surface(pixels: NDArray[np.float32], hole: Mask, tile: int = _TILE) -> NDArray[np.float32]:
    """The picture, (H,W,C), with a biharmonic surface through its holes (Damelin and Hoang, 2018).

    Large pictures are taken in parts that overlap, as the equations of one hole are solved at once.
    """
    from skimage.restoration import inpaint_biharmonic

    made: NDArray[np.float32] = pixels.copy()
    for inner, outer in _tiles(hole.shape[0], hole.shape[1], tile):
        part = hole[outer]
        if hole[inner].any() and not part.all():
            blank = np.where(part[..., None], 0.0, pixels[outer])
            filled = inpaint_biharmonic((blank + 1) / 2, part, channel_axis=-1) * 2 - 1
            whole = made[outer].copy()
            whole[part] = filled[part]
            top, left = (i.start - o.start for i, o in zip(inner, outer, strict=True))
            height, width = (i.stop - i.start for i in inner)
            made[inner] = whole[top : top + height, left : left + width]
    return made


Window = tuple[slice, slice]


def _tiles(height: int, width: int, tile: int) -> Iterator[tuple[Window, Window]]:
    """Squares that cover the picture, each with the larger one around it."""
    for top in range(0, height, tile):
        for left in range(0, width, tile):
            ends = min(top + tile, height), min(left + tile, width)
            yield (
                (slice(top, ends[0]), slice(left, ends[1])),
                (
                    slice(max(0, top - _MARGIN), min(ends[0] + _MARGIN, height)),
                    slice(max(0, left - _MARGIN), min(ends[1] + _MARGIN, width)),
                ),
            )
