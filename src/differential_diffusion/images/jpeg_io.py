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


def format_of_jpeg(image: Image.Image, orientation: int) -> JpegFormat | str | None:
    """How the JPEG file that a Pillow image was opened from holds it; None for other images.

    A text, such as "is a JPEG file of four inks", for files that are not understood: CMYK, colours
    that were stored as red, green and blue, and samplings that no common program writes.
    """
    layers: Any = getattr(image, "layer", None)
    tables: Any = getattr(image, "quantization", None)
    if not layers or not tables:
        return None
    if len(layers) not in (1, 3):
        return "is a JPEG file of four inks"
    if _is_rgb(image, layers):
        return "is a JPEG file of red, green and blue"
    most = [max(layer[axis] for layer in layers) for axis in (2, 1)]  # down, across
    whole = not any(most[0] % layer[2] or most[1] % layer[1] for layer in layers)
    factors = tuple((most[0] // layer[2], most[1] // layer[1]) for layer in layers)
    try:
        steps = [torch.tensor(tables[layer[3]], dtype=torch.float64) for layer in layers]
        form = JpegFormat(tuple(q.reshape(8, 8) for q in steps), factors, orientation)
    except (InputError, KeyError, RuntimeError):
        whole = False
    return form if whole else "is a JPEG file of a rare sampling"


def _is_rgb(image: Image.Image, layers: Any) -> bool:
    """Whether three components are red, green and blue, as libjpeg decides it."""
    if len(layers) == 1 or "jfif" in image.info:
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
