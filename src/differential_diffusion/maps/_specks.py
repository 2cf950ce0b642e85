"""Scratches and dust: thin or small areas of white or black with hard edges."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

__all__ = ["find_specks"]

Array = NDArray[np.float32]
Mask = NDArray[np.bool_]

_LEVEL = 1 / 127.5
_EXTREME = 0.94
_BACKGROUND = 15
_THICK = 9
_DOUBTFUL = -3.0
_USUAL, _MUCH = 3e-3, 2e-2  # shares of doubtful areas in photographs
_REACH = 9


def find_specks(image: Array, sigma: Array, *, long: bool = True, round_: bool = True) -> Mask:
    """Pixels of scratches (`long`) and of dust (`round_`) in a picture (H,W,C) in [-1, 1].

    The picture is read as  I = B + a (W - B)  with B the median around, W white or black, and a
    the opacity. Candidates are connected areas of some opacity that hold pixels of W itself and
    are thinner than 9 pixels. `_score` decides, the more strictly the more of the picture is
    doubtful: glitter on water has everything between a wave and a speck, damage has not.
    """
    pixels = np.clip(np.rint((image + 1) * 127.5), 0, 255).astype(np.uint8)
    background = cv2.medianBlur(pixels, _BACKGROUND).reshape(image.shape)
    del pixels
    found = np.zeros(image.shape[:2], bool)
    for sign in (1, -1):
        opacity, core, area = _candidates(image, background, sign, sigma)
        labels, count = ndimage.label(area, np.ones((3, 3)))
        if count:
            stretched = _is_long(labels, count)
            score = _score(labels, count, opacity, core) + np.where(stretched, 1.5, 3.4)
            doubtful = (score > _DOUBTFUL) & (score < 0)
            share = np.bincount(labels.ravel())[1:][doubtful].sum() / labels.size
            needed = np.log1p(share / _USUAL) + share / _MUCH
            wanted = (score > needed) & np.where(stretched, long, round_)
            reach = cv2.dilate(core.astype(np.uint8), np.ones((_REACH, _REACH), np.uint8)) > 0
            found |= np.concatenate([[False], wanted])[labels] & reach
    return found


def _candidates(
    image: Array, background: NDArray[np.uint8], sign: int, sigma: Array
) -> tuple[Array, Mask, Mask]:
    """Opacity of white (sign 1) or black (-1), its pixels in thin areas, and the areas around.

    Channels are taken one at a time: three at once would be the most memory that a restoration
    takes.
    """
    shape, channels = image.shape[:2], image.shape[2]
    opacity, highest = np.full(shape, np.inf, np.float32), np.full(shape, -np.inf, np.float32)
    mean, extreme = np.zeros(shape, np.float32), np.ones(shape, bool)
    for index in range(channels):
        value = sign * image[..., index]
        around = sign * (background[..., index] * np.float32(_LEVEL) - 1)
        rise = value - around
        np.maximum(highest, rise, out=highest)
        mean += rise / channels
        np.minimum(opacity, rise / np.maximum(1 - around, 0.02), out=opacity)
        extreme &= value >= _EXTREME
    square = np.ones((_THICK, _THICK), np.uint8)
    thick = cv2.morphologyEx(np.asarray(extreme, np.uint8), cv2.MORPH_OPEN, square) > 0
    core = extreme & ~thick & (highest > np.maximum(32 * _LEVEL, 4 * sigma))
    area = (opacity > 0.4) & (mean > np.maximum(16 * _LEVEL, 2.5 * sigma)) & ~thick
    return opacity, core, area | core


# Fitted by logistic regression to areas found in photographs as they are, and with painted
# scratches and dust; in the order of `speck_features`.
_WEIGHTS = np.array([10.4, 26.5, -16.1, 0.92, -4.0, -19.6])
_BIAS = -14.6


def _score(
    labels: NDArray[np.int32], count: int, opacity: Array, core: Mask
) -> NDArray[np.float64]:
    """Log-odds of each area to be damage; minus infinity for areas without a core."""
    held = np.bincount(labels[core], minlength=count + 1)[1:] > 0
    score = speck_features(labels, count, opacity, core) @ _WEIGHTS + _BIAS
    return np.where(held, score, -np.inf)


def speck_features(
    labels: NDArray[np.int32], count: int, opacity: Array, core: Mask
) -> NDArray[np.float64]:
    """What tells damage from glints and twigs, (count, 6).

    Paint covers what lies under it, and a lens blurs what lies in front of it. So, for damage:
    the area is opaque on the whole; opacity drops at its edge and is gone two pixels from the
    core and three to four from the area; and real structure of that sharpness is seldom large.
    """
    clipped = np.clip(opacity, 0, 1)
    inside = labels > 0
    slots = count + 1

    def mean(where: Mask, owner: NDArray[np.int32], values: Array) -> NDArray[np.float64]:
        ids = owner[where]
        sums = np.bincount(ids, values[where], slots)
        return np.asarray(sums[1:] / np.maximum(np.bincount(ids, minlength=slots)[1:], 1))

    owner = labels.astype(np.float32)
    held = owner * core
    touched = {size: cv2.dilate(held, np.ones((size, size), np.uint8)) for size in (3, 5)}
    first = (touched[3] > 0) & ~core
    second = (touched[5] > 0) & (touched[3] == 0)
    around = cv2.dilate(owner, np.ones((7, 7), np.uint8))
    beyond = (around > 0) & (cv2.dilate(owner, np.ones((3, 3), np.uint8)) == 0)

    area = np.bincount(labels[inside], minlength=slots)[1:].astype(np.float64)
    return np.stack(
        [
            mean(second, touched[5].astype(np.int32), (opacity < 0.2).astype(np.float32)),
            mean(inside, labels, clipped),
            mean(first, touched[3].astype(np.int32), clipped),
            np.minimum(np.log(area), 5),
            mean(beyond, around.astype(np.int32), np.minimum(np.abs(opacity), 1)),
            _drop_at_edge(labels, slots, clipped),
        ],
        axis=1,
    )


def _drop_at_edge(labels: NDArray[np.int32], slots: int, opacity: Array) -> NDArray[np.float64]:
    """Mean fall of the opacity from a pixel of an area to its neighbour outside."""
    pairs, falls = np.zeros(slots), np.zeros(slots)
    for turned, values in ((labels, opacity), (labels.T, opacity.T)):
        for inner, outer in ((slice(None, -1), slice(1, None)), (slice(1, None), slice(None, -1))):
            edge = (turned[inner] > 0) & (turned[outer] == 0)
            ids = turned[inner][edge]
            pairs += np.bincount(ids, minlength=slots)
            fall = np.maximum(values[inner][edge] - values[outer][edge], 0)
            falls += np.bincount(ids, fall, slots)
    return falls[1:] / np.maximum(pairs[1:], 1)


def _is_long(labels: NDArray[np.int32], count: int) -> Mask:
    """Whether the squared length of an area, by its second moments, exceeds 3 of its areas."""
    rows, columns = np.nonzero(labels)
    ids, slots = labels[rows, columns], count + 1
    area = np.maximum(np.bincount(ids, minlength=slots), 1)

    def moment(values: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(np.bincount(ids, values, slots) / area)

    y, x = rows.astype(np.float64), columns.astype(np.float64)
    y -= moment(y)[ids]
    x -= moment(x)[ids]
    yy, xx, xy = moment(y * y), moment(x * x), moment(x * y)
    largest = (yy + xx + np.hypot(yy - xx, 2 * xy)) / 2 + 1 / 12
    return np.asarray((12 * largest > 3 * area)[1:])
