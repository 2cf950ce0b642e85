"""How a JPEG file holds its picture: tables and sampling by Pillow, coefficients by jpeglib."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from ..core.operators import Coefficients, JpegFormat
from ..errors import InputError

__all__ = ["coefficients_in", "format_of_jpeg"]

_RGB_LETTERS = [ord(letter) for letter in "RGB"]


def format_of_jpeg(image: Image.Image, orientation: int) -> JpegFormat | None:
    """How the file that a Pillow image was opened from holds it.

    None for other files, for CMYK and colours that were stored as red, green and blue, and for
    samplings that no common program writes (more than four pixels a sample, or fractions).
    """
    layers: Any = getattr(image, "layer", None)
    tables: Any = getattr(image, "quantization", None)
    if not layers or not tables or len(layers) not in (1, 3) or _is_rgb(image, layers):
        return None
    most = [max(layer[axis] for layer in layers) for axis in (2, 1)]  # down, across
    factors, steps = [], []
    for _, across, down, table in layers:
        if most[0] % down or most[1] % across or table not in tables:
            return None
        factors.append((most[0] // down, most[1] // across))
        steps.append(torch.tensor(tables[table], dtype=torch.float64).reshape(8, 8))
    if len(layers) == 1:
        factors = [(1, 1)]
    try:
        return JpegFormat(tuple(steps), tuple(factors), orientation)
    except InputError:
        return None


def _is_rgb(image: Image.Image, layers: Any) -> bool:
    """Whether three components are red, green and blue, as libjpeg decides it."""
    if len(layers) < 3 or "jfif" in image.info:
        return False
    if "adobe_transform" in image.info:
        return bool(image.info["adobe_transform"] == 0)
    return [layer[0] for layer in layers] == _RGB_LETTERS


def coefficients_in(path: Path, form: JpegFormat) -> Coefficients | None:
    """The coefficients that a JPEG file holds, in steps, exactly; needs the package jpeglib.

    None without that package, and for files that it does not read or finds otherwise than `form`.
    """
    try:
        import jpeglib
    except ImportError:
        return None
    try:
        found = jpeglib.read_dct(str(path))
        planes = [found.Y] if len(form.tables) == 1 else [found.Y, found.Cb, found.Cr]
        steps = tuple(torch.from_numpy(np.array(plane, np.float64))[None] for plane in planes)
        same = all(
            np.array_equal(found.qt[number], table.numpy())
            for number, table in zip(found.quant_tbl_no, form.tables, strict=True)
        )
    except Exception:  # whatever it raises, the coefficients can be told from the pixels
        return None
    return steps if same else None
