"""Strength by how near a pixel's colour is to a given one, as the eye sees it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from skimage.color import rgb2lab

from . import _check
from .strength import StrengthMap

__all__ = ["colour_range"]

Array = NDArray[np.float32]

_STRIP_PIXELS = 2**18
_ROUNDING = 0.002  # a tenth of the least difference between two 8-bit colours


def colour_range(
    image: NDArray[np.floating],
    *,
    colour: Sequence[float],
    tolerance: float = 15.0,
    softness: float = 20.0,
    lightness: float = 1.0,
    strength: float = 1.0,
) -> StrengthMap:
    """Strength at pixels of about a given colour, as the eye sees it, falling with the difference.

    The difference is d² = (w ΔL*)² + Δa*² + Δb*² in CIELAB of sRGB under D65, with w the weight of
    lightness; the strength is full for d up to `tolerance` and 0 from tolerance + softness on. For
    one exact colour, as damage is marked, there is `find_colour`.

    Args:
        image: (H,W,3), or (H,W,1) or (H,W) for grey, floats; values beyond [-1, 1] are clipped.
        colour: 8-bit RGB, such as (70, 130, 180).
        tolerance: difference up to which the strength is full, 0 or more; 2 is just visible, and
            black and white are 100 apart.
        softness: the strength falls to 0 over so much more, 0 or more.
        lightness: weight of the difference in lightness, 0 to 1; 0 takes light and dark shades
            of a colour alike.
        strength: the largest strength, in [0, 1].

    Raises:
        InputError: a bad picture or colour, or settings out of range.

    CIE 15:2018, "Colorimetry", section 8.2.1: the difference ΔE*ab of 1976 where w is 1.
    """
    image = _check.picture(image)
    rgb = np.array(_check.colour("colour", colour), np.float32) / 255
    tolerance = _check.number("tolerance", tolerance, 0)
    softness = _check.number("softness", softness, 0)
    weights = np.array([_check.number("lightness", lightness, 0, 1), 1, 1], np.float32)
    strength = _check.number("strength", strength, 0, 1)
    wanted = rgb2lab(rgb) * weights
    made = np.empty(image.shape[:2], np.float32)
    rows = max(1, _STRIP_PIXELS // image.shape[1])
    for start in range(0, image.shape[0], rows):
        strip = np.s_[start : start + rows]
        difference = np.linalg.norm(_lab(image[strip]) * weights - wanted, axis=-1)
        made[strip] = _falling(difference - _ROUNDING, tolerance, softness)
    return StrengthMap(made * np.float32(strength))


def _lab(image: Array) -> Array:
    """CIELAB (H,W,3) of a picture (H,W,C) in [-1, 1]."""
    rgb = np.clip((image + 1) / 2, 0, 1)
    return np.asarray(rgb2lab(np.broadcast_to(rgb, (*rgb.shape[:2], 3))), np.float32)


def _falling(difference: Array, tolerance: float, softness: float) -> Array:
    """1 up to `tolerance`, 0 from tolerance + softness on, linear between."""
    if softness == 0:
        return (difference <= tolerance).astype(np.float32)
    return np.asarray(np.clip((tolerance + softness - difference) / softness, 0, 1), np.float32)
