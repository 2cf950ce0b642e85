"""Damage found in the picture: scratches, dust, dead pixels, missing patches, a given colour."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray
from skimage.measure import label

from ..errors import InputError
from . import _check
from ._specks import find_specks
from .noise import estimate_noise
from .strength import StrengthMap

__all__ = ["find_colour", "find_damage"]

Array = NDArray[np.float32]
Mask = NDArray[np.bool_]

_LEVEL = 1 / 127.5
_EXTREME = 0.94  # stuck pixels lie beyond this on either side
_PATCH_AREA = 64
_PATCH_CONTRAST = 16 * _LEVEL
_PATCH_HARDNESS = 0.8


def find_damage(
    image: NDArray[np.floating],
    *,
    noise: float | NDArray[np.floating] | None = None,
    scratches: bool = True,
    dust: bool = True,
    dead_pixels: bool = True,
    patches: bool = True,
    colour: Sequence[float] | None = None,
    tolerance: float = 8.0,
    grow: int = 1,
) -> StrengthMap:
    """Pixels that carry no picture: 1 where damaged, 0 elsewhere.

    Scratches and dust are thin or small areas of white or black whose edges are harder than a
    lens draws them; dead pixels are single pixels with a channel at an end of the range, far from
    all eight neighbours; patches are areas of one exact colour with a hard edge all round, unless
    they take up a whole side of the picture, as its frame does. What merely looks like a scratch
    (a wire, a whisker, a glint) is told from it by how sharply it ends, which is a matter of
    degree: look at the map before trusting it.

    Args:
        image: (H,W,3), or (H,W,1) or (H,W) for grey, floats in [-1, 1].
        noise: σ on that scale, a number or (H,W), above which deviations must stand out;
            estimated from the picture by default.
        scratches: find long thin areas.
        dust: find small round areas.
        dead_pixels: find single stuck pixels.
        patches: find flat areas of at least 64 pixels.
        colour: 8-bit RGB; mark also every pixel of about this colour, see `find_colour`.
        tolerance: of `colour` in 8-bit levels.
        grow: pixels to add around what was found (single pixels apart), so that antialiased
            edges are covered.

    Raises:
        InputError: a bad picture, noise of another size, or settings out of range.
    """
    image = _check.picture(image)
    grow = int(_check.number("grow", grow, 0, 64))
    scratches, dust = _check.flag("scratches", scratches), _check.flag("dust", dust)
    dead_pixels, patches = _check.flag("dead_pixels", dead_pixels), _check.flag("patches", patches)
    found = np.zeros(image.shape[:2], bool)
    sigma = _noise_level(noise, image) if scratches or dust or dead_pixels else None
    if sigma is not None and (scratches or dust):
        found |= find_specks(image, sigma, long=scratches, round_=dust)
    if patches:
        found |= _flat_patches(image)
    if colour is not None:
        found |= _near_colour(image, colour, tolerance)
    found = _grown(found, grow)
    if sigma is not None and dead_pixels:
        found |= _dead_pixels(image, sigma)
    return StrengthMap(found)


def find_colour(
    image: NDArray[np.floating],
    *,
    colour: Sequence[float],
    tolerance: float = 8.0,
    grow: int = 1,
) -> StrengthMap:
    """Pixels of about a given colour: 1 there, 0 elsewhere; for damage that was marked by hand.

    Args:
        image: (H,W,3), or (H,W,1) or (H,W) for grey, floats in [-1, 1].
        colour: 8-bit RGB, such as (255, 0, 255).
        tolerance: largest difference in any channel, in 8-bit levels.
        grow: pixels to add around what was found.

    Raises:
        InputError: a bad picture or colour, or settings out of range.
    """
    image = _check.picture(image)
    found = _near_colour(image, colour, tolerance)
    return StrengthMap(_grown(found, int(_check.number("grow", grow, 0, 64))))


def _noise_level(noise: float | NDArray[np.floating] | None, image: Array) -> Array:
    if noise is None:
        return estimate_noise(image)
    try:
        level = np.asarray(noise, np.float32)
    except (TypeError, ValueError):
        raise InputError(f"noise is {noise!r}: give one level, or one for each pixel.") from None
    if level.ndim and level.shape != image.shape[:2]:
        raise InputError(
            f"noise has the shape {level.shape} and the picture {image.shape[:2]}: "
            "give one level, or one for each pixel."
        )
    if not (level.min() >= 0 and np.isfinite(level).all()):
        raise InputError("noise is negative or not finite: give levels of 0 or more.")
    return np.broadcast_to(level, image.shape[:2])


def _near_colour(image: Array, colour: Sequence[float], tolerance: float) -> Mask:
    rgb = np.array(_check.colour("colour", colour))
    tolerance = _check.number("tolerance", tolerance, 0, 255)
    levels = (image + 1) * np.float32(127.5)
    return np.asarray((np.abs(levels - rgb.astype(np.float32)) <= tolerance + 1e-3).all(-1))


def _dead_pixels(image: Array, sigma: Array) -> Mask:
    """Pixels at an end of the range, farther from all neighbours than these are apart."""
    hollow = np.ones((3, 3), np.uint8)
    hollow[1, 1] = 0
    found = np.zeros(image.shape[:2], bool)
    if image.shape[:2] == (1, 1):  # no neighbours to differ from
        return found
    for channel in np.moveaxis(image, -1, 0):
        channel = np.ascontiguousarray(channel)
        highest, lowest = cv2.dilate(channel, hollow), cv2.erode(channel, hollow)
        needed = np.maximum(0.3 * (highest - lowest), np.maximum(16 * _LEVEL, 2.5 * sigma))
        found |= (channel >= _EXTREME) & (channel - highest > needed)
        found |= (channel <= -_EXTREME) & (lowest - channel > needed)
    return found


def _flat_patches(image: Array) -> Mask:
    """Connected areas of one exact colour whose edge is hard nearly all round.

    What takes up a whole side of the picture is its frame, such as a letterbox's bars.
    """
    code = _colour_code(image)
    regions = label(np.where(_alone(code), -1, code), background=-1, connectivity=1)
    area = np.bincount(regions.ravel())
    area[0] = 0  # pixels like none of their neighbours
    for side in (regions[0], regions[-1], regions[:, 0], regions[:, -1]):
        if (side == side[0]).all():
            area[side[0]] = 0
    if not (area >= _PATCH_AREA).any():
        return np.zeros(code.shape, bool)
    edges, hard = np.zeros(area.size), np.zeros(area.size)
    for axis in (0, 1):
        first = [slice(None), slice(None)]
        second = [slice(None), slice(None)]
        first[axis], second[axis] = slice(None, -1), slice(1, None)
        one, other = regions[tuple(first)], regions[tuple(second)]
        apart = one != other
        step = np.abs(image[tuple(first)] - image[tuple(second)]).max(-1)[apart]
        for side in (one[apart], other[apart]):
            edges += np.bincount(side, minlength=area.size)
            hard += np.bincount(side, step > _PATCH_CONTRAST, minlength=area.size)
    flat = (area >= _PATCH_AREA) & (hard >= _PATCH_HARDNESS * edges) & (edges > 0)
    return np.asarray(flat[regions])


def _colour_code(image: Array) -> NDArray[np.int32]:
    """One number (H,W) for each colour, told apart in quarters of 8-bit levels."""
    code = np.zeros(image.shape[:2], np.int32)
    for channel in range(image.shape[2]):
        fine = np.rint((image[..., channel] + 1) * np.float32(4 * 127.5))
        code = code * 1024 + np.clip(fine, 0, 1023).astype(np.int32)
    return code


def _alone(code: NDArray[np.int32]) -> Mask:
    """Pixels unlike all four neighbours, most of them in a noisy picture: no area of their own."""
    alone = np.ones(code.shape, bool)
    for one, other in ((np.s_[:-1], np.s_[1:]), (np.s_[:, :-1], np.s_[:, 1:])):
        unlike = code[one] != code[other]
        alone[one] &= unlike
        alone[other] &= unlike
    return alone


def _grown(found: Mask, grow: int) -> Mask:
    kernel = np.ones((2 * grow + 1, 2 * grow + 1), np.uint8)
    return np.asarray(cv2.dilate(found.astype(np.uint8), kernel) > 0)
