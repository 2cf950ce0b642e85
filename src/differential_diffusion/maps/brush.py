"""Strokes of a soft, round brush."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError
from . import _check
from .strength import StrengthMap

__all__ = ["Stroke", "brush_strokes"]

Array = NDArray[np.float32]


@dataclass(frozen=True)
class Stroke:
    """One stroke of the brush: a polyline with a width.

    At distance d from the line the strength is strength * clip((radius + 0.5 - d) / w, 0, 1) with
    w = max(radius (1 - hardness), 1), so that a hard edge is antialiased over one pixel.

    Attributes:
        points: (x, y) in pixels, at least one; one point is a dot.
        radius: of the brush in pixels, at least 0.5.
        hardness: fraction of the radius before the strength falls, in [0, 1].
        strength: in [0, 1].
    """

    points: Sequence[Sequence[float]]
    radius: float = 10.0
    hardness: float = 1.0
    strength: float = 1.0

    def __post_init__(self) -> None:
        checked = {
            "points": tuple(_check.points("a stroke", self.points, 1)),
            "radius": _check.number("radius", self.radius, 0.5),
            "hardness": _check.number("hardness", self.hardness, 0, 1),
            "strength": _check.number("strength", self.strength, 0, 1),
        }
        for name, value in checked.items():
            object.__setattr__(self, name, value)


def brush_strokes(
    height: int, width: int, *, strokes: Sequence[Stroke | Mapping[str, Any]]
) -> StrengthMap:
    """Strokes of a round brush; where strokes overlap, the largest strength counts.

    Args:
        height: rows.
        width: columns.
        strokes: `Stroke` values, or mappings of their fields, such as
            {"points": [[20, 30], [60, 35]], "radius": 8, "hardness": 0.5}.

    Raises:
        InputError: a bad size, stroke or field.
    """
    height, width = _check.size(height, width)
    if isinstance(strokes, str | Mapping | Stroke) or not isinstance(strokes, Sequence):
        raise InputError("strokes is no list: give a list of strokes.")
    strength = np.zeros((height, width), np.float32)
    for stroke in strokes:
        _paint(strength, _stroke(stroke))
    return StrengthMap(strength)


def _stroke(value: Stroke | Mapping[str, Any]) -> Stroke:
    if isinstance(value, Stroke):
        return value
    if not isinstance(value, Mapping):
        raise InputError(f"a stroke is {value!r}: give a mapping with points and radius.")
    known = [field.name for field in fields(Stroke)]
    unknown = [key for key in value if key not in known]
    if unknown:
        raise InputError(f"'{unknown[0]}' is no field of a stroke: use {', '.join(known)}.")
    if "points" not in value:
        raise InputError("a stroke has no points: give a list of (x, y).")
    return Stroke(**value)


def _paint(strength: Array, stroke: Stroke) -> None:
    """Raises `strength` in place to what the stroke gives, one segment of the line at a time."""
    softness = max(stroke.radius * (1 - stroke.hardness), 1)
    reach = stroke.radius + 0.5
    height, width = strength.shape
    ends = stroke.points[1:] or stroke.points
    for (x0, y0), (x1, y1) in zip(stroke.points, ends, strict=False):
        left, right = _span(x0, x1, reach, width)
        top, bottom = _span(y0, y1, reach, height)
        if left >= right or top >= bottom:
            continue
        x, y = np.arange(left, right) + 0.5 - x0, np.arange(top, bottom)[:, None] + 0.5 - y0
        dx, dy = x1 - x0, y1 - y0
        along = np.clip((x * dx + y * dy) / max(dx * dx + dy * dy, 1e-12), 0, 1)
        distance = np.hypot(x - along * dx, y - along * dy)
        profile = stroke.strength * np.clip((reach - distance) / softness, 0, 1)
        region = strength[top:bottom, left:right]
        np.maximum(region, profile.astype(np.float32), out=region)


def _span(first: float, second: float, reach: float, length: int) -> tuple[int, int]:
    """The pixels of a side whose centres may lie within reach of a segment."""
    low, high = min(first, second) - reach, max(first, second) + reach
    return int(np.clip(np.floor(low), 0, length)), int(np.clip(np.ceil(high), 0, length))
