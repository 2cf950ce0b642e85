"""Samples to float32 RGB in [-1, 1] and back, strip by strip.

Encoded values stay as they are: no linearisation, and no colour management. CMYK is read as
R = (1 - C)(1 - K), likewise G and B, which is Pillow's conversion up to its rounding.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ..core.operators.channels import LUMA
from ..errors import InputError
from .raster import Array, peak_of, row_strips

__all__ = ["cmyk_to_rgb", "enlarged", "luma", "requantised", "to_tensor", "written_over"]

Floats = npt.NDArray[np.float32]

_REC601 = np.array(LUMA, dtype=np.float32)


def to_tensor(pixels: Array) -> Tensor:
    """Samples (H, W), (H, W, 3) or (H, W, 4) to a new tensor (1, 3, H, W) in [-1, 1]."""
    height, width = pixels.shape[:2]
    out = np.empty((3, height, width), dtype=np.float32)
    for rows in row_strips(height, width):
        strip = out[:, rows]
        strip[...] = _planes(_rgb(_unit(pixels[rows])))
        strip *= 2
        strip -= 1
    return torch.from_numpy(out)[None]


def written_over(pixels: Array, x: Tensor, keep: npt.NDArray[np.bool_]) -> Array:
    """A copy of the samples where `keep` is False replaced by x (3, H, W) in [-1, 1].

    x is clipped, and rounded for integer samples. Grey takes the mean of the three channels.
    CMYK keeps each pixel's black ink as far as the new colour allows, so that a colour that did
    not change gives its own inks again.

    Raises:
        InputError: x is NaN or infinite in a pixel that is written.
    """
    out: Array = pixels.copy()
    for rows in row_strips(keep.shape[0], keep.shape[1]):
        edited = ~keep[rows]
        if not edited.any():
            continue
        strip = x[:, rows].detach().to("cpu", torch.float32).numpy().transpose(1, 2, 0)
        colours = strip[edited]  # (N, 3)
        if not np.isfinite(colours).all():
            raise InputError("the new picture holds NaN or infinite values: nothing was replaced.")
        colours = np.clip((colours + 1) / 2, 0, 1)
        if pixels.ndim == 2:
            colours = colours.mean(axis=1)
        elif pixels.shape[2] == 4:
            colours = _inks(colours, _unit(pixels[rows][edited]))
        out[rows][edited] = _quantised(colours, pixels.dtype)
    return out


def luma(pixels: Array) -> Floats:
    """Brightness (H, W) in [0, 1]: exact where the channels agree, else Rec. 601 luma."""
    height, width = pixels.shape[:2]
    out = np.empty((height, width), dtype=np.float32)
    for rows in row_strips(height, width):
        unit = _rgb(_unit(pixels[rows]))
        if unit.ndim == 3:
            grey = (unit == unit[..., :1]).all(axis=-1)
            unit = np.where(grey, unit[..., 0], np.clip(unit @ _REC601, 0, 1))
        out[rows] = unit
    return out


def cmyk_to_rgb(pixels: Array) -> Array:
    """CMYK samples (H, W, 4) to RGB (H, W, 3) in the same dtype."""
    out = np.empty((*pixels.shape[:2], 3), dtype=pixels.dtype)
    for rows in row_strips(out.shape[0], out.shape[1]):
        out[rows] = _quantised(_rgb(_unit(pixels[rows])), pixels.dtype)
    return out


def requantised(samples: Array, dtype: np.dtype[Any]) -> Array:
    """Samples of any shape (H, W, ...) in another dtype's range, rounded where it is coarser."""
    if samples.dtype == dtype:
        return samples
    out = np.empty(samples.shape, dtype=dtype)
    for rows in row_strips(samples.shape[0], samples.shape[1]):
        out[rows] = _quantised(_unit(samples[rows]), dtype)
    return out


def enlarged(samples: Array, factor: int) -> Array:
    """Samples (H, W) or (H, W, C) by cubic interpolation, (factor H, factor W, ...)."""
    height, width = samples.shape[:2]
    unit = cv2.resize(
        _unit(samples), (factor * width, factor * height), interpolation=cv2.INTER_CUBIC
    )
    return _quantised(np.clip(unit, 0, 1), samples.dtype)


def _unit(samples: Array) -> Floats:
    """Samples as new float32 in [0, 1]; both ends exact."""
    unit: Floats = np.divide(samples, np.float32(peak_of(samples.dtype)), dtype=np.float32)
    return unit


def _quantised(unit: Floats, dtype: np.dtype[Any]) -> Array:
    if dtype.kind == "f":
        return unit.astype(dtype)
    rounded: Array = np.rint(unit * np.float32(peak_of(dtype))).astype(dtype)
    return rounded


def _rgb(unit: Floats) -> Floats:
    """Grey and RGB as they are; CMYK (..., 4) to RGB (..., 3)."""
    if unit.ndim == 2 or unit.shape[-1] == 3:
        return unit
    return (1 - unit[..., :3]) * (1 - unit[..., 3:])


def _planes(unit: Floats) -> Floats:
    """(H, W) or (H, W, 3) to what broadcasts to (3, H, W)."""
    return unit if unit.ndim == 2 else unit.transpose(2, 0, 1)


def _inks(rgb: Floats, before: Floats) -> Floats:
    """Colours (N, 3) as inks (N, 4), black as in the inks `before` where it fits under them."""
    black = np.minimum(before[:, 3:], 1 - rgb.max(axis=1, keepdims=True))
    light = 1 - black
    with np.errstate(invalid="ignore", divide="ignore"):
        inks = 1 - rgb / light
    inks = np.where(light > 0, np.clip(inks, 0, 1), before[:, :3])  # any ink lies under full black
    return np.concatenate([inks, black], axis=1)
