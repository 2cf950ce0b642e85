"""The mean of what holes may hold, for inpainting and for restoration."""

from __future__ import annotations

from collections.abc import Iterator

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..core.ladder import log_linear, strength_to_sigma
from ..core.plan import Plan, Run

__all__ = ["mean_filling", "wide"]

_FIRST, _LAST = 20 / 127.5, 1 / 127.5
_RELAXED = 1.9
_NEAR, _REACH = 2, 6
_TILE, _MARGIN = 384, 16

Mask = NDArray[np.bool_]


def mean_filling(
    image: Tensor,
    strength: Tensor,
    noise: Tensor,
    run: Run,
    passes: int,
    seed: int = 0,
) -> Tensor:
    """An estimate of the mean of what the holes may hold, which errs less than that of samples.

    From a smooth surface through what is known, which far inside of wide holes gives way to the
    model's own guess, or from what a soft mask leaves, the model is told of falling levels how far
    off the filling is, and the truth about the other pixels:

        x ← x + ω (D(x, σ_k) - x) where the mask is positive,    σ_k from 20 to 1 of 255, log-evenly

    and of no more than the level that a soft mask's strength stands for. Each pass carries what is
    known a little farther into the hole; ω = 1.9 carries it as far in half the passes
    (over-relaxation; Young, 1954), and is 1 where the picture's own content is left. No noise is
    added.

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
    lost = most >= _FIRST
    x = _start(image, lost, noise, run, seed)
    weight = torch.where(lost, _RELAXED, 1.0)
    for sigma in log_linear(passes, _LAST, _FIRST)[:-1]:
        level = torch.where(hole, most.clamp(max=float(sigma)), noise)
        still = torch.where(hole, 0.0, noise)
        estimate = run(Plan(x, nothing, level, still, seeds=(seed,), steps=1, path="together"))
        x = torch.where(lost, torch.lerp(x, estimate, weight), estimate)
    return x


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


def _start(image: Tensor, lost: Tensor, noise: Tensor, run: Run, seed: int) -> Tensor:
    """The surface through what is known, beyond two pixels and wholly from four on the guess."""
    if not bool(lost.any()):
        return image
    inside = lost[0, 0].numpy()
    inner = torch.from_numpy((_depth(inside) / _NEAR - 1).clip(0, 1))[None, None]
    pixels = np.ascontiguousarray(image[0].permute(1, 2, 0).numpy())
    surface = torch.from_numpy(_surface(pixels, inside)).to(image).permute(2, 0, 1)[None]
    if not bool((inner > 0).any()):
        return surface
    still = torch.where(lost, 0.0, noise)
    plan = Plan(image, lost.float(), noise, still, seeds=(seed,), steps=1, path="together")
    return torch.lerp(surface, run(plan), inner)


def _surface(pixels: NDArray[np.float32], hole: Mask) -> NDArray[np.float32]:
    """The picture, (H,W,C), with a biharmonic surface through its holes (Damelin and Hoang, 2018).

    Large pictures are taken in parts that overlap, as the equations of one hole are solved at once.
    """
    from skimage.restoration import inpaint_biharmonic

    made: NDArray[np.float32] = pixels.copy()
    for inner, outer in _tiles(*hole.shape):
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


def _tiles(height: int, width: int) -> Iterator[tuple[Window, Window]]:
    """Squares that cover the picture, each with the larger one around it."""
    for top in range(0, height, _TILE):
        for left in range(0, width, _TILE):
            ends = min(top + _TILE, height), min(left + _TILE, width)
            yield (
                (slice(top, ends[0]), slice(left, ends[1])),
                (
                    slice(max(0, top - _MARGIN), min(ends[0] + _MARGIN, height)),
                    slice(max(0, left - _MARGIN), min(ends[1] + _MARGIN, width)),
                ),
            )
