"""Pillow images, and the formats that Pillow decodes and encodes in full: JPEG, WebP, BMP, GIF."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from PIL import Image

from ..errors import InputError
from .exif import JPEG_PREFIX, metadata_of, oriented
from .jpeg_io import format_of_jpeg
from .raster import Array, Metadata, Raster, check_samples, check_size

__all__ = [
    "JPEG_QUALITY",
    "PillowOrigin",
    "encode_bmp",
    "encode_gif",
    "encode_jpeg",
    "encode_webp",
    "frame_notes",
    "from_pillow",
    "keyed_alpha",
    "pillow_info",
    "pillow_pixels",
    "read_pillow",
    "to_pillow",
]

JPEG_QUALITY = 95

_DIRECT = {"1", "L", "LA", "RGB", "RGBA", "CMYK", "F", "I;16", "I;16L", "I;16B", "I;16N"}


@dataclass(frozen=True)
class PillowOrigin:
    """The source was a Pillow image."""

    name: str = "the image"
    kind: str = "pil"
    path: Path | None = None

    def restore(self, raster: Raster) -> Image.Image | Array:
        """The picture as a Pillow image."""
        return to_pillow(raster)


def read_pillow(stream: IO[bytes], form: str, name: str, max_pixels: int) -> Raster:
    """Decode a stream of one Pillow format, and nothing else, whatever its name says."""
    with Image.open(stream, formats=[form]) as image:
        return from_pillow(image, name, max_pixels)


def from_pillow(image: Image.Image, name: str, max_pixels: int) -> Raster:
    """A Pillow image's samples and metadata, turned upright.

    Palettes become RGB. A transparent colour becomes alpha. Of an animation, the frame that the
    image stands at is taken, which is the first in a file just opened.

    Raises:
        InputError: A mode that is not read, no pixels, or more than `max_pixels`.
    """
    check_size(name, image.height, image.width, max_pixels)
    notes = frame_notes(image)
    image.load()
    metadata, orientation = metadata_of(image)
    if image.mode in ("P", "PA"):
        notes.append("The palette became RGB.")
        form = image.format
        image = image.convert("RGBA" if image.has_transparency_data else "RGB")
        image.format = form
    pixels, alpha = _samples(image, name)
    check_samples(name, pixels)
    return Raster(
        pixels=oriented(pixels, orientation),
        alpha=None if alpha is None else oriented(alpha, orientation),
        metadata=metadata,
        format="JPEG" if image.format == "MPO" else image.format or "",
        notes=tuple(notes),
        jpeg=format_of_jpeg(image, orientation),
    )


def frame_notes(image: Image.Image) -> list[str]:
    """What to tell of an animation or a file of several pages.

    The further pictures of an MPO file, a camera's JPEG, are previews and depth maps.
    """
    several = image.format != "MPO" and getattr(image, "is_animated", False)
    return ["Only one frame of several was read."] if several else []


def _samples(image: Image.Image, name: str) -> tuple[Array, Array | None]:
    """Colour and alpha of a loaded image that has no palette."""
    if image.mode not in _DIRECT:
        hint = "RGBA" if image.mode in ("La", "RGBa") else "RGB"
        if image.mode == "I":
            hint = "I;16"
        raise InputError(
            f"{name} has Pillow's mode {image.mode!r}, which is not read: "
            f"convert it first, as by image.convert({hint!r})."
        )
    samples = np.asarray(image)
    samples = samples.astype(samples.dtype.newbyteorder("="), copy=False)
    if image.mode in ("LA", "RGBA"):
        colour = samples[..., 0] if image.mode == "LA" else samples[..., :3]
        return np.ascontiguousarray(colour), np.ascontiguousarray(samples[..., -1])
    key = image.info.get("transparency")
    if key is None or image.mode in ("F", "CMYK"):
        return samples, None
    if image.mode == "1":  # white is 255 here, in the key of newer Pillow, and 1 in that of older
        samples, key = samples * np.uint8(255), 255 * bool(key)
    return samples, keyed_alpha(samples, key)


def keyed_alpha(samples: Array, key: Any) -> Array:
    """Alpha in the samples' integer dtype: 0 where a pixel equals the transparent colour `key`."""
    other = samples != np.asarray(key)
    if samples.ndim == 3:
        other = other.any(axis=-1)
    alpha: Array = other.astype(samples.dtype) * samples.dtype.type(np.iinfo(samples.dtype).max)
    return alpha


def to_pillow(raster: Raster) -> Image.Image | Array:
    """The picture as a Pillow image with its metadata in `info`.

    Where Pillow has no mode for it (16-bit or float with more than one channel, and float64), the
    samples as an array (H, W, C) instead, alpha last.
    """
    samples = raster.merged()
    deep = samples.dtype != np.uint8
    if deep and (samples.ndim == 3 or samples.dtype.name not in ("bool", "uint16", "float32")):
        array: Array = samples.copy()
        return array
    image = pillow_pixels(raster)
    image.info.update(pillow_info(raster.metadata))
    return image


def pillow_pixels(raster: Raster) -> Image.Image:
    """The samples as a Pillow image without metadata."""
    if raster.colour == "cmyk":
        height, width = raster.height, raster.width
        return Image.frombytes("CMYK", (width, height), raster.pixels.tobytes())
    return Image.fromarray(raster.merged())


def pillow_info(metadata: Metadata) -> dict[str, Any]:
    """What Pillow keeps in `Image.info` for such a picture, and takes as options of `save`."""
    info = {
        "icc_profile": metadata.icc,
        "exif": JPEG_PREFIX + metadata.exif if metadata.exif else None,
        "xmp": metadata.xmp,
        "comment": metadata.comment,
        "dpi": metadata.dpi,
        **metadata.text,
    }
    return {name: value for name, value in info.items() if value is not None}


def encode_jpeg(raster: Raster) -> bytes:
    """JPEG of quality 95 without chroma subsampling."""
    return _saved(
        raster,
        "JPEG",
        ("icc_profile", "exif", "xmp", "comment", "dpi"),
        quality=JPEG_QUALITY,
        subsampling=0,
    )


def encode_webp(raster: Raster) -> bytes:
    """Lossless WebP, colours under transparent pixels included; grey is stored as RGB."""
    return _saved(raster, "WEBP", ("icc_profile", "exif", "xmp"), lossless=True, exact=True)


def encode_bmp(raster: Raster) -> bytes:
    """BMP with 8 or 24 bits a pixel."""
    return _saved(raster, "BMP", ("dpi",))


def encode_gif(raster: Raster) -> bytes:
    """GIF: exact for grey, at most 256 colours for RGB."""
    return _saved(raster, "GIF", ("comment",))


def _saved(raster: Raster, form: str, holds: tuple[str, ...], **options: Any) -> bytes:
    info = pillow_info(raster.metadata)
    options.update({name: info[name] for name in holds if name in info})
    stream = io.BytesIO()
    pillow_pixels(raster).save(stream, form, **options)
    return stream.getvalue()
