"""What can be done to strength maps: each function takes maps and returns a new one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from numpy.typing import NDArray

from ..errors import InputError
from . import _check

if TYPE_CHECKING:
    from .strength import StrengthMap

__all__ = [
    "dilate",
    "feather",
    "heat_map",
    "intersection",
    "invert",
    "levels",
    "product",
    "resize",
    "threshold",
    "to_latent_grid",
    "union",
]

Array = NDArray[np.float32]


def invert(strength: StrengthMap) -> StrengthMap:
    """1 - strength: what was kept may change, what was free is kept."""
    return _like(strength, 1 - strength.array)


def union(first: StrengthMap, second: StrengthMap) -> StrengthMap:
    """The larger strength at each pixel: free where either map lets it.

    Raises:
        InputError: maps of different sizes.
    """
    return _like(first, np.maximum(*_pair(first, second)))


def intersection(first: StrengthMap, second: StrengthMap) -> StrengthMap:
    """The smaller strength at each pixel: free only where both maps let it.

    Raises:
        InputError: maps of different sizes.
    """
    return _like(first, np.minimum(*_pair(first, second)))


def product(first: StrengthMap, second: StrengthMap) -> StrengthMap:
    """The product of the strengths at each pixel.

    Raises:
        InputError: maps of different sizes.
    """
    return _like(first, np.multiply(*_pair(first, second)))


def feather(strength: StrengthMap, radius: float, *, inside: bool = False) -> StrengthMap:
    """Softens edges over about `radius` pixels to each side.

    Args:
        strength: the map.
        radius: in pixels, 0 or more; 0 returns the map as it is.
        inside: ramp down linearly towards pixels of strength 0 from within, over `radius`
            pixels, and never raise a strength, so that kept pixels stay kept. Otherwise blur
            with a Gaussian of standard deviation radius / 2, which also reaches outwards.

    Raises:
        InputError: a radius outside 0 to 4096.
    """
    radius = _check.number("feather radius", radius, 0, 4096)
    inside = _check.flag("inside", inside)
    if radius == 0:
        return strength
    if inside:
        ramp = np.minimum(_distance_to_kept(strength) / (radius + 1), 1)
        return _like(strength, strength.array * ramp)
    blurred = cv2.GaussianBlur(strength.array, (0, 0), radius / 2, borderType=cv2.BORDER_REPLICATE)
    return _like(strength, np.clip(blurred, 0, 1))


def _distance_to_kept(strength: StrengthMap) -> Array:
    """Distance in pixels from each pixel to the nearest one of strength 0."""
    active = strength.active
    if active.all():
        return np.full(active.shape, np.inf, np.float32)
    distance = cv2.distanceTransform(active.astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    return np.asarray(distance, np.float32)


def dilate(strength: StrengthMap, radius: float) -> StrengthMap:
    """The largest strength within `radius` pixels (a disc), 0 or more.

    Raises:
        InputError: a negative radius.
    """
    reach = int(_check.number("dilation radius", radius, 0, 4096))
    if reach == 0:
        return strength
    rows, columns = np.ogrid[-reach : reach + 1, -reach : reach + 1]
    disc = (rows**2 + columns**2 <= radius**2).astype(np.uint8)
    return _like(strength, cv2.dilate(strength.array, disc))


def levels(
    strength: StrengthMap, black: float = 0.0, white: float = 1.0, gamma: float = 1.0
) -> StrengthMap:
    """Stretches [black, white] to [0, 1] and bends it: ((s - black)/(white - black))^(1/gamma).

    Args:
        strength: the map.
        black: strengths up to here become 0.
        white: strengths from here on become 1; above `black`.
        gamma: above 1 raises the middle, below 1 lowers it; positive.

    Raises:
        InputError: numbers out of order or out of range.
    """
    black, white = _check.number("black", black, 0, 1), _check.number("white", white, 0, 1)
    if not black < white:
        raise InputError(f"black is {black:g} and white {white:g}: give a white above black.")
    gamma = _check.number("gamma", gamma, 0.01, 100)
    stretched = np.clip((strength.array.astype(np.float64) - black) / (white - black), 0, 1)
    return _like(strength, stretched ** (1 / gamma))


def threshold(strength: StrengthMap, level: float = 0.5) -> StrengthMap:
    """1 where the strength is at least `level`, in (0, 1], else 0.

    Raises:
        InputError: a level outside (0, 1].
    """
    level = _check.number("level", level, 0, 1)
    if level == 0:
        raise InputError("level is 0, which every pixel reaches: give a level above 0.")
    return _like(strength, strength.array >= np.float32(level))


def resize(strength: StrengthMap, height: int, width: int) -> StrengthMap:
    """The map at another size, in which no stroke is lost.

    Along a side that shrinks, a pixel takes the maximum of all pixels that it covers in whole
    or in part; along a side that grows, values are interpolated linearly between pixel centres.

    Raises:
        InputError: a side below 1.
    """
    height, width = _check.size(height, width)
    array = _shrink_rows(strength.array, height)
    array = _shrink_rows(array.T, width).T
    if array.shape != (height, width):
        grown = cv2.resize(
            np.ascontiguousarray(array), (width, height), interpolation=cv2.INTER_LINEAR
        )
        array = np.asarray(grown, np.float32)
    return _like(strength, np.clip(array, 0, 1))


def _shrink_rows(array: Array, rows: int) -> Array:
    """Maximum over the rows that each of fewer rows covers; as it is for more rows."""
    source = array.shape[0]
    if rows >= source:
        return array
    index = np.arange(rows)
    first, last = index * source // rows, -((-(index + 1) * source) // rows)
    padded = np.concatenate([array, array[-1:]])
    bounds = np.stack([first, last], axis=1).ravel()
    return np.asarray(np.maximum.reduceat(padded, bounds, axis=0)[::2], np.float32)


def to_latent_grid(strength: StrengthMap, cell: int) -> StrengthMap:
    """The maximum over cells of `cell` x `cell` pixels, ceil(H/cell) by ceil(W/cell).

    A one-pixel stroke keeps its strength, where the mean would fade it to 1/cell.

    Raises:
        InputError: a cell below 1.
    """
    cell = _check.side("cell", cell)
    rows = np.maximum.reduceat(strength.array, np.arange(0, strength.height, cell), axis=0)
    return _like(strength, np.maximum.reduceat(rows, np.arange(0, strength.width, cell), axis=1))


def heat_map(
    strength: StrengthMap | NDArray[Any], image: Any, alpha: float = 0.6
) -> NDArray[np.uint8]:
    """A preview: the picture, with the map over it in colours from violet (low) to yellow (1).

    Pixels of strength 0 show the picture as it is.

    Args:
        strength: the map, or its values (H,W) in [0, 1].
        image: (H,W,3), or (H,W) or (H,W,1) for grey; uint8, or floats in [-1, 1].
        alpha: opacity of the colours, 0 to 1.

    Returns:
        (H,W,3) uint8 RGB.

    Raises:
        InputError: a picture of another size or kind, or a bad opacity.
    """
    alpha = _check.number("alpha", alpha, 0, 1)
    picture = np.asarray(image)
    if picture.dtype == np.uint8:
        picture = picture.astype(np.float32) / 127.5 - 1
    picture = (_check.picture(picture) + 1) * 127.5
    values = np.asarray(strength, np.float32)
    if values.shape != picture.shape[:2]:
        raise InputError(
            f"the strength map has the shape {values.shape} and the picture "
            f"{picture.shape[:2]}: resize one of them."
        )
    if not (values.min() >= 0 and values.max() <= 1):
        raise InputError("the strength map leaves [0, 1]: scale it or clip it.")
    index = np.rint(values * 255).astype(np.uint8)
    colours = cv2.applyColorMap(index, cv2.COLORMAP_PLASMA)[..., ::-1].astype(np.float32)
    opacity = (alpha * (values > 0))[..., None]
    blended = picture * (1 - opacity) + colours * opacity
    return np.asarray(np.clip(np.rint(blended), 0, 255), np.uint8)


def _like(strength: StrengthMap, array: NDArray[Any]) -> StrengthMap:
    return type(strength)(array)


def _pair(first: StrengthMap, second: StrengthMap) -> tuple[Array, Array]:
    if first.array.shape != second.array.shape:
        raise InputError(
            f"two strength maps of {first.width}x{first.height} and {second.width}x"
            f"{second.height} pixels cannot be combined: resize one of them."
        )
    return first.array, second.array
