"""Give a pipeline the part of the picture that changes, with context around it.

A pipeline is not local: what it makes of a crop is not what it would make of the picture. So crops
are for models that are given too much else, and an option; where the map is 0 they change nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from torch import Tensor

from ..core.noise import Window
from .regions import merged_boxes, tight_boxes

__all__ = ["CONTEXT", "Crop", "crops_over"]

CONTEXT = 64
"""Pixels around what changes that a pipeline is shown, unless told otherwise."""

_CELL = 64
_WHOLE_FROM = 0.7  # of the picture's area, as crops have a price of their own


@dataclass(frozen=True)
class Crop:
    """A part of the picture for one run of the model.

    Attributes:
        window: what the model is given.
        mine: (h,w) bool, the active pixels of the window that this crop is to change.
    """

    window: Window
    mine: Tensor


def crops_over(active: Tensor, context: int, multiple: int, least: int = 256) -> list[Crop]:
    """Crops that together hold every active pixel once; one of the whole where that is as cheap.

    Args:
        active: (H,W) bool.
        context: pixels to show around what is active; down to half as many where that saves work.
        multiple: of pixels that the crops' sides should be, as far as the picture allows.
        least: pixels that a crop's sides should have, likewise: models make little of pictures
            smaller than those they were trained on.
    """
    height, width = active.shape
    if not bool(active.any()):
        return []
    boxes = merged_boxes(tight_boxes(active, _CELL), context, least)
    side = partial(_side, context=context, multiple=max(multiple, _CELL), least=least)
    windows = []
    for box in boxes:
        top, bottom = side(box.top, box.bottom, limit=height)
        left, right = side(box.left, box.right, limit=width)
        windows.append(Window(top, left, bottom, right))
    if sum(w.height * w.width for w in windows) >= _WHOLE_FROM * height * width:
        return [Crop(Window(0, 0, height, width), active)]
    remaining = active.clone()
    crops = []
    for window in windows:
        part = remaining[window.top : window.bottom, window.left : window.right]
        if bool(part.any()):
            crops.append(Crop(window, part.clone()))
            part.zero_()
    return crops


def _side(
    low: int, high: int, *, context: int, multiple: int, least: int, limit: int
) -> tuple[int, int]:
    """Where a side begins and ends: half of the context may go, if that saves a multiple."""
    wanted = (high - low + 2 * context) // multiple * multiple
    needed = -(-max(high - low + context, least) // multiple) * multiple
    length = min(limit, max(needed, wanted))
    start = (low + high - length) // 2
    start = max(0, min(start, limit - length))
    return start, start + length
