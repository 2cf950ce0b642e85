"""Strength where the picture has contrast within a few pixels: texture and edges."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from . import _check
from ._measure import LEVEL, Tone, by_strips, gaussian
from .strength import StrengthMap

__all__ = ["contrast_strength"]

Array = NDArray[np.float32]

_LEAST = 4 * LEVEL
_ROUNDING = 1e-6  # of the variance, in float32


def contrast_strength(
    image: NDArray[np.floating],
    *,
    scale: float = 4.0,
    percentile: float = 95.0,
    black: float = 0.1,
    strength: float = 1.0,
) -> StrengthMap:
    """Strength in textured areas, by their local contrast, and none in flat ones.

    The contrast is the local standard deviation, m² = G * x² - (G * x)² with G a Gaussian of
    deviation `scale` (the mean of the channels' variances). The strength grows with m, and is
    full at a percentile of the deviations above 4 8-bit levels.

    Args:
        image: (H,W,3), or (H,W,1) or (H,W) for grey, floats; values beyond [-1, 1] are clipped.
        scale: in pixels, 0.5 to 256: deviation of the window; texture coarser than about six
            times this is none.
        percentile: share of the visible contrasts, in percent, up to which the strength grows;
            lower for more of full strength.
        black: share of the full contrast, 0 to 0.99, up to which the strength is 0.
        strength: the largest strength, in [0, 1].

    Raises:
        InputError: a bad picture, or settings out of range.
    """
    image = _check.picture(image)
    weights = gaussian(_check.number("scale", scale, 0.5, 256))
    tone = Tone(percentile, black, strength)

    def deviation(strip: Array) -> Array:
        return _deviation(strip, weights)

    return StrengthMap(tone.strengths(by_strips(image, len(weights) // 2, deviation), _LEAST))


def _deviation(image: Array, weights: Array) -> Array:
    """Root of the mean, over the channels, of the variance within the window."""

    def mean(plane: Array) -> Array:
        blurred = cv2.sepFilter2D(
            plane, cv2.CV_32F, weights, weights, borderType=cv2.BORDER_REFLECT
        )
        return np.asarray(blurred, np.float32)

    variance = np.zeros(image.shape[:2], np.float32)
    for index in range(image.shape[2]):
        channel = np.clip(image[..., index], -1, 1)
        variance -= mean(channel) ** 2
        channel *= channel
        variance += mean(channel)
    variance /= image.shape[2]
    return np.asarray(np.sqrt(np.maximum(variance - np.float32(_ROUNDING), 0)), np.float32)
