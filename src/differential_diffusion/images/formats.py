"""What each file format can hold, and what is lost or refused where it cannot."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ..errors import InputError
from .arrays import encode_npy
from .convert import cmyk_to_rgb, requantised
from .pil_io import encode_bmp, encode_gif, encode_jpeg, encode_webp
from .png_io import encode_png
from .raster import Metadata, Raster
from .tiff_io import encode_tiff

__all__ = ["FORMATS", "SUFFIXES", "Format", "LossyOutputWarning", "encode", "format_of"]


class LossyOutputWarning(UserWarning):
    """A file could not hold all of the picture: the message says what was converted or dropped."""


_ALL = frozenset({"grey", "rgb", "cmyk"})


@dataclass(frozen=True)
class Format:
    """A file format to write.

    Attributes:
        suffixes: The names' endings, the usual one first.
        encode: From a raster that fits to the file's content.
        dtypes: Samples that it holds, the most precise last.
        colours: Kinds of colour that it holds.
        exact: Kinds of colour whose samples it keeps bit for bit.
        alpha: Whether it holds alpha.
        metadata: Names of `Metadata`'s fields that it holds.
    """

    suffixes: tuple[str, ...]
    encode: Callable[[Raster], bytes]
    dtypes: tuple[str, ...] = ("uint8",)
    colours: frozenset[str] = frozenset({"grey", "rgb"})
    exact: frozenset[str] = _ALL
    alpha: bool = False
    metadata: frozenset[str] = frozenset()


FORMATS: dict[str, Format] = {
    "PNG": Format(
        (".png",),
        encode_png,
        dtypes=("uint8", "uint16"),
        alpha=True,
        metadata=frozenset({"icc", "exif", "xmp", "comment", "text"}),
    ),
    "TIFF": Format(
        (".tif", ".tiff"),
        encode_tiff,
        dtypes=("uint8", "uint16", "float32", "float64"),
        colours=_ALL,
        alpha=True,
        metadata=frozenset({"icc", "exif", "xmp"}),
    ),
    "JPEG": Format(
        (".jpg", ".jpeg", ".jpe", ".jfif"),
        encode_jpeg,
        colours=_ALL,
        exact=frozenset(),
        metadata=frozenset({"icc", "exif", "xmp", "comment"}),
    ),
    "WebP": Format((".webp",), encode_webp, alpha=True, metadata=frozenset({"icc", "exif", "xmp"})),
    "BMP": Format((".bmp",), encode_bmp),
    "GIF": Format(
        (".gif",), encode_gif, exact=frozenset({"grey"}), metadata=frozenset({"comment"})
    ),
    "NPY": Format(
        (".npy",),
        encode_npy,
        dtypes=("bool", "uint8", "uint16", "float16", "float32", "float64"),
        alpha=True,
    ),
}

SUFFIXES: frozenset[str] = frozenset(
    suffix for form in FORMATS.values() for suffix in form.suffixes
)

_LABELS = {"icc": "ICC profile", "exif": "EXIF", "xmp": "XMP", "comment": "comment", "text": "text"}


def format_of(path: Path) -> str:
    """The format that a file name's suffix stands for.

    Raises:
        InputError: The suffix is none of `SUFFIXES`.
    """
    for name, form in FORMATS.items():
        if path.suffix.lower() in form.suffixes:
            return name
    usual = ", ".join(form.suffixes[0] for form in FORMATS.values())
    raise InputError(f"'{path}' does not say which format to write: end its name in {usual}.")


def encode(raster: Raster, name: str) -> tuple[bytes, list[str]]:
    """The content of a file in the format `name`, and sentences on what it could not hold.

    Raises:
        InputError: The picture has alpha and the format has not.
    """
    form = FORMATS[name]
    losses: list[str] = []
    raster = _with_held_colour(raster, form, name, losses)
    raster = _with_held_samples(raster, form, losses)
    losses += _metadata_losses(raster.metadata, form)
    if raster.colour not in form.exact:
        losses.append("its pixels, kept ones too, are re-encoded")
    return form.encode(raster), losses


def _with_held_colour(raster: Raster, form: Format, name: str, losses: list[str]) -> Raster:
    if raster.alpha is not None and not form.alpha:
        raise InputError(f"{name} cannot hold alpha: save the picture as PNG, TIFF or WebP.")
    if raster.colour in form.colours or raster.colour != "cmyk":
        return raster
    losses.append("CMYK becomes RGB")
    metadata = replace(raster.metadata, icc=None)  # the profile describes inks
    return replace(raster, pixels=cmyk_to_rgb(raster.pixels), metadata=metadata)


def _with_held_samples(raster: Raster, form: Format, losses: list[str]) -> Raster:
    have = raster.pixels.dtype.name
    if have in form.dtypes:
        return raster
    exact = {"bool": "uint8", "float16": "float32"}.get(have)
    target = np.dtype(exact if exact in form.dtypes else form.dtypes[-1])
    if target.name != exact:
        losses.append(f"{have} values are rounded to {8 * target.itemsize} bits")
    alpha = None if raster.alpha is None else requantised(raster.alpha, target)
    return replace(raster, pixels=requantised(raster.pixels, target), alpha=alpha)


def _metadata_losses(metadata: Metadata, form: Format) -> list[str]:
    dropped = [
        label
        for name, label in _LABELS.items()
        if getattr(metadata, name) and name not in form.metadata
    ]
    return [f"there is no place for its {', '.join(dropped)}"] if dropped else []
