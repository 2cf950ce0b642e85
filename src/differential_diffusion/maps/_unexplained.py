"""What a model cannot explain in a picture: residuals in units of their deviation, and areas.

The model is told that every pixel is as noisy as damage may be strong, which it is not, and
takes away what the rest of the picture gives no reason for. What it takes away is little where
the picture is smooth and more where it is rich, so it is counted in units of its own deviation:

    r_k = mean over channels of (x - D(x, σ_k)),    z_k = r_k / s_k,    ln s_k = a ln m + b ln g + c

with m the mean of |r_k| around, outliers cut, and g that of the prediction's gradient.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

__all__ = [
    "ALL_LEVELS_8BIT",
    "LEVELS_8BIT",
    "Suspects",
    "anomaly",
    "pieces",
    "standard_residuals",
    "suspects",
]

Array = NDArray[np.float32]
Mask = NDArray[np.bool_]
Labels = NDArray[np.int32]

LEVELS_8BIT = (10.0, 20.0, 40.0)
"""σ_k that the model is told, on the 8-bit scale: damage shows best at its own contrast."""

ALL_LEVELS_8BIT = (*LEVELS_8BIT, 80.0, 160.0)
"""Those with two more, at which bold lines and specks go too, which hidden damage is not."""

# a, b, c of each level, by maximum likelihood on photographs that the model was trained on; and
# the deviation there of the farthest.
# fmt: off
_DEVIATION = (
    (1.114, 0.037, 0.048), (1.063, 0.079, 0.074), (1.053, 0.113, 0.075), (1.083, 0.127, -0.081),
    (1.081, 0.113, -0.126),
)
# fmt: on
_FARTHEST_DEVIATION = 1.35
_FLOOR = 0.2
_AROUND, _CUT_AROUND, _CUT = 8.0, 12.0, 2.0

# Areas: deviations that their pixels reach, and that one of them at least does.
_EXTENTS = ((2.2, 3.8), (3.2, 4.5))
_THICK = 9
_SMALLEST = 5
_NEAR, _EAGER = 17, 1.5


def standard_residuals(image: Array, predictions: Sequence[Array]) -> Array:
    """z_k, (levels,H,W).

    Args:
        image: (H,W,C) in [-1,1].
        predictions: D(x, σ_k), one for each of `ALL_LEVELS_8BIT`, or of the first, likewise.
    """
    values = zip(predictions, _DEVIATION, strict=False)
    return np.stack([_standardised(image, prediction, fit) for prediction, fit in values])


def anomaly(z: Array) -> Array:
    """The z_k that is farthest from 0, (H,W), so scaled that clean photographs have variance 1."""
    farthest = np.abs(z).argmax(0)[None]
    return np.asarray(np.take_along_axis(z, farthest, 0)[0] / _FARTHEST_DEVIATION, np.float32)


def _standardised(image: Array, prediction: Array, fit: tuple[float, float, float]) -> Array:
    level = np.float32(127.5)
    clean = np.ascontiguousarray(prediction.mean(-1) * level)
    residual = image.mean(-1) * level - clean
    size = np.abs(residual)
    size = np.minimum(size, _CUT * _blur(size, _CUT_AROUND) + 0.3)
    across = cv2.Sobel(clean, cv2.CV_32F, 1, 0, scale=1 / 8)
    down = cv2.Sobel(clean, cv2.CV_32F, 0, 1, scale=1 / 8)
    gradient = _blur(np.hypot(across, down), 3.0)
    a, b, c = fit
    deviation = (_blur(size, _AROUND) + _FLOOR) ** a * (gradient + _FLOOR) ** b * np.exp(c)
    return np.asarray(residual / deviation, np.float32)


def _blur(plane: Array, scale: float) -> Array:
    return np.asarray(cv2.GaussianBlur(plane, (0, 0), scale), np.float32)


@dataclass(frozen=True)
class Suspects:
    """Areas that stand out to one side, lighter or darker than the model explains.

    Attributes:
        labels: (H,W), 1 to `count` in the areas, 0 elsewhere.
        count: of areas.
        sign: 1 for lighter, -1 for darker.
    """

    labels: Labels
    count: int
    sign: int

    def grown(self) -> Labels:
        """The labels of the areas and of the pixels beside them."""
        return _spread(self.labels, 3)

    def chosen(self, wanted: Mask) -> Suspects:
        """Those of the areas for which `wanted`, (count,), holds."""
        new = np.zeros(self.count + 1, np.int32)
        new[1:][wanted] = np.arange(1, int(wanted.sum()) + 1)
        return Suspects(new[self.labels], int(wanted.sum()), self.sign)


def suspects(z: Array, beside: Mask | None = None) -> list[Suspects]:
    """Thin or small areas whose residuals stand out, at several extents and of both signs.

    Args:
        z: (levels,H,W), of `standard_residuals`.
        beside: (H,W), damage that was found before, near which less will do.
    """
    if beside is not None and beside.any():
        square = np.ones((_NEAR, _NEAR), np.uint8)
        near = cv2.dilate(beside.astype(np.uint8), square) > 0
        z = z * np.where(near, np.float32(_EAGER), np.float32(1))
    return [_areas(z, sign, reach, peak) for reach, peak in _EXTENTS for sign in (1, -1)]


def _areas(z: Array, sign: int, reach: float, peak: float) -> Suspects:
    highest = np.where(sign * z.mean(0) > 0, (sign * z).max(0), 0)
    area = highest > reach
    square = np.ones((_THICK, _THICK), np.uint8)
    area &= cv2.morphologyEx(area.astype(np.uint8), cv2.MORPH_OPEN, square) == 0
    labels, count = ndimage.label(area, np.ones((3, 3)))
    if not count:
        return Suspects(labels, 0, sign)
    peaks = ndimage.maximum(highest, labels, np.arange(1, count + 1))
    sizes = np.bincount(labels.ravel())[1:]
    every = Suspects(labels.astype(np.int32), count, sign)
    return every.chosen((peaks > peak) & (sizes >= _SMALLEST))


def pieces(found: Mask, image: Array, filled: Array) -> list[Suspects]:
    """The areas of what was found, those lighter than their filling apart from the darker."""
    labels, count = ndimage.label(found, np.ones((3, 3)))
    every = Suspects(labels.astype(np.int32), count, 1)
    if not count:
        return []
    lighter = ndimage.mean((image - filled).mean(-1), labels, np.arange(1, count + 1)) > 0
    darker = replace(every.chosen(~lighter), sign=-1)
    return [areas for areas in (every.chosen(lighter), darker) if areas.count]


def _spread(labels: Labels, size: int) -> Labels:
    """Labels of whatever lies within size // 2 pixels, the largest where several do."""
    square = np.ones((size, size), np.uint8)
    return np.asarray(cv2.dilate(labels.astype(np.float32), square), np.int32)
