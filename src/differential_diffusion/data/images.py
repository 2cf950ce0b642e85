"""Training pictures from a folder or a tar archive, decoded once and kept in memory."""

from __future__ import annotations

import hashlib
import io
import struct
import tarfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from ..errors import InputError

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff"})


_UNREADABLE = (
    Image.DecompressionBombError,
    EOFError,
    OSError,
    SyntaxError,
    ValueError,
    struct.error,
    zlib.error,
)


class NamedImage(NamedTuple):
    """A picture and the name it has in its folder or archive; pixels (H,W,3) uint8."""

    name: str
    pixels: NDArray[np.uint8]


@dataclass
class ImageCollection:
    """Decoded pictures, with the names of those that were left out and why."""

    images: list[NamedImage]
    skipped: dict[str, str] = field(default_factory=dict)

    def split(self, validation: int) -> tuple[list[NamedImage], list[NamedImage]]:
        """Training and validation pictures: the `validation` smallest hashes of the names.

        Membership depends on names alone, so it stays when the order or the seed changes.

        Raises:
            InputError: if no training picture would be left.
        """
        if validation >= len(self.images):
            raise InputError(
                f"the validation set wants {validation} of {len(self.images)} usable pictures: "
                "lower data.validation or add pictures"
            )
        ranked = sorted(self.images, key=lambda image: hashlib.sha256(image.name.encode()).digest())
        return ranked[validation:], ranked[:validation]


def load_images(
    source: str | Path, *, min_size: int = 1, max_skipped: float = 0.1
) -> ImageCollection:
    """Decode every picture below a folder or inside a tar archive to RGB uint8.

    Args:
        source: a folder (searched recursively) or a .tar, .tar.gz or .tgz file.
        min_size: pictures with a side under this many pixels are left out.
        max_skipped: largest share of unreadable files to put up with.

    Raises:
        InputError: if the source does not exist, holds no picture, or too many are unreadable.
    """
    source = Path(source)
    collection = ImageCollection([])
    unreadable = 0
    for name, data in _files(source):
        try:
            with Image.open(io.BytesIO(data)) as opened:
                pixels = _rgb8(ImageOps.exif_transpose(opened))
        except _UNREADABLE as error:
            collection.skipped[name] = f"unreadable: {error}"
            unreadable += 1
            continue
        if min(pixels.shape[:2]) < min_size:
            collection.skipped[name] = (
                f"{pixels.shape[1]}x{pixels.shape[0]} is smaller than {min_size} pixels"
            )
            continue
        collection.images.append(NamedImage(name, pixels))
    total = len(collection.images) + len(collection.skipped)
    if not collection.images:
        raise InputError(
            f"'{source}' holds no usable picture ({total} found): give a folder or tar of "
            f"{', '.join(sorted(SUFFIXES))} files of at least {min_size} pixels a side"
        )
    if unreadable > max_skipped * total:
        first = next(name for name, why in collection.skipped.items() if "unreadable" in why)
        raise InputError(
            f"{unreadable} of {total} pictures in '{source}' cannot be read (the first is "
            f"'{first}'): mend or remove them"
        )
    return collection


def _rgb8(image: Image.Image) -> NDArray[np.uint8]:
    """8-bit RGB; 16-bit grey is scaled, where Pillow would clip it to white."""
    if image.mode.startswith("I"):
        grey = np.asarray(image)
        if grey.min() < 0 or grey.max() > 65535:
            raise ValueError("integers beyond 16 bits")
        return np.repeat(np.rint(grey / 257).astype(np.uint8)[..., None], 3, axis=2)
    if image.mode == "F":
        raise ValueError("floating-point values")
    return np.asarray(image.convert("RGB"))


def _files(source: Path) -> Iterator[tuple[str, bytes]]:
    if source.is_dir():
        for path in sorted(source.rglob("*")):
            if path.suffix.lower() in SUFFIXES and path.is_file():
                yield path.relative_to(source).as_posix(), path.read_bytes()
        return
    if not source.exists():
        raise InputError(f"'{source}' does not exist: give a folder or a tar file of pictures")
    try:
        with tarfile.open(source) as archive:
            for member in archive:
                if member.isfile() and Path(member.name).suffix.lower() in SUFFIXES:
                    handle = archive.extractfile(member)
                    if handle is not None:
                        yield member.name, handle.read()
    except (tarfile.TarError, EOFError, OSError, zlib.error):
        raise InputError(
            f"'{source}' is neither a folder nor a whole tar file: give one of these"
        ) from None
