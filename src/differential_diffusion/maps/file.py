"""A map painted in another program: an image file's grey levels."""

from __future__ import annotations

import os
import struct
import warnings
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from ..errors import InputError
from . import _check
from .strength import StrengthMap

__all__ = ["from_file", "from_image"]

_LUMA = np.array([0.299, 0.587, 0.114], np.float32)
_UNREADABLE = (OSError, SyntaxError, ValueError, EOFError, struct.error, zlib.error)


def from_file(path: str | os.PathLike[str], *, invert: bool = False) -> StrengthMap:
    """The grey levels of an image file: black keeps a pixel, white lets it change completely.

    Args:
        path: an image file, see `from_image`; EXIF orientation is applied.
        invert: read white as keep, as in the files of Levin and Fried, "Differential Diffusion:
            Giving Each Pixel Its Strength" (2023).

    Raises:
        InputError: no file there, no image in it, or an image that is not one of strengths.
    """
    if not isinstance(path, str | os.PathLike):
        raise InputError(f"path is {path!r}: give the path of an image file.")
    path = Path(path).expanduser()
    invert = _check.flag("invert", invert)
    if not path.is_file():
        raise InputError(f"'{path}' is no file: give the path of a strength map.")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(path) as opened:
                image = ImageOps.exif_transpose(opened)
                image.load()
    except Image.DecompressionBombError:
        raise InputError(f"'{path}' is too large for a strength map: make it smaller.") from None
    except _UNREADABLE as error:
        reason = " ".join(str(error).split()).rstrip(".")
        raise InputError(
            f"'{path}' cannot be read as an image ({reason}): save it again as a PNG."
        ) from None
    made = from_image(image, name=f"'{path}'")
    return made.invert() if invert else made


def from_image(image: Image.Image, *, name: str = "the strength map") -> StrengthMap:
    """The grey levels of a PIL image, with the full range of its type as 0 to 1.

    Grey of 1, 8 or 16 bits and floats in [0, 1] are taken as they are; colour counts by its luma
    (0.299, 0.587, 0.114). Transparency says nothing about strength, so it is refused.

    Raises:
        InputError: transparent pixels, 32-bit integers beyond 16 bits, or floats out of range.
    """
    return StrengthMap(_grey(image, name))


def _grey(image: Image.Image, name: str) -> NDArray[Any]:
    mode = image.mode
    if mode == "1":
        return np.asarray(image, bool)
    if mode.startswith("I"):
        return _integers(np.asarray(image), name)
    if mode == "F":
        return np.asarray(image, np.float32)
    if mode == "L" and "transparency" not in image.info:
        return np.asarray(image, np.float32) / 255
    if image.has_transparency_data:
        image = image.convert("RGBA")
        if np.asarray(image.getchannel("A")).min() < 255:
            raise InputError(
                f"{name} has transparent pixels, which say nothing about strength: flatten it."
            )
    colour = np.asarray(image.convert("RGB"), np.float32)
    return np.clip(colour @ _LUMA / 255, 0, 1)


def _integers(values: NDArray[Any], name: str) -> NDArray[Any]:
    if values.min() < 0 or values.max() > 65535:
        raise InputError(
            f"{name} holds 32-bit integers up to {values.max()}: save it with 8 or 16 bits."
        )
    return values.astype(np.float32) / 65535
