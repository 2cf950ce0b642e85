"""Training pictures from a source, decoded once and kept in memory."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, Literal, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError
from PIL.TiffImagePlugin import TiffImageFile

from ..errors import InputError, on_one_line
from .sources import SUFFIXES, Found, find_pictures, is_archive

Labels = Literal["none", "folders", "source"]

_PNG_BITS = 24  # its place in the file
_TIFF_BITS, _TIFF_PLANES = 258, 284  # tags
_NUMPY, _TIFF = b"\x93NUMPY", (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


class NamedImage(NamedTuple):
    """A picture and the name it has in its folder or archive.

    Attributes:
        name: its path in the source.
        pixels: (H,W,C), uint8 or uint16 over their whole range, or float32 in [0,1].
        label: its class, if classes were asked for.
        shape: that of the picture as it was read, where it was prepared.
        checksum: of its pixels as they were read.
    """

    name: str
    pixels: NDArray[Any]
    label: str | None = None
    shape: tuple[int, ...] = ()
    checksum: str = ""


@dataclass
class ImageCollection:
    """Decoded pictures, with the names of those that were left out and why."""

    images: list[NamedImage]
    skipped: dict[str, str] = field(default_factory=dict)

    def split(self, validation: float) -> tuple[list[NamedImage], list[NamedImage]]:
        """Training and validation pictures by the hashes of their names.

        Membership depends on names alone, so it stays when the order or the seed changes; that of a
        share also when pictures are added or removed.

        Args:
            validation: how many, those with the smallest hashes; or, below 1, the share of all
                hashes that is held out, which is about that share of the pictures.

        Raises:
            InputError: if no training picture would be left, or a share holds out none.
        """
        ranked = sorted(self.images, key=_rank)
        share = 0 < validation < 1
        limit = validation * 2.0**256
        held_out = sum(_rank(i) < limit for i in ranked) if share else int(validation)
        if held_out >= len(ranked):
            raise InputError(
                f"the validation set wants {held_out} of {len(ranked)} usable pictures: "
                "lower data.validation or add pictures"
            )
        if share and not held_out:
            raise InputError(
                f"the share {validation} holds out none of {len(ranked)} usable pictures: "
                "raise data.validation or add pictures"
            )
        return ranked[held_out:], ranked[:held_out]


def _rank(image: NamedImage) -> int:
    """The hash of its name as a number of 256 bits."""
    return int.from_bytes(hashlib.sha256(image.name.encode()).digest(), "big")


def load_images(
    source: str | Path,
    *,
    min_size: int = 1,
    max_skipped: float = 0.1,
    channels: int = 3,
    labels: Labels = "none",
    split: str = "train",
    prepare: Callable[[NDArray[Any]], NDArray[Any]] | None = None,
) -> ImageCollection:
    """Decode every picture of a source.

    Args:
        source: see `find_pictures`.
        min_size: pictures with a side under this many pixels are left out.
        max_skipped: largest share of unreadable files to put up with.
        channels: 3 for colour, 1 for grey, others for TIFF and .npy files with as many.
        labels: where the class of a picture stands: in the name of its folder, or beside it in a
            shard or a set.
        split: of a set that has several.
        prepare: makes of each picture, once it is read, what is kept of it.

    Raises:
        InputError: if the source does not exist, holds no picture, too many are unreadable, or
            some have no class.
    """
    collection = ImageCollection([])
    unreadable = total = 0
    for found in find_pictures(source, split):
        total += 1
        pixels = decode_or_reason(found, channels)
        if isinstance(pixels, str):
            collection.skipped[found.name] = f"unreadable: {pixels}"
            unreadable += 1
            continue
        if min(pixels.shape[:2]) < min_size:
            collection.skipped[found.name] = (
                f"{pixels.shape[1]}x{pixels.shape[0]} is smaller than {min_size} pixels"
            )
            continue
        label = _label(found, labels, source)
        kept = pixels if prepare is None else prepare(pixels)
        checksum = hashlib.blake2b(np.ascontiguousarray(pixels).data, digest_size=16).hexdigest()
        collection.images.append(NamedImage(found.name, kept, label, pixels.shape, checksum))
    if unreadable > max_skipped * total:
        first = next(name for name, why in collection.skipped.items() if "unreadable" in why)
        why = collection.skipped[first].removeprefix("unreadable: ")
        raise InputError(
            f"{unreadable} of {total} pictures in '{source}' cannot be read (the first is "
            f"'{first}': {why}): mend or remove them"
        )
    if not collection.images:
        raise InputError(
            f"'{source}' holds no usable picture ({total} found): give a folder or tar of "
            f"{', '.join(sorted(SUFFIXES))} files of at least {min_size} pixels a side"
        )
    return collection


def decode_or_reason(found: Found, channels: int = 3) -> NDArray[Any] | str:
    """The pixels of a picture, or why it cannot be read."""
    if found.unread:
        return found.unread
    try:
        return decode(found, channels)
    except Exception as error:  # decoders raise a dozen kinds for damaged files
        return on_one_line(str(error)).rstrip(".") or type(error).__name__


def decode(found: Found, channels: int = 3) -> NDArray[Any]:
    """The pixels of a picture, (H,W,channels); see `NamedImage`.

    Raises:
        ValueError: if it is none, or has another number of channels that cannot be made of them;
            and what Pillow, tifffile and NumPy raise for damaged files.
    """
    data = found.data
    if data.startswith(_NUMPY):
        return _of_array(np.load(io.BytesIO(data), allow_pickle=False), channels)
    try:
        with Image.open(io.BytesIO(data)) as opened:
            if (channels in (1, 3) or opened.format == "PNG") and _is_deep(opened, data):
                return _of_array(_of_deep(opened, data), channels)
            if channels in (1, 3) and opened.mode != "F":
                return _of_pillow(ImageOps.exif_transpose(opened), channels)
            if not data.startswith(_TIFF):
                return _of_array(np.asarray(ImageOps.exif_transpose(opened)), channels)
    except UnidentifiedImageError:  # such as TIFF of several channels of 16 bits
        if not data.startswith(_TIFF):
            raise ValueError("it is no picture, or its beginning is damaged") from None
    return _of_array(_of_tiff(data, channels), channels)


def _is_deep(image: Image.Image, data: bytes) -> bool:
    """Whether a PNG or TIFF has colour of 16 bits, of which Pillow would keep 8."""
    if image.mode not in ("RGB", "RGBA", "RGBX", "RGBa", "LA"):
        return False
    if image.format == "PNG":
        return data[_PNG_BITS] == 16
    return isinstance(image, TiffImageFile) and 16 in image.tag_v2.get(_TIFF_BITS, ())


def _of_deep(image: Image.Image, data: bytes) -> NDArray[Any]:
    """Such colour, the right way up."""
    if isinstance(image, TiffImageFile) and image.tag_v2.get(_TIFF_PLANES) == 2:
        return _upright(_of_tiff(data, len(image.tag_v2[_TIFF_BITS])), image)
    found = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if found is None:
        raise ValueError("colour of 16 bits that OpenCV cannot read")
    colours = found[..., [2, 1, 0, 3][: found.shape[2]]]
    # OpenCV has turned TIFF already.
    return colours if isinstance(image, TiffImageFile) else _upright(colours, image)


def _upright(array: NDArray[Any], image: Image.Image) -> NDArray[Any]:
    """An array (H,W,C) of 16 bits turned as the EXIF of its file says."""
    planes = []
    for channel in np.moveaxis(array, -1, 0):
        plane = Image.fromarray(np.ascontiguousarray(channel))
        plane.getexif().update(image.getexif())
        planes.append(np.asarray(ImageOps.exif_transpose(plane)))
    return np.stack(planes, axis=-1)


def _of_tiff(data: bytes, channels: int) -> NDArray[Any]:
    import tifffile

    array: NDArray[Any] = tifffile.imread(io.BytesIO(data))
    if array.ndim == 3 and array.shape[0] == channels != array.shape[2]:
        array = np.moveaxis(array, 0, -1)  # planes, one for each channel
    return array


def _of_array(array: NDArray[Any], channels: int) -> NDArray[Any]:
    """An array as pixels."""
    array = array.astype(array.dtype.newbyteorder("="), copy=False)
    array = array[..., None] if array.ndim == 2 else array
    if array.ndim != 3:
        raise ValueError(f"an array of the shape {array.shape} is no picture")
    if array.shape[2] == 4 and channels in (1, 3):
        array = array[..., :3]
    if array.shape[2] == 1 and channels == 3:
        array = array.repeat(3, axis=2)
    if array.shape[2] == 3 and channels == 1:
        array = (array @ np.array([0.299, 0.587, 0.114])).astype(array.dtype)[..., None]
    if array.shape[2] != channels:
        raise ValueError(f"it has {array.shape[2]} channels, not {channels}")
    if array.dtype in (np.uint8, np.uint16):
        return array
    if array.dtype.kind != "f":
        raise ValueError(f"numbers of the type {array.dtype} have no range")
    array = array.astype(np.float32)
    if not np.isfinite(array).all() or array.min() < 0 or array.max() > 1:
        raise ValueError("floating-point values beyond [0, 1]")
    return array


def _of_pillow(image: Image.Image, channels: int) -> NDArray[Any]:
    """RGB or grey of 8 bits, or 16-bit grey, which Pillow would clip to white in colour."""
    if image.mode.startswith("I"):
        grey = np.asarray(image)
        if grey.min() < 0 or grey.max() > 65535:
            raise ValueError("integers beyond 16 bits")
        return np.repeat(grey.astype(np.uint16)[..., None], channels, axis=2)
    if image.mode == "F":
        raise ValueError("floating-point values")
    pixels = np.asarray(image.convert("L" if channels == 1 else "RGB"))
    return pixels[..., None] if channels == 1 else pixels


def _label(found: Found, labels: Labels, source: str | Path) -> str | None:
    if labels == "none":
        return None
    folder = PurePosixPath(found.name).parent.name
    label = found.label if labels == "source" else "" if is_archive(folder) else folder
    if not label:
        where = "beside it" if labels == "source" else "in a folder of its own"
        raise InputError(
            f"'{found.name}' in '{source}' has no class {where}: put it there, or set "
            "data.labels to none"
        )
    return label
