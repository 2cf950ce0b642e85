"""A map painted in another program: an image file's grey levels."""

from __future__ import annotations

import os

from PIL import Image

from ..errors import InputError
from ..images import Picture, read
from . import _check
from .strength import StrengthMap

__all__ = ["from_file", "from_image"]


def from_file(path: str | os.PathLike[str], *, invert: bool = False) -> StrengthMap:
    """The grey levels of an image file: black keeps a pixel, white lets it change completely.

    Args:
        path: an image file or an .npy array, see `images.read` and `from_image`; EXIF orientation
            is applied.
        invert: read white as keep, as in the files of Levin and Fried, "Differential Diffusion:
            Giving Each Pixel Its Strength" (2023).

    Raises:
        InputError: no file there, no image in it, or an image that is not one of strengths.
    """
    if not isinstance(path, str | os.PathLike):
        raise InputError(f"path is {path!r}: give the path of an image file.")
    invert = _check.flag("invert", invert)
    made = _strengths(read(path))
    return made.invert() if invert else made


def from_image(image: Image.Image) -> StrengthMap:
    """The grey levels of a PIL image, with the full range of its type as 0 to 1.

    Samples of 1, 8 or 16 bits and floats in [0, 1] are taken in full; colour counts by its luma
    (0.299, 0.587, 0.114). Transparency says nothing about strength, so it is refused.

    Raises:
        InputError: transparent pixels, or samples that `images.read` refuses.
    """
    return _strengths(read(image))


def _strengths(picture: Picture) -> StrengthMap:
    if picture.is_transparent:
        raise InputError(
            f"{picture.origin.name} has transparent pixels, which say nothing about strength: "
            "flatten it."
        )
    return StrengthMap(picture.luminance())
