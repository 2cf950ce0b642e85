"""A picture of what was done: input, map, output and difference, side by side with captions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from ..engine import Result
from ..images import Picture

PANEL, SMALLEST, BAR, GAP = 640, 256, 30, 8
_FACTORS = (64, 32, 16, 8, 4, 2)
_DARK, _LIGHT = (24, 24, 27), (235, 235, 235)

Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class Panel:
    """Pixels (H,W,3) and what to write above them."""

    caption: str
    pixels: Pixels


def contact_sheet(source: Picture, result: Result) -> Image.Image:
    """The panels of one result in a row; large pictures are scaled down to `PANEL` pixels.

    The difference is |output - input| per channel, multiplied until it can be seen; where it is
    black, nothing changed.
    """
    before, after = rgb(source), rgb(result.picture)
    difference, factor = amplified(before, after)
    panels = [
        Panel("input", before),
        Panel(_caption("strength", result.map), heat(result.map)),
        Panel("output", after),
        Panel(f"difference x{factor}", difference),
    ]
    noise = result.noise_level_8bit
    if noise is not None and noise.max() > 0:
        panels.insert(2, Panel(_caption("noise", noise), heat(noise / noise.max())))
    return sheet(panels)


def sheet(panels: list[Panel]) -> Image.Image:
    """Panels of one size beside each other, each below its caption."""
    height, width = panels[0].pixels.shape[:2]
    scale = min(PANEL / max(height, width), max(1, SMALLEST // max(height, width)))
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    column = max(size[0], SMALLEST // 2)
    canvas = Image.new("RGB", (len(panels) * (column + GAP) + GAP, size[1] + BAR + GAP), _DARK)
    draw, font = ImageDraw.Draw(canvas), ImageFont.load_default(size=14)
    for index, panel in enumerate(panels):
        left = GAP + index * (column + GAP)
        shrink = Image.Resampling.BOX if scale < 1 else Image.Resampling.NEAREST
        canvas.paste(Image.fromarray(panel.pixels).resize(size, shrink), (left, BAR))
        draw.text((left, BAR / 2), panel.caption, fill=_LIGHT, font=font, anchor="lm")
    return canvas


def rgb(picture: Picture) -> Pixels:
    """The colours as (H,W,3) 8-bit RGB."""
    levels = (picture.tensor()[0].permute(1, 2, 0).numpy() + 1) * 127.5
    return np.ascontiguousarray(np.rint(levels).astype(np.uint8))


def amplified(before: Pixels, after: Pixels) -> tuple[Pixels, int]:
    """|after - before| times the largest power of two up to 64 that clips under 1 % of changes."""
    difference = np.where(after > before, after - before, before - after)
    changed = difference[difference > 0]
    high = float(np.percentile(changed, 99)) if changed.size else 0.0
    factor = next((k for k in _FACTORS if changed.size and k * high <= 255), 1)
    return np.minimum(difference.astype(np.uint16) * factor, 255).astype(np.uint8), factor


def heat(values: NDArray[np.floating[Any]]) -> Pixels:
    """Values in [0,1], (H,W), as colours (H,W,3) from black over red to pale yellow."""
    index = np.rint(np.clip(values, 0, 1) * 255).astype(np.uint8)
    return np.asarray(cv2.applyColorMap(index, cv2.COLORMAP_INFERNO)[..., ::-1], np.uint8)


def _caption(what: str, values: NDArray[np.floating[Any]]) -> str:
    low, high = float(values.min()), float(values.max())
    return f"{what} {low:.3g}" if low == high else f"{what} {low:.3g} to {high:.3g}"
