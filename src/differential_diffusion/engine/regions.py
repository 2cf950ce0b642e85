"""Work only where the map is active: windows, tiles, and a denoiser that runs on them.

A local denoiser gives a pixel the same value from any crop that holds the pixel's halo and
starts at a multiple of the stride. So the pixels that move are covered by windows, and the
network runs on those, each with its halo, instead of on the picture.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from ..core.noise import Window
from ..core.plan import Plan
from ..core.types import Denoiser

_CELL = 64
_MERGE_LIMIT = 256


def windows_over(active: Tensor, *, stride: int, halo: int, tile: int) -> list[Window]:
    """Windows that cover every active pixel, few and small enough to be cheap.

    Starts from the bounding boxes of the active runs of a coarse grid and merges two boxes
    while one crop of both costs less than two, halos counted; then cuts what is larger than
    a tile.

    Args:
        active: (H,W) bool.
        stride: windows start at multiples of it.
        halo: margin each window will be given, in pixels.
        tile: largest side of a window in pixels.
    """
    height, width = active.shape
    cell = -(-_CELL // stride) * stride
    boxes = tight_boxes(active, cell)
    while len(boxes) > _MERGE_LIMIT:  # too many pairs to weigh: look more coarsely
        cell *= 2
        boxes = tight_boxes(active, cell)
    boxes = merged_boxes(boxes, halo)
    side = max(stride, tile // stride * stride)
    windows = []
    for box in boxes:
        top, left = box.top // stride * stride, box.left // stride * stride
        bottom = min(height, -(-box.bottom // stride) * stride)
        right = min(width, -(-box.right // stride) * stride)
        windows += [
            Window(y, x, min(y + side, bottom), min(x + side, right))
            for y in range(top, bottom, side)
            for x in range(left, right, side)
        ]
    return windows


def with_halo(window: Window, halo: int, height: int, width: int) -> Window:
    """The window grown by `halo` on each side, cut at the picture's border."""
    return Window(
        max(0, window.top - halo),
        max(0, window.left - halo),
        min(height, window.bottom + halo),
        min(width, window.right + halo),
    )


def bounding(windows: Sequence[Window]) -> Window:
    """The smallest window that holds all of `windows`."""
    return Window(
        min(w.top for w in windows),
        min(w.left for w in windows),
        max(w.bottom for w in windows),
        max(w.right for w in windows),
    )


def tight_boxes(active: Tensor, cell: int) -> list[Window]:
    """Horizontal runs of active cells, each shrunk to the active pixels in it."""
    height, width = active.shape
    padded = F.pad(active, (0, -width % cell, 0, -height % cell))
    rows, columns = padded.shape
    grid = padded.view(rows // cell, cell, columns // cell, cell).any(3).any(1)
    boxes = []
    for row, cells in enumerate(grid.tolist()):
        column = 0
        while column < len(cells):
            if not cells[column]:
                column += 1
                continue
            first = column
            while column < len(cells) and cells[column]:
                column += 1
            top, left = row * cell, first * cell
            part = active[top : top + cell, left : column * cell]
            ys, xs = part.any(1).nonzero()[:, 0], part.any(0).nonzero()[:, 0]
            boxes.append(
                Window(
                    top + int(ys[0]),
                    left + int(xs[0]),
                    top + int(ys[-1]) + 1,
                    left + int(xs[-1]) + 1,
                )
            )
    return boxes


def _cost(window: Window, halo: int) -> int:
    return (window.height + 2 * halo) * (window.width + 2 * halo)


def merged_boxes(boxes: list[Window], halo: int, least: int = 0) -> list[Window]:
    """Merge boxes greedily, best saving first, until no pair is cheaper as one.

    A box costs its area with the halo around it, its sides at least `least` pixels.
    """
    while len(boxes) > 1:
        table = torch.tensor(boxes)
        low = torch.minimum(table[:, None, :2], table[None, :, :2])
        high = torch.maximum(table[:, None, 2:], table[None, :, 2:])
        joined = (high - low + 2 * halo).clamp(min=least).prod(-1)
        alone = (table[:, 2:] - table[:, :2] + 2 * halo).clamp(min=least).prod(-1)
        saving = alone[:, None] + alone[None, :] - joined
        saving.fill_diagonal_(torch.iinfo(saving.dtype).min)
        best = int(saving.argmax())
        i, j = sorted(divmod(best, len(boxes)))
        if saving[i, j] < 0:
            break
        boxes[i] = bounding([boxes[i], boxes[j]])
        del boxes[j]
    return boxes


class RegionalDenoiser:
    """A local denoiser that is run on windows only; elsewhere it returns x.

    Equal to the whole-picture denoiser on every window up to rounding.

    Args:
        denoise: local, see the module.
        windows: where its value is needed.
        halo: margin that makes a crop exact.
        on_piece: called with (pieces done, pieces) after each window.
    """

    def __init__(
        self,
        denoise: Denoiser,
        windows: Sequence[Window],
        halo: int,
        on_piece: Callable[[int, int], None] | None = None,
    ) -> None:
        self.denoise, self.windows, self.halo, self.on_piece = denoise, windows, halo, on_piece
        self.moving: Tensor | None = None

    def focus(self, moving: Tensor) -> None:
        """Skip windows without a pixel of `moving`, see `core.types.Focusable`."""
        self.moving = moving if moving.shape[-2:] != (1, 1) else None

    def __call__(self, x: Tensor, sigma: Tensor, /) -> Tensor:
        """D(x, σ) on the windows, x elsewhere; see `core.Denoiser`."""
        out = x.clone()
        moving = self.moving
        windows = [w for w in self.windows if moving is None or bool(_at(moving, w).any())]
        for done, window in enumerate(windows, start=1):
            crop = with_halo(window, self.halo, *x.shape[-2:])
            estimate = self.denoise(_at(x, crop), crop_map(sigma, crop))
            inner = Window(
                window.top - crop.top,
                window.left - crop.left,
                window.bottom - crop.top,
                window.right - crop.left,
            )
            _at(out, window).copy_(_at(estimate, inner))
            if self.on_piece is not None:
                self.on_piece(done, len(windows))
        return out


def _at(x: Tensor, window: Window) -> Tensor:
    return x[..., window.top : window.bottom, window.left : window.right]


def cropped(plan: Plan, box: Window) -> Plan:
    """The plan on a part of its picture."""
    return replace(
        plan,
        image=crop_map(plan.image, box),
        strength=crop_map(plan.strength, box),
        noise=crop_map(plan.noise, box),
        target=crop_map(plan.target, box),
    )


def crop_map(x: Tensor, window: Window) -> Tensor:
    """A window of a map; a (…,1,1) map stays."""
    return x if x.shape[-2:] == (1, 1) else _at(x, window)
