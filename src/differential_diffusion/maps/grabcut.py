"""The object in a box, told from what lies around it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ..errors import InputError
from . import _check
from .strength import StrengthMap

__all__ = ["grab_cut"]

Array = NDArray[np.float32]
Mask = NDArray[np.bool_]
Span = tuple[int, int]

_ROUNDS = 5
_MARGIN = 8
_SHORTEST = 32  # of a shrunk side, so that a thin box is still one
_SPECK = 1 / 2000  # of the box
_BLUR = 0.8


def grab_cut(
    image: NDArray[np.floating],
    *,
    box: Sequence[float],
    side: int = 512,
    feather: float = 0.0,
    strength: float = 1.0,
) -> StrengthMap:
    """The object in a box: full strength on it, 0 elsewhere.

    What lies outside the box is background and shows its colours; what in the box looks like it
    is background too, the rest the object. So draw the box around the whole object and not much
    wider. An object with the background's colours loses these parts: look at the map. Islands and
    holes smaller than 1/2000 of the box are taken away. The same picture gives the same map.

    Args:
        image: (H,W,3), or (H,W,1) or (H,W) for grey, floats; values beyond [-1, 1] are clipped.
        box: (left, top, right, bottom) in pixels: (10, 0, 20, 5) is columns 10 to 19 of rows 0 to
            4. What lies outside the picture is cut off.
        side: longer side, 64 to 2048 pixels, to which the box and its surroundings are shrunk to
            find the object; larger for finer borders, in more time.
        feather: softens the border, see `ops.feather`; it then reaches out of the object.
        strength: on the object, in [0, 1].

    Raises:
        InputError: a bad picture, settings out of range, or a box outside the picture or that
            leaves none of it out.

    Rother, Kolmogorov and Blake, "GrabCut: interactive foreground extraction using iterated graph
    cuts", SIGGRAPH 2004, in OpenCV's implementation.
    """
    image = _check.picture(image)
    height, width = image.shape[:2]
    columns, rows = _spans(box, height, width)
    side = int(_check.number("side", _check.side("side", side), 64, 2048))
    strength = _check.number("strength", strength, 0, 1)
    made = np.zeros((height, width), np.float32)
    if made.size == 1:  # no room for a background
        made[:] = 1
    else:
        near_rows, near_columns = _widened(rows, height), _widened(columns, width)
        near = np.s_[slice(*near_rows), slice(*near_columns)]
        inside = np.zeros((height, width), bool)
        inside[slice(*rows), slice(*columns)] = True
        made[near] = _object(image[near], inside[near], side)
    return StrengthMap(made * np.float32(strength)).feather(feather)


def _spans(box: Sequence[float], height: int, width: int) -> tuple[Span, Span]:
    """The first column that a box touches and the one after the last, and its rows."""
    left, top, right, bottom = _check.box("box", box)
    if left >= width or top >= height or right <= 0 or bottom <= 0:
        raise InputError(
            f"box is {left:g}, {top:g}, {right:g}, {bottom:g}, outside the picture of "
            f"{width}x{height} pixels: give one inside it."
        )
    columns = max(math.floor(left), 0), min(math.ceil(right), width)
    rows = max(math.floor(top), 0), min(math.ceil(bottom), height)
    if columns == (0, width) and rows == (0, height) and height * width > 1:
        raise InputError(
            "box covers the whole picture, so nothing shows what the background is: "
            "give one that leaves some of it out."
        )
    return columns, rows


def _widened(span: Span, length: int) -> Span:
    """The span with half its length more at either end, where there is so much."""
    more = max(_MARGIN, (span[1] - span[0]) // 2)
    return max(span[0] - more, 0), min(span[1] + more, length)


def _object(image: Array, inside: Mask, side: int) -> Array:
    """(H,W) 1 on the object, 0 elsewhere, antialiased if found in a smaller picture."""
    height, width = inside.shape
    share = min(1.0, side / max(height, width))
    if share == 1:
        return _segmented(image, inside).astype(np.float32)
    size = tuple(max(min(length, _SHORTEST), round(length * share)) for length in (width, height))
    small = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    # A pixel that holds something from outside the box is outside, so a margin stays one.
    covered = cv2.resize(inside.astype(np.float32), size, interpolation=cv2.INTER_AREA)
    found = _segmented(np.asarray(small, np.float32), np.asarray(covered > 0.999))
    soft = cv2.GaussianBlur(
        found.astype(np.float32), (0, 0), _BLUR, borderType=cv2.BORDER_REPLICATE
    )
    soft = cv2.resize(soft, (width, height), interpolation=cv2.INTER_CUBIC)
    # The blurred border rises by 1/gain in a pixel of the large picture: make that 1.
    gain = _BLUR * math.sqrt(2 * math.pi) / share
    return np.asarray(np.clip((soft - 0.5) * np.float32(gain) + 0.5, 0, 1) * inside, np.float32)


def _segmented(image: Array, inside: Mask) -> Mask:
    """The object's pixels (H,W), which all lie inside."""
    pixels = np.rint((np.clip(image, -1, 1) + 1) * 127.5).astype(np.uint8)
    pixels = np.broadcast_to(pixels.reshape(*inside.shape, -1), (*inside.shape, 3))
    # OpenCV's random state belongs to the thread and cannot be put back: leave the caller's alone.
    with ThreadPoolExecutor(1) as thread:
        found = thread.submit(_cut, np.ascontiguousarray(pixels), inside).result()
    for value in (True, False):
        areas, _ = ndimage.label(found == value)
        size = np.bincount(areas.ravel())
        size[0] = inside.size
        found = np.where(size[areas] < _SPECK * inside.sum(), not value, found)
    return found & inside


def _cut(pixels: NDArray[np.uint8], inside: Mask) -> Mask:
    cv2.setRNGSeed(0)
    labels = np.where(inside, cv2.GC_PR_FGD, cv2.GC_BGD).astype(np.uint8)
    background, foreground = np.zeros((1, 65)), np.zeros((1, 65))
    mode = cv2.GC_INIT_WITH_MASK
    for _ in range(_ROUNDS):
        if not (labels == cv2.GC_PR_FGD).any():  # no colours left to learn the object's from
            break
        cv2.grabCut(pixels, labels, (0, 0, 0, 0), background, foreground, 1, mode)
        mode = cv2.GC_EVAL
    return np.asarray(labels == cv2.GC_PR_FGD)
