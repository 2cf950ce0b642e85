"""Strength at the edges of the picture."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from . import _check
from ._measure import LEVEL, Tone, by_strips, gaussian
from .strength import StrengthMap

__all__ = ["edge_strength"]

Array = NDArray[np.float32]

_LEAST = 4 * LEVEL


def edge_strength(
    image: NDArray[np.floating],
    *,
    scale: float = 2.0,
    percentile: float = 95.0,
    black: float = 0.1,
    strength: float = 1.0,
) -> StrengthMap:
    """Strength at edges, by how high they are, and none in flat areas.

    With g the gradient of the picture blurred by a Gaussian of deviation `scale` (the mean square
    of the channels), the height of an edge is m = |g| / p, where p is the gradient that a step of
    height 1 has beside it: the height of the step that would look like this. The strength grows
    with m, and is full at a percentile of the heights above 4 8-bit levels.

    Args:
        image: (H,W,3), or (H,W,1) or (H,W) for grey, floats; values beyond [-1, 1] are clipped.
        scale: in pixels, 0.5 to 256: how blurred an edge may be to count in full, and about how
            far to each side of it the strength reaches.
        percentile: share of the visible edge heights, in percent, up to which the strength grows;
            lower for more of full strength.
        black: share of the full height, 0 to 0.99, up to which the strength is 0.
        strength: the largest strength, in [0, 1].

    Raises:
        InputError: a bad picture, or settings out of range.

    Derivatives of Gaussians as in Canny, "A computational approach to edge detection", IEEE PAMI
    1986; no thinning or tracing follows.
    """
    image = _check.picture(image)
    weights = gaussian(_check.number("scale", scale, 0.5, 256))
    tone = Tone(percentile, black, strength)
    middle = len(weights) // 2
    beside_step = float(weights[middle, 0] + weights[middle + 1, 0]) / 2

    def measure(strip: Array) -> Array:
        gradient = _gradient(strip, weights)
        gradient /= np.float32(beside_step)
        return gradient

    return StrengthMap(tone.strengths(by_strips(image, middle + 1, measure), _LEAST))


def _gradient(image: Array, weights: Array) -> Array:
    """Root of the mean square, over the channels, of the blurred picture's gradient."""
    square = np.zeros(image.shape[:2], np.float32)
    for index in range(image.shape[2]):
        channel = np.clip(image[..., index], -1, 1)
        blurred = cv2.sepFilter2D(
            channel, cv2.CV_32F, weights, weights, borderType=cv2.BORDER_REFLECT
        )
        for right, down in ((1, 0), (0, 1)):
            step = cv2.Sobel(
                blurred, cv2.CV_32F, right, down, ksize=1, scale=0.5, borderType=cv2.BORDER_REFLECT
            )
            square += step * step
    square /= image.shape[2]
    return np.sqrt(square, out=square)
