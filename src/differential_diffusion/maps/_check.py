"""Checks of arguments, each failure one sentence."""

from __future__ import annotations

import math
from collections.abc import Sequence
from numbers import Integral, Real
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError

__all__ = [
    "MAX_PIXELS",
    "box",
    "colour",
    "flag",
    "number",
    "picture",
    "point",
    "points",
    "side",
    "size",
]

MAX_PIXELS = 2**29


def number(name: str, value: Any, low: float = -math.inf, high: float = math.inf) -> float:
    """A finite number in [low, high]."""
    try:
        number = math.nan if isinstance(value, bool) else float(value)
        finite = isinstance(value, Real) and math.isfinite(number)
    except (OverflowError, TypeError, ValueError):
        finite = False
    if not finite:
        raise InputError(f"{name} is {_shown(value)}: give a finite number.")
    if not low <= number <= high:
        wanted = f"{low:g} to {high:g}" if math.isfinite(high) else f"{low:g} or more"
        raise InputError(f"{name} is {number:g}: give {wanted}.")
    return number


def flag(name: str, value: Any) -> bool:
    """True or False."""
    if not isinstance(value, bool | np.bool_):
        raise InputError(f"{name} is {_shown(value)}: give true or false.")
    return bool(value)


def _shown(value: Any) -> str:
    """A value for a message, cut where it is long."""
    try:
        text = repr(value)
    except ValueError:  # an integer of more digits than Python prints
        text = f"a {type(value).__name__} too large to print"
    return text if len(text) <= 60 else text[:57] + "..."


def side(name: str, value: Any) -> int:
    """A number of pixels, at least 1."""
    if isinstance(value, bool) or not isinstance(value, Integral) or value < 1:
        raise InputError(f"{name} is {value!r}: give a whole number of pixels, at least 1.")
    return int(value)


def size(height: Any, width: Any) -> tuple[int, int]:
    """A height and a width that make a picture of a sensible size."""
    height, width = side("height", height), side("width", width)
    if height * width > MAX_PIXELS:
        raise InputError(
            f"a map of {height}x{width} pixels is too large: give at most {MAX_PIXELS} pixels."
        )
    return height, width


def point(name: str, value: Any) -> tuple[float, float]:
    """A pair (x, y) of finite numbers."""
    if isinstance(value, str) or not isinstance(value, Sequence | np.ndarray) or len(value) != 2:
        raise InputError(f"{name} is {value!r}: give a pair (x, y) in pixels.")
    x, y = (item.item() if isinstance(item, np.generic) else item for item in value)
    return number(f"x of {name}", x), number(f"y of {name}", y)


def points(name: str, value: Any, at_least: int) -> list[tuple[float, float]]:
    """A list of at least so many points."""
    if isinstance(value, str) or not isinstance(value, Sequence | np.ndarray):
        raise InputError(f"{name} is {value!r}: give a list of points (x, y).")
    if len(value) < at_least:
        raise InputError(f"{name} has {len(value)} points: give at least {at_least}.")
    return [point(f"point {index} of {name}", item) for index, item in enumerate(value)]


def box(name: str, value: Any) -> tuple[float, float, float, float]:
    """(left, top, right, bottom) in that order, finite."""
    if isinstance(value, str) or not isinstance(value, Sequence | np.ndarray) or len(value) != 4:
        raise InputError(f"{name} is {value!r}: give (left, top, right, bottom) in pixels.")
    left, top = point(f"the corner of {name}", value[:2])
    right, bottom = point(f"the corner of {name}", value[2:])
    if not (left < right and top < bottom):
        raise InputError(
            f"{name} is {left:g}, {top:g}, {right:g}, {bottom:g}: give left, top, right, bottom."
        )
    return left, top, right, bottom


def colour(name: str, value: Any) -> tuple[float, float, float]:
    """8-bit RGB."""
    if isinstance(value, str) or not isinstance(value, Sequence | np.ndarray) or len(value) != 3:
        raise InputError(f"{name} is {value!r}: give 8-bit RGB such as (255, 0, 255).")
    red, green, blue = (number(f"a channel of {name}", channel, 0, 255) for channel in value)
    return red, green, blue


def picture(image: Any) -> NDArray[np.float32]:
    """A picture (H,W,C), C = 1 or 3, or (H,W), finite, as float32 (H,W,C)."""
    array = np.asarray(image)
    if array.ndim == 2:
        array = array[..., None]
    if array.ndim != 3 or array.shape[2] not in (1, 3) or 0 in array.shape:
        raise InputError(
            f"image has the shape {np.shape(image)}: give (height, width, 3), or 1 for grey."
        )
    if array.dtype.kind != "f":
        raise InputError(f"image has the type {array.dtype}: give floats in [-1, 1].")
    array = np.ascontiguousarray(array, np.float32)
    if not np.isfinite(array.sum(dtype=np.float64)):
        raise InputError("image holds NaN or infinity: give finite values in [-1, 1].")
    return array
