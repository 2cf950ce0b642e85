"""Strength that rises along a line or away from a centre.

Coordinates, here and in all sources: x to the right and y down in pixels from the top left corner
of the picture, so that the centre of the first pixel is (0.5, 0.5).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError
from . import _check
from .strength import StrengthMap

__all__ = ["linear_gradient", "radial_gradient"]

Array = NDArray[np.float64]


def linear_gradient(
    height: int,
    width: int,
    *,
    angle: float | None = None,
    start: Sequence[float] | None = None,
    end: Sequence[float] | None = None,
    low: float = 0.0,
    high: float = 1.0,
    smooth: bool = False,
) -> StrengthMap:
    """A linear gradient, across the picture at an angle or from one point to another.

    With t = clip((p - start)·(end - start) / |end - start|², 0, 1) the strength is
    low + (high - low) t, or with 3t² - 2t³ in place of t where `smooth`.

    Args:
        height: rows.
        width: columns.
        angle: direction in degrees in which the strength goes from `low` to `high`: 0 (the
            default) to the right, 90 down; it spans the picture from corner to corner.
        start: the point (x, y) of strength `low`, in place of an angle; comes with `end`.
        end: the point (x, y) of strength `high`.
        low: strength at the start, in [0, 1]; may be above `high`.
        high: strength at the end, in [0, 1].
        smooth: ease in and out.

    Raises:
        InputError: numbers out of range, one point without the other, an angle beside points, or
            two equal points.
    """
    height, width = _check.size(height, width)
    (x0, y0), (x1, y1) = _ends(height, width, angle, start, end)
    dx, dy = x1 - x0, y1 - y0
    length = dx * dx + dy * dy
    if length == 0:
        raise InputError("start and end are the same point: give two different points.")
    rows, columns = _centres(height, width)
    return _ramp(((columns - x0) * dx + (rows - y0) * dy) / length, low, high, smooth)


def radial_gradient(
    height: int,
    width: int,
    *,
    centre: Sequence[float] | None = None,
    inner: float = 0.0,
    outer: float | None = None,
    low: float = 0.0,
    high: float = 1.0,
    smooth: bool = False,
) -> StrengthMap:
    """A radial gradient: `high` within the inner radius, falling to `low` at the outer one.

    Args:
        height: rows.
        width: columns.
        centre: the point (x, y); the middle of the picture by default.
        inner: radius in pixels up to which the strength is `high`, 0 or more.
        outer: radius in pixels from which it is `low`, above `inner`; by default half the
            shorter side, or one pixel more than `inner` where that is larger.
        low: strength outside, in [0, 1]; may be above `high`.
        high: strength at the centre, in [0, 1].
        smooth: ease in and out.

    Raises:
        InputError: numbers out of range, or radii out of order.
    """
    height, width = _check.size(height, width)
    x, y = (width / 2, height / 2) if centre is None else _check.point("centre", centre)
    inner = _check.number("inner", inner, 0)
    if outer is None:
        outer = max(min(height, width) / 2, inner + 1)
    outer = _check.number("outer", outer, 0)
    if not inner < outer:
        raise InputError(f"inner is {inner:g} and outer {outer:g}: give a larger outer radius.")
    rows, columns = _centres(height, width)
    distance = np.hypot(columns - x, rows - y)
    return _ramp((outer - distance) / (outer - inner), low, high, smooth)


def _ends(
    height: int,
    width: int,
    angle: float | None,
    start: Sequence[float] | None,
    end: Sequence[float] | None,
) -> tuple[tuple[float, float], tuple[float, float]]:
    if (start is None) != (end is None):
        raise InputError("a gradient from point to point needs both start and end: give both.")
    if start is not None and end is not None:
        if angle is not None:
            raise InputError("angle is given beside start and end: give either.")
        return _check.point("start", start), _check.point("end", end)
    turn = math.radians(_check.number("angle", 0.0 if angle is None else angle))
    along, down = math.cos(turn), math.sin(turn)
    # Half the extent of the picture in that direction, from its middle to the farthest corner.
    reach = (abs(along) * width + abs(down) * height) / 2
    x, y = along * reach, down * reach
    return (width / 2 - x, height / 2 - y), (width / 2 + x, height / 2 + y)


def _centres(height: int, width: int) -> tuple[Array, Array]:
    rows, columns = np.arange(height, dtype=np.float64), np.arange(width, dtype=np.float64)
    return rows[:, None] + 0.5, columns[None, :] + 0.5


def _ramp(t: Array, low: float, high: float, smooth: bool) -> StrengthMap:
    low, high = _check.number("low", low, 0, 1), _check.number("high", high, 0, 1)
    t = np.clip(t, 0, 1)
    if _check.flag("smooth", smooth):
        t = t * t * (3 - 2 * t)
    return StrengthMap(np.clip(low + (high - low) * t, 0, 1))
