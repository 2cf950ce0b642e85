"""Metadata as Pillow finds it, turned upright: EXIF's and XMP's orientation becomes 1."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from typing import Any

import numpy as np
from PIL import Image

from .raster import Array, Metadata

__all__ = [
    "JPEG_PREFIX",
    "descriptive",
    "descriptive_tags",
    "metadata_of",
    "oriented",
    "resolution",
    "upright_exif",
    "upright_xmp",
]

JPEG_PREFIX = b"Exif\0\0"

_ORIENTATION = 0x0112
_EXIF_IFD, _GPS_IFD = 0x8769, 0x8825
# Tags of TIFF that tell how samples are stored, or hold copies of the picture that an edit makes
# stale (previews, Photoshop's layers), or are kept apart here (ICC profile, XMP).
_STORAGE = frozenset(
    {254, 255, 256, 257, 258, 259, 262, 266, 273, _ORIENTATION, 277, 278, 279, 284, 317, 320}
    | {322, 323, 324, 325, 330, 338, 339, 347, *range(512, 522), *range(529, 533)}
    | {700, 34377, 34675, 37724}
)
_RAW_EXIF = "Raw profile type exif"  # ImageMagick's place for EXIF in PNG, before eXIf existed
_NOT_TEXT = {"XML:com.adobe.xmp", "compression", _RAW_EXIF}


def metadata_of(image: Image.Image) -> tuple[Metadata, int]:
    """Metadata of a loaded Pillow image with its orientation reset, and what it was (1 to 8)."""
    info = image.info
    found = image.getexif()
    orientation = int(found.get(_ORIENTATION, 1))
    xmp = info.get("xmp") or info.get("XML:com.adobe.xmp")
    comment = info.get("comment")
    raw: bytes | None = info.get("exif")
    exif = descriptive(found) if raw is None else re.sub(b"^(Exif\0\0)+", b"", raw)
    metadata = Metadata(
        icc=info.get("icc_profile") or None,
        exif=upright_exif(exif) if exif else None,
        xmp=upright_xmp(xmp.encode() if isinstance(xmp, str) else xmp) if xmp else None,
        comment=comment if isinstance(comment, bytes) and comment else None,
        text={
            key: value
            for key, value in info.items()
            if isinstance(key, str) and isinstance(value, str) and key not in _NOT_TEXT
        },
        dpi=resolution(info.get("dpi")),
    )
    return metadata, orientation if 1 <= orientation <= 8 else 1


def oriented(samples: Array, orientation: int) -> Array:
    """Samples (H, W, ...) as stored to samples as seen (EXIF 2.32, section 4.6.4, orientation)."""
    if orientation >= 5:  # the first stored row is the left or the right column
        samples = np.swapaxes(samples, 0, 1)
    if orientation in (2, 3, 6, 7):
        samples = samples[:, ::-1]
    if orientation in (3, 4, 7, 8):
        samples = samples[::-1]
    return np.ascontiguousarray(samples)


def descriptive_tags(found: Image.Exif) -> Iterator[tuple[int, Any]]:
    """The tags that do not tell how samples are stored; EXIF and GPS directories as dicts."""
    for tag in sorted(found):
        if tag not in _STORAGE:
            yield tag, found.get_ifd(tag) if tag in (_EXIF_IFD, _GPS_IFD) else found[tag]


def descriptive(found: Image.Exif) -> bytes | None:
    """A TIFF file's tags as EXIF, without those that tell how its samples are stored.

    None where there are none, or where they are too damaged to be written again.
    """
    kept = Image.Exif()
    try:
        for tag, value in descriptive_tags(found):
            kept[tag] = value
        return kept.tobytes().removeprefix(JPEG_PREFIX) if len(kept) else None
    except (struct.error, TypeError, ValueError, OverflowError, ZeroDivisionError):
        return None


def upright_exif(exif: bytes) -> bytes:
    """The same bytes with the orientation tag of the first directory, if any, set to 1."""
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(exif[:4])
    if order is None or len(exif) < 10:
        return exif
    (start,) = struct.unpack_from(order + "I", exif, 4)
    if start + 2 > len(exif):
        return exif
    (count,) = struct.unpack_from(order + "H", exif, start)
    for entry in range(start + 2, min(start + 2 + 12 * count, len(exif) - 11), 12):
        tag, kind = struct.unpack_from(order + "HH", exif, entry)
        if tag == _ORIENTATION:
            one = struct.pack(order + {1: "B", 4: "I"}.get(kind, "H"), 1).ljust(4, b"\0")
            return exif[: entry + 8] + one + exif[entry + 12 :]
    return exif


def upright_xmp(xmp: bytes) -> bytes:
    """The same packet with `tiff:Orientation`, if any, set to 1."""
    return re.sub(rb"""(tiff:Orientation(?:=["']|>))\d""", rb"\g<1>1", xmp)


def resolution(dpi: Any) -> tuple[float, float] | None:
    """The resolution, if it is one: files without say 0 or 1."""
    try:
        across, down = (float(value) for value in dpi)
    except (TypeError, ValueError, ZeroDivisionError):
        return None
    return (across, down) if min(across, down) > 1 and max(across, down) < 1e6 else None
