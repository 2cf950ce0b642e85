"""What the sources share that measure something at each pixel and scale it to strength."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from . import _check

__all__ = ["LEVEL", "Tone", "by_strips", "gaussian"]

Array = NDArray[np.float32]

LEVEL = 1 / 127.5
"""One 8-bit level on the scale [-1, 1]."""

_STRIP_PIXELS = 2**20


@dataclass(frozen=True)
class Tone:
    """How a measure m, 0 or more, becomes strength.

    s = strength clip((m / full - black) / (1 - black), 0, 1), where full is a percentile of those
    m above `least`, or `least` where there are none: single outliers do not darken the rest, and
    what cannot be seen is not blown up.

    Attributes:
        percentile: in [0, 100].
        black: in [0, 0.99].
        strength: in [0, 1].

    Raises:
        InputError: numbers out of range.
    """

    percentile: float
    black: float
    strength: float

    def __post_init__(self) -> None:
        _check.number("percentile", self.percentile, 0, 100)
        _check.number("black", self.black, 0, 0.99)
        _check.number("strength", self.strength, 0, 1)

    def strengths(self, measure: Array, least: float) -> Array:
        """The strengths of a measure, which is overwritten."""
        shown = measure[measure > least]
        full = np.percentile(shown, self.percentile, overwrite_input=True) if shown.size else least
        measure /= np.float32(full)
        measure -= np.float32(self.black)
        measure *= np.float32(1 / (1 - self.black))
        np.clip(measure, 0, 1, out=measure)
        measure *= np.float32(self.strength)
        return measure


def gaussian(scale: float) -> Array:
    """Weights (2n + 1, 1) of a Gaussian of deviation `scale` pixels, n = ceil(4 scale)."""
    reach = int(np.ceil(4 * scale))
    return np.asarray(cv2.getGaussianKernel(2 * reach + 1, scale, cv2.CV_32F), np.float32)


def by_strips(image: Array, reach: int, measure: Callable[[Array], Array]) -> Array:
    """measure(image), (H,W), made from strips of rows, for a measure that sees `reach` rows far.

    Keeps what a measure needs in memory small beside a large picture.
    """
    height, width = image.shape[:2]
    rows = max(_STRIP_PIXELS // width, 2 * reach, 1)
    made = np.empty((height, width), np.float32)
    for start in range(0, height, rows):
        stop = min(start + rows, height)
        first, last = max(start - reach, 0), min(stop + reach, height)
        made[start:stop] = measure(image[first:last])[start - first : stop - first]
    return made
