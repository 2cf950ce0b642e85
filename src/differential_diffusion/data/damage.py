"""Damage with known truth: scratches, dust, dead pixels and missing patches.

Every function takes a picture, draws from a seed alone, and returns the damaged picture and the
mask of all pixels that the damage covers, also in part. Pictures are (H,W,3), or (H,W,1) or (H,W)
for grey, uint8 or floats in [-1, 1]; the result has the same type.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError

__all__ = [
    "COLOURS",
    "add_dead_pixels",
    "add_dust",
    "add_hidden_damage",
    "add_missing_patch",
    "add_scratches",
]

Picture = NDArray[Any]
Mask = NDArray[np.bool_]
Array = NDArray[np.float32]

COLOURS = {"white": (255, 255, 255), "black": (0, 0, 0), "grey": (128, 128, 128),
           "magenta": (255, 0, 255)}  # fmt: skip
"""Colours by name, 8-bit RGB."""


def add_scratches(
    image: Picture,
    *,
    count: int = 6,
    width: tuple[float, float] = (1.0, 5.0),
    colours: Sequence[str] = ("white", "black"),
    seed: int,
) -> tuple[Picture, Mask]:
    """Long, slightly curved, antialiased lines of one colour each.

    Args:
        image: the picture.
        count: how many.
        width: range of the lines' widths in pixels.
        colours: names in `COLOURS`, taken in turn.
        seed: of all draws.

    Returns:
        The scratched picture, and the mask (H,W) of the pixels that changed colour.

    Raises:
        InputError: a bad picture, an unknown colour, or widths out of order.
    """
    height, across = _size(image)
    if not 0 < width[0] <= width[1]:
        raise InputError(f"width is {width}: give a range (smallest, largest) in pixels.")
    rng = np.random.default_rng(seed)
    cover: list[tuple[Array, str]] = []
    for index in range(count):
        cover.append((_scratch(height, across, width, rng), colours[index % len(colours)]))
    return _painted(image, cover)


def add_dust(
    image: Picture,
    *,
    count: int = 30,
    radius: tuple[float, float] = (0.8, 3.0),
    colours: Sequence[str] = ("white", "black"),
    seed: int,
) -> tuple[Picture, Mask]:
    """Small irregular specks: two or three overlapping discs each.

    Args:
        image: the picture.
        count: how many.
        radius: range of the discs' radii in pixels.
        colours: names in `COLOURS`, taken in turn.
        seed: of all draws.

    Returns:
        The dusty picture, and the mask (H,W) of the pixels that changed colour.

    Raises:
        InputError: a bad picture, an unknown colour, or radii out of order.
    """
    height, across = _size(image)
    if not 0 < radius[0] <= radius[1]:
        raise InputError(f"radius is {radius}: give a range (smallest, largest) in pixels.")
    rng = np.random.default_rng(seed)
    cover: list[tuple[Array, str]] = []
    for index in range(count):
        cover.append((_speck(height, across, radius, rng), colours[index % len(colours)]))
    return _painted(image, cover)


def add_hidden_damage(
    image: Picture,
    *,
    scratches: int = 6,
    specks: int = 30,
    contrast: tuple[float, float] = (5.0, 60.0),
    width: tuple[float, float] = (1.0, 3.0),
    radius: tuple[float, float] = (0.8, 3.0),
    seed: int,
) -> tuple[Picture, Mask]:
    """Scratches and dust that lighten or darken what they cover, some so little that they hide.

        y = x + Σ ± c_i a_i,    c_i uniform,    a_i the share of the pixel that is covered

    Each has a contrast c_i and a sign of its own, the same in all channels; what lies beneath
    shows through. The shapes are those of `add_scratches` and `add_dust`.

    Args:
        image: the picture.
        scratches, specks: how many of each.
        contrast: range of the contrasts in 8-bit levels, which are drawn evenly from it.
        width: range of the scratches' widths in pixels.
        radius: range of the radii of the discs that specks are made of.
        seed: of all draws.

    Returns:
        The damaged picture, clipped to the range (and rounded, if it is uint8), and the mask (H,W)
        of the pixels that are covered, also in part.

    Raises:
        InputError: a bad picture, or a range out of order.
    """
    height, across = _size(image)
    for name, span in (("contrast", contrast), ("width", width), ("radius", radius)):
        if not 0 < span[0] <= span[1]:
            raise InputError(f"{name} is {span}: give a range (smallest, largest) above 0.")
    rng = np.random.default_rng(seed)
    added, mask = np.zeros((height, across)), np.zeros((height, across), bool)
    for index in range(scratches + specks):
        level = rng.uniform(*contrast)
        sign = 1 if rng.random() < 0.5 else -1
        one = (
            _scratch(height, across, width, rng)
            if index < scratches
            else _speck(height, across, radius, rng)
        )
        added += sign * level * one
        mask |= one > 0
    low, high = _limits(image)
    unit = 1.0 if image.dtype == np.uint8 else 1 / 127.5
    moved = image + unit * added.reshape(height, across, *[1] * (image.ndim - 2))
    moved = np.clip(moved, low, high)
    if image.dtype == np.uint8:
        moved = np.rint(moved)
    inside = mask.reshape(height, across, *[1] * (image.ndim - 2))
    return np.where(inside, moved, image).astype(image.dtype), mask


def add_dead_pixels(image: Picture, *, fraction: float = 5e-4, seed: int) -> tuple[Picture, Mask]:
    """Single pixels stuck at black, at white, or, in colour, with one channel at either end.

    Args:
        image: the picture.
        fraction: of all pixels, in [0, 1]; at least one pixel where it is positive.
        seed: of all draws.

    Returns:
        The picture with dead pixels, and their mask (H,W).

    Raises:
        InputError: a bad picture or fraction.
    """
    height, across = _size(image)
    if not 0 <= fraction <= 1:
        raise InputError(f"fraction is {fraction}: give a number in [0, 1].")
    rng = np.random.default_rng(seed)
    count = math.ceil(fraction * height * across)
    chosen = rng.choice(height * across, count, replace=False)
    low, high = _limits(image)
    out = image.copy().reshape(height * across, -1)
    channels = out.shape[1]
    for pixel in chosen:
        value = high if rng.random() < 0.5 else low
        stuck = rng.integers(channels) if channels > 1 and rng.random() < 0.5 else slice(None)
        out[pixel, stuck] = value
    mask = np.zeros(height * across, bool)
    mask[chosen] = True
    return out.reshape(image.shape), mask.reshape(height, across)


def add_missing_patch(
    image: Picture,
    *,
    shape: str = "rectangle",
    size: float = 0.2,
    colour: str | tuple[int, int, int] = "white",
    seed: int,
) -> tuple[Picture, Mask]:
    """One flat patch: a rectangle somewhere inside, or a torn corner.

    Args:
        image: the picture.
        shape: "rectangle" or "corner".
        size: of its sides relative to those of the picture, in (0, 1].
        colour: a name in `COLOURS`, or 8-bit RGB.
        seed: of all draws.

    Returns:
        The picture with the patch, and the patch's mask (H,W).

    Raises:
        InputError: a bad picture, shape, size or colour.
    """
    height, across = _size(image)
    if not 0 < size <= 1:
        raise InputError(f"size is {size}: give a fraction in (0, 1].")
    rng = np.random.default_rng(seed)
    rows, columns = max(1, round(size * height)), max(1, round(size * across))
    mask = np.zeros((height, across), bool)
    if shape == "rectangle":
        top, left = rng.integers(height - rows + 1), rng.integers(across - columns + 1)
        mask[top : top + rows, left : left + columns] = True
    elif shape == "corner":
        # A ragged edge: the straight tear, moved by smoothed noise.
        ragged = np.cumsum(rng.normal(0, 1, columns)) * 0.6
        depth = rows * (1 - np.arange(columns) / columns) + ragged - ragged[0]
        torn = np.arange(height)[:, None] < depth[None, :]
        mask[:, :columns] = torn
        if rng.random() < 0.5:
            mask = mask[:, ::-1]
        if rng.random() < 0.5:
            mask = mask[::-1]
    else:
        raise InputError(f"shape is {shape!r}: give 'rectangle' or 'corner'.")
    damaged, _ = _painted(image, [(mask.astype(np.float32), colour)])
    return damaged, np.ascontiguousarray(mask)


def _scratch(
    height: int, across: int, width: tuple[float, float], rng: np.random.Generator
) -> Array:
    """How much of each pixel a long, slightly curved line covers."""
    middle = rng.uniform(0.1, 0.9, 2) * (across, height)
    angle, length = rng.uniform(0, math.pi), rng.uniform(0.3, 0.8) * max(height, across)
    along = np.array([math.cos(angle), math.sin(angle)])
    bend = rng.uniform(-0.12, 0.12) * length * np.array([-along[1], along[0]])
    t = np.linspace(-1, 1, 48)[:, None]
    line = middle + t * along * length / 2 + (t**2 - 0.5) * bend
    return _line(height, across, line, rng.uniform(*width))


def _speck(
    height: int, across: int, radius: tuple[float, float], rng: np.random.Generator
) -> Array:
    """How much of each pixel two or three overlapping discs cover."""
    centre = rng.uniform(0, 1, 2) * (across, height)
    speck = np.zeros((height, across), np.float32)
    for _ in range(rng.integers(2, 4)):
        size = rng.uniform(*radius)
        point = centre + rng.normal(0, size / 2, 2)
        np.maximum(speck, _line(height, across, point[None], 2 * size), out=speck)
    return speck


def _size(image: Picture) -> tuple[int, int]:
    grey = image.ndim == 2 or (image.ndim == 3 and image.shape[2] in (1, 3))
    if not grey or image.size == 0:
        raise InputError(f"image has the shape {image.shape}: give (height, width, 3), or grey.")
    if image.dtype != np.uint8 and image.dtype.kind != "f":
        raise InputError(f"image has the type {image.dtype}: give uint8, or floats in [-1, 1].")
    return image.shape[0], image.shape[1]


def _limits(image: Picture) -> tuple[float, float]:
    return (0, 255) if image.dtype == np.uint8 else (-1, 1)


def _line(height: int, width: int, points: NDArray[np.float64], thick: float) -> Array:
    """How much of each pixel a round-ended polyline covers, in [0, 1] (by distance)."""
    strip = np.zeros((height, width), np.float32)
    reach = thick / 2 + 0.5
    ends = points[1:] if len(points) > 1 else points
    for (x0, y0), (x1, y1) in zip(points, ends, strict=False):
        left, right = (max(0, math.floor(min(x0, x1) - reach)), math.ceil(max(x0, x1) + reach))
        top, bottom = (max(0, math.floor(min(y0, y1) - reach)), math.ceil(max(y0, y1) + reach))
        region = strip[top:bottom, left:right]
        if not region.size:
            continue
        rows, columns = np.mgrid[top : top + region.shape[0], left : left + region.shape[1]] + 0.5
        dx, dy = x1 - x0, y1 - y0
        t = ((columns - x0) * dx + (rows - y0) * dy) / max(dx * dx + dy * dy, 1e-12)
        t = np.clip(t, 0, 1)
        distance = np.hypot(columns - x0 - t * dx, rows - y0 - t * dy)
        np.maximum(region, np.clip(reach - distance, 0, 1).astype(np.float32), out=region)
    return strip


def _painted(
    image: Picture, cover: Sequence[tuple[Array, str | tuple[int, int, int]]]
) -> tuple[Picture, Mask]:
    """The picture under layers of colour, each with its opacity, and where any of them is."""
    flat = image[..., None] if image.ndim == 2 else image
    whole = flat.dtype == np.uint8
    values = flat.astype(np.float64) if whole else (flat.astype(np.float64) + 1) * 127.5
    mask = np.zeros(flat.shape[:2], bool)
    for opacity, colour in cover:
        paint = np.array(_rgb(colour), np.float64)
        if flat.shape[2] == 1:
            paint = paint.mean(keepdims=True)
        values += opacity[..., None] * (paint - values)
        mask |= opacity > 0
    changed = np.rint(values).astype(np.uint8) if whole else values / 127.5 - 1
    out = np.where(mask[..., None], changed, flat).astype(flat.dtype)
    return out.reshape(image.shape), mask


def _rgb(colour: str | tuple[int, int, int]) -> tuple[int, int, int]:
    if isinstance(colour, str):
        if colour not in COLOURS:
            raise InputError(f"'{colour}' is no known colour: use {', '.join(COLOURS)}, or RGB.")
        return COLOURS[colour]
    if len(colour) != 3 or not all(0 <= value <= 255 for value in colour):
        raise InputError(f"colour is {colour}: give a name or 8-bit RGB.")
    return colour
