"""Boxes and polygons."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from ..errors import InputError
from . import _check
from .strength import StrengthMap

__all__ = ["boxes", "polygons"]

_FINE = 8
_STRIP_PIXELS = 2**18


def boxes(
    height: int,
    width: int,
    *,
    boxes: Sequence[Sequence[float]],
    strength: float = 1.0,
    feather: float = 0.0,
) -> StrengthMap:
    """Rectangles; a pixel that a box covers in part gets that part of the strength.

    Args:
        height: rows.
        width: columns.
        boxes: each (left, top, right, bottom) in pixels: (10, 0, 20, 5) is columns 10 to 19 of
            rows 0 to 4. What lies outside the picture is cut off.
        strength: in [0, 1].
        feather: softens the edges, see `ops.feather`.

    Raises:
        InputError: a bad size, box or number.
    """
    height, width = _check.size(height, width)
    strength = _check.number("strength", strength, 0, 1)
    made = np.zeros((height, width), np.float32)
    for index, box in enumerate(_list("boxes", boxes)):
        left, top, right, bottom = _check.box(f"box {index}", box)
        covered = np.outer(cover(top, bottom, height), cover(left, right, width))
        np.maximum(made, covered.astype(np.float32) * np.float32(strength), out=made)
    return StrengthMap(made).feather(feather)


def polygons(
    height: int,
    width: int,
    *,
    polygons: Sequence[Sequence[Sequence[float]]],
    strength: float = 1.0,
    feather: float = 0.0,
) -> StrengthMap:
    """Filled polygons with antialiased edges (8x8 samples to a pixel).

    A polygon that crosses itself is filled by the even-odd rule; several polygons add up to
    their union.

    Args:
        height: rows.
        width: columns.
        polygons: each a list of at least three points (x, y) in pixels.
        strength: in [0, 1].
        feather: softens the edges, see `ops.feather`.

    Raises:
        InputError: a bad size, polygon or number.
    """
    height, width = _check.size(height, width)
    strength = _check.number("strength", strength, 0, 1)
    made = np.zeros((height, width), np.float32)
    for index, corners in enumerate(_list("polygons", polygons)):
        outline = np.array(_check.points(f"polygon {index}", corners, 3))
        _fill(made, np.clip(outline, -5e5, 5e5), strength)
    return StrengthMap(made).feather(feather)


def _list(name: str, value: Sequence[Sequence[object]]) -> Sequence[Sequence[object]]:
    if isinstance(value, str) or not isinstance(value, Sequence | np.ndarray):
        raise InputError(f"{name} is {value!r}: give a list.")
    return value


def cover(first: float, last: float, length: int) -> NDArray[np.float64]:
    """How much of each pixel of a side lies between two coordinates."""
    pixel = np.arange(length)
    inside = np.minimum(pixel + 1, last) - np.maximum(pixel, first)
    return np.asarray(np.clip(inside, 0, 1), np.float64)


def _fill(made: NDArray[np.float32], outline: NDArray[np.float64], strength: float) -> None:
    """Raises `made` in place inside the outline, a strip of rows at a time."""
    height, width = made.shape
    left, top = np.clip(np.floor(outline.min(0)), 0, (width, height)).astype(int)
    right, bottom = np.clip(np.ceil(outline.max(0)), 0, (width, height)).astype(int)
    if left >= right or top >= bottom:
        return
    # Sample k lies at (k + 0.5) / 8; `shift` gives OpenCV 8 more bits behind the point.
    rows = max(1, _STRIP_PIXELS // (_FINE * (right - left)))
    for start in range(top, bottom, rows):
        stop = min(start + rows, bottom)
        fine = np.zeros(((stop - start) * _FINE, (right - left) * _FINE), np.uint8)
        corners = np.rint(((outline - (left, start)) * _FINE - 0.5) * 256).astype(np.int32)
        cv2.fillPoly(fine, [corners], 255, lineType=cv2.LINE_8, shift=8)
        covered = fine.reshape(stop - start, _FINE, right - left, _FINE).mean((1, 3)) / 255
        region = made[start:stop, left:right]
        np.maximum(region, (covered * strength).astype(np.float32), out=region)
