"""Give a pipeline the part of the picture that changes, with context around it.

A pipeline is not local: what it makes of a crop is not what it would make of the picture. So crops
are for models that are given too much else, and an option; where the map is 0 they change nothing.
One area is never cut in two: its parts would not know of each other.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import cv2
import numpy as np
import torch.nn.functional as F
from torch import Tensor

from ..core.noise import Window
from .regions import bounding, merged_boxes

__all__ = ["CONTEXT", "crops_over"]

CONTEXT = 64
"""Pixels around what changes that a pipeline is shown, unless told otherwise."""

_CELL = 8
_MULTIPLE = 64
_MOST_AREAS = 100
_WHOLE_FROM = 0.7  # of the picture's area, as crops have a price of their own


def crops_over(active: Tensor, context: int, multiple: int, least: int = 256) -> list[Window]:
    """Crops that each hold whole areas, and together all; one of the whole where that is as cheap.

    No crop holds an active pixel of another.

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
    side = partial(_side, context=context, multiple=max(multiple, _MULTIPLE), least=least)

    def grown(box: Window) -> Window:
        top, bottom = side(box.top, box.bottom, limit=height)
        left, right = side(box.left, box.right, limit=width)
        return Window(top, left, bottom, right)

    boxes = _apart(merged_boxes(_areas(active, context), context, least), grown)
    windows = [grown(box) for box in boxes]
    if sum(w.height * w.width for w in windows) >= _WHOLE_FROM * height * width:
        return [Window(0, 0, height, width)]
    return windows


def _areas(active: Tensor, reach: int) -> list[Window]:
    """Boxes around what hangs together, over gaps of about `reach` pixels, or more if need be."""
    cells = F.max_pool2d(active[None, None].float(), _CELL, ceil_mode=True)[0, 0].numpy()
    grid = cells.astype(np.uint8)
    steps = max(1, reach // (2 * _CELL))
    while True:
        near = cv2.dilate(grid, np.ones((2 * steps + 1, 2 * steps + 1), np.uint8))
        count, labels = cv2.connectedComponents(near, connectivity=8)
        if count <= _MOST_AREAS + 1:  # one label is of what lies between
            break
        steps *= 2
    pixels = active.numpy()
    boxes = []
    for label in range(1, count):
        rows, columns = np.nonzero((labels == label) & (grid > 0))
        top, left = int(rows.min()) * _CELL, int(columns.min()) * _CELL
        bottom, right = (int(last.max() + 1) * _CELL for last in (rows, columns))
        part = pixels[top:bottom, left:right]
        ys, xs = np.nonzero(part.any(1))[0], np.nonzero(part.any(0))[0]
        boxes.append(
            Window(
                top + int(ys[0]), left + int(xs[0]), top + int(ys[-1]) + 1, left + int(xs[-1]) + 1
            )
        )
    return boxes


def _apart(boxes: list[Window], grown: Callable[[Window], Window]) -> list[Window]:
    """The boxes, merged until none reaches into the crop of another."""
    at = 0
    while at < len(boxes):
        window = grown(boxes[at])
        reached = [box for box in boxes if box is not boxes[at] and _overlap(window, box)]
        if reached:
            rest = [box for box in boxes if box is not boxes[at] and box not in reached]
            boxes, at = [*rest, bounding([boxes[at], *reached])], 0
        else:
            at += 1
    return boxes


def _overlap(one: Window, other: Window) -> bool:
    return (
        one.top < other.bottom
        and other.top < one.bottom
        and one.left < other.right
        and other.left < one.right
    )


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
