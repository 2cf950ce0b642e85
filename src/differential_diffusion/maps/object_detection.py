"""Strength in the boxes of things that a model detects."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import _check
from ._classes import strengths_of
from ._transformers import DETECTION, load
from .shapes import cover
from .strength import StrengthMap

__all__ = ["detection"]


def detection(
    image: NDArray[np.floating],
    *,
    model: Any,
    classes: Mapping[str, float],
    threshold: float = 0.5,
    default: float = 0.0,
    feather: float = 0.0,
    device: str | None = None,
) -> StrengthMap:
    """Boxes around detected things, with a strength for each class of them.

    Where boxes overlap, the one that the model is surest of counts. A pixel that a box covers in
    part goes over to the box's strength by that part.

    Args:
        image: (H,W,3), or (H,W,1) or (H,W) for grey, floats in [-1, 1].
        model: an object detection model of transformers, such as DETR, RT-DETR or YOLOS: a
            folder, a name on the Hub, a pipeline, or a pair (model, processor).
        classes: strengths in [0, 1] by names of the model's classes, in any case; things of other
            classes are left out.
        threshold: how sure the model must be, in [0, 1].
        default: strength outside the boxes, in [0, 1].
        feather: softens the edges, see `ops.feather`.
        device: where the model runs; chosen by default.

    Raises:
        InputError: a bad picture or number, a class that the model does not know, or a model that
            is not there or of another kind.
        MissingExtraError: the extra 'maps' is not installed.
    """
    image = _check.picture(image)
    threshold = _check.number("threshold", threshold, 0, 1)
    default = _check.number("default", default, 0, 1)
    feather = _check.number("feather radius", feather, 0, 4096)
    loaded = load(DETECTION, model, device)
    strengths = strengths_of(classes, loaded.labels, loaded.name)
    height, width = image.shape[:2]
    found = loaded.boxes(loaded.run(image), threshold, height, width)
    made = np.full((height, width), default, np.float32)
    for _, label, box in sorted(found, key=lambda item: item[0]):
        if label in strengths:
            _paint(made, box, strengths[label])
    return StrengthMap(np.clip(made, 0, 1)).feather(feather)


def _paint(
    made: NDArray[np.float32], box: tuple[float, float, float, float], strength: float
) -> None:
    """Takes `made` in place to the strength where the box covers it."""
    height, width = made.shape
    left, top, right, bottom = box
    rows = slice(max(0, math.floor(top)), max(0, math.ceil(bottom)))
    columns = slice(max(0, math.floor(left)), max(0, math.ceil(right)))
    covered = np.outer(cover(top, bottom, height)[rows], cover(left, right, width)[columns])
    region = made[rows, columns]
    region += ((strength - region) * covered).astype(np.float32)
