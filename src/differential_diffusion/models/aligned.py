"""Pictures among a pipeline's arguments that lie over the edited one, pixel on pixel.

A ControlNet's picture belongs to the whole photograph: where the pipeline is shown a part of that,
it must be shown the same part of the other.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ..core.grid import mirrored
from ..core.noise import Window

__all__ = ["ALIGNED", "cut", "mirrored_to"]

ALIGNED = ("control_image", "depth_map", "ip_adapter_masks")
"""Arguments, or entries of arguments, that Diffusers' pipelines bring to the picture's size."""

OnPixels = Callable[[Tensor], Tensor]


def cut(arguments: Mapping[str, Any], size: tuple[int, int], window: Window) -> dict[str, Any]:
    """The arguments with what lies over the picture cut to a window of it.

    Args:
        arguments: of a pipeline's call: PIL images, arrays (…,H,W,C), tensors (…,H,W), or lists.
        size: (H, W) of the picture; what has another is brought to it first,
            unless the window is all of it.
        window: in the picture.
    """
    if window == Window(0, 0, *size):
        return dict(arguments)
    rows, columns = slice(window.top, window.bottom), slice(window.left, window.right)
    return _fitted(arguments, size, lambda pixels: pixels[..., rows, columns])


def mirrored_to(
    arguments: Mapping[str, Any], size: tuple[int, int], larger: tuple[int, int]
) -> dict[str, Any]:
    """The arguments with what lies over the picture mirrored to a larger size, as that is."""
    return _fitted(arguments, size, lambda pixels: mirrored(pixels, *larger))


def _fitted(
    arguments: Mapping[str, Any], size: tuple[int, int], change: OnPixels
) -> dict[str, Any]:
    fitted = {}
    for name, value in arguments.items():
        if name in ALIGNED:
            fitted[name] = _changed(value, size, change)
        else:
            fitted[name] = _fitted(value, size, change) if isinstance(value, dict) else value
    return fitted


def _changed(value: Any, size: tuple[int, int], change: OnPixels) -> Any:
    if isinstance(value, list | tuple):
        return [_changed(one, size, change) for one in value]
    if isinstance(value, Image.Image):
        height, width = size
        value = value if value.mode == "L" else value.convert("RGB")  # of a palette, the colours
        if value.size != (width, height):
            value = value.resize((width, height), Image.Resampling.LANCZOS)
        return Image.fromarray(_changed(np.asarray(value), size, change))
    if isinstance(value, np.ndarray):
        if value.ndim == 2:
            return change(_resized(torch.from_numpy(value.copy()), size)).numpy()
        pixels = torch.from_numpy(np.moveaxis(value, -1, -3).copy())
        return np.moveaxis(change(_resized(pixels, size)).numpy(), -3, -1)
    return change(_resized(value, size)) if isinstance(value, Tensor) else value


def _resized(pixels: Tensor, size: tuple[int, int]) -> Tensor:
    """The nearest pixels on a grid of this size, as Diffusers resizes tensors."""
    for axis, wanted in zip((-2, -1), size, strict=True):
        side = pixels.shape[axis]
        if side != wanted:
            nearest = torch.arange(wanted, device=pixels.device) * side // wanted
            pixels = pixels.index_select(axis, nearest)
    return pixels
