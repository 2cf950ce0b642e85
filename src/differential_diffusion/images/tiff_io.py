"""TIFF: 8 and 16 bits and floats, read by tifffile, Pillow or OpenCV, and written here.

tifffile decodes plain and deflated samples; Pillow decodes the other kinds of 8 bits (palettes,
bilevel, JPEG, LZW), and OpenCV the other kinds of 16 bits and floats. No one of them writes 16-bit
colour together with its EXIF directories, so the writer is here: deflated strips with horizontal
differences (TIFF 6.0, sections 8 and 14), below tags that Pillow lays out.
"""

from __future__ import annotations

import io
import logging
import os
from typing import IO, Any

import cv2
import numpy as np
import tifffile
from PIL import Image
from PIL.TiffImagePlugin import ImageFileDirectory_v2

from ..errors import InputError
from .exif import descriptive, descriptive_tags, oriented, resolution, upright_exif, upright_xmp
from .pil_io import read_pillow
from .raster import (
    Array,
    Metadata,
    Raster,
    check_samples,
    check_size,
    fast_deflate,
    peak_of,
    row_strips,
)

__all__ = ["encode_tiff", "read_tiff"]

# One exception tells of a damaged file; tifffile's log would repeat it on the console.
logging.getLogger("tifffile").addHandler(logging.NullHandler())

_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB, _SEPARATED = 0, 1, 2, 5
_COLOUR_SAMPLES = {_WHITE_IS_ZERO: 1, _BLACK_IS_ZERO: 1, _RGB: 3, _SEPARATED: 4}
_PHOTOMETRIC = {"grey": _BLACK_IS_ZERO, "rgb": _RGB, "cmyk": _SEPARATED}
_PREMULTIPLIED, _STRAIGHT = 1, 2
_SHORT, _LONG = 3, 4


def read_tiff(stream: IO[bytes], name: str, max_pixels: int) -> Raster:
    """Decode the first page of a TIFF file; a sample after the colours is alpha.

    Raises:
        InputError: A kind of TIFF that is not read, no pixels, or more than `max_pixels`.
    """
    with tifffile.TiffFile(stream) as tiff:
        page: Any = tiff.pages[0]
        check_size(name, page.imagelength, page.imagewidth, max_pixels)
        if page.is_reduced:
            raise InputError(
                f"{name} begins with a preview, as raw camera files do: develop it to a plain TIFF."
            )
        samples = _decoded(page, stream, name)
        if samples is None:
            stream.seek(0)
            return read_pillow(stream, "TIFF", name, max_pixels)
        notes = ["Only one frame of several was read."] if len(tiff.pages) > 1 else []
        tags = Image.Exif()
        tags.endian, tags.bigtiff = tiff.byteorder, tiff.is_bigtiff
        tags.load_from_fp(stream, page.offset)
        return _assembled(samples, page, tags, name, notes)


def _decoded(page: Any, stream: IO[bytes], name: str) -> Array | None:
    """Samples (H, W, S) as stored, or None where Pillow is to decode the file."""
    shallow = page.bitspersample < 8 or page.dtype in (np.bool_, np.uint8)
    if page.photometric not in _COLOUR_SAMPLES or page.bitspersample < 8:
        if shallow:
            return None
        raise InputError(
            f"{name} is a TIFF with {page.bitspersample} bits and photometric interpretation "
            f"{page.photometric}, which is not read: save it as RGB."
        )
    if page.dtype is None:
        raise InputError(f"{name} is a TIFF with samples of an unknown type: save it as RGB.")
    check_samples(name, np.empty(0, page.dtype))
    size = stream.seek(0, os.SEEK_END)
    if any(a + n > size for a, n in zip(page.dataoffsets, page.databytecounts, strict=False)):
        raise InputError(f"{name} is truncated: its samples end before the picture does.")
    try:
        samples = page.asarray()
    except ValueError as error:
        if "imagecodecs" not in str(error):
            raise
        return None if shallow else _decoded_by_opencv(page, stream, name)
    height, width, count = page.imagelength, page.imagewidth, page.samplesperpixel
    if page.planarconfig == 2 and count > 1:
        samples = np.moveaxis(samples.reshape(count, height, width), 0, -1)
    return np.asarray(samples.reshape(height, width, count))


def _decoded_by_opencv(page: Any, stream: IO[bytes], name: str) -> Array:
    """Samples (H, W, S) as stored, whose compression tifffile leaves to the imagecodecs package."""
    stream.seek(0)
    data = upright_exif(stream.read())  # a TIFF file has EXIF's structure; OpenCV would turn it
    found: Any = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    shape = (page.imagelength, page.imagewidth, page.samplesperpixel)
    plain = page.photometric in (_BLACK_IS_ZERO, _RGB) and not page.parent.is_bigtiff
    if not plain or found is None or found.dtype != page.dtype or found.size != np.prod(shape):
        raise InputError(
            f"{name} is a TIFF whose compression ({page.compression.name}) cannot be read for this "
            "kind of picture: install imagecodecs, or save it uncompressed."
        )
    samples = found.reshape(shape)
    return np.asarray(samples[..., [2, 1, 0, 3][: shape[2]]] if shape[2] > 2 else samples)


def _assembled(samples: Array, page: Any, tags: Image.Exif, name: str, notes: list[str]) -> Raster:
    """Samples (H, W, S) as stored and the tags to a raster, turned upright."""
    samples = samples.astype(samples.dtype.newbyteorder("="), copy=False)
    check_samples(name, samples)
    colours, count = _COLOUR_SAMPLES[page.photometric], samples.shape[2]
    if count < colours or (page.photometric == _SEPARATED and count > colours):
        raise InputError(f"{name} is a TIFF with {count} channels, which is not read: use RGB.")
    pixels = samples[..., 0] if colours == 1 else samples[..., :colours]
    alpha = samples[..., colours] if count > colours else None
    if count > colours + 1:
        notes.append(f"{count - colours - 1} channels beside colour and alpha were dropped.")
    if page.photometric == _WHITE_IS_ZERO:
        pixels = (peak_of(pixels.dtype) - pixels).astype(pixels.dtype)
    if alpha is not None and page.extrasamples and page.extrasamples[0] == _PREMULTIPLIED:
        notes.append("Colours that were multiplied by alpha were divided by it.")
        pixels = _divided(pixels, alpha)
    orientation = int(tags.get(0x0112, 1))
    return Raster(
        pixels=oriented(pixels, orientation),
        alpha=None if alpha is None else oriented(alpha, orientation),
        metadata=_metadata(tags),
        format="TIFF",
        notes=tuple(notes),
    )


def _divided(pixels: Array, alpha: Array) -> Array:
    """Colours freed of their multiplication by alpha; where alpha is 0 they stay."""
    out: Array = pixels.copy()
    peak = peak_of(pixels.dtype)
    for rows in row_strips(alpha.shape[0], alpha.shape[1]):
        part = alpha[rows] if pixels.ndim == 2 else alpha[rows][..., None]
        scale = np.divide(peak, part, dtype=np.float64, where=part > 0, out=np.ones(part.shape))
        straight = np.minimum(out[rows] * scale, peak)
        out[rows] = straight if out.dtype.kind == "f" else np.rint(straight)
    return out


def _metadata(tags: Image.Exif) -> Metadata:
    exif, icc, xmp = descriptive(tags), tags.get(34675), tags.get(700)
    per_inch = 2.54 if tags.get(296) == 3 else 1.0
    across, down = (tags.get(tag) for tag in (282, 283))
    dpi = resolution((across, down))
    return Metadata(
        exif=exif,
        icc=icc if isinstance(icc, bytes) and icc else None,
        xmp=upright_xmp(xmp) if isinstance(xmp, bytes) and xmp else None,
        dpi=None if dpi is None else (dpi[0] * per_inch, dpi[1] * per_inch),
    )


def encode_tiff(raster: Raster) -> bytes:
    """TIFF with deflated strips: grey, RGB or CMYK, any depth of this package but bool."""
    samples = raster.merged()
    samples = samples.reshape(*samples.shape[:2], -1)
    little = samples.dtype.newbyteorder("<")
    count, bits = samples.shape[2], 8 * samples.dtype.itemsize
    integers = samples.dtype.kind == "u"
    strips = []
    rows = next(row_strips(raster.height, raster.width))
    for strip in row_strips(raster.height, raster.width):
        values = np.array(samples[strip], dtype=little, order="C")
        if integers:
            values[:, 1:] = values[:, 1:] - values[:, :-1]
        deflate = fast_deflate()
        strips.append(deflate.compress(values.tobytes()) + deflate.flush())
    tags = {
        **_descriptive(raster.metadata),
        256: raster.width,
        257: raster.height,
        258: (bits,) * count,
        259: 8,  # deflate
        262: _PHOTOMETRIC[raster.colour],
        273: tuple(np.cumsum([0, *map(len, strips[:-1])]).tolist()),
        277: count,
        278: rows.stop,
        279: tuple(map(len, strips)),
        284: 1,  # samples of a pixel together
        317: 2 if integers else 1,
        339: (1 if integers else 3,) * count,
    }
    if raster.alpha is not None:
        tags[338] = _STRAIGHT
    return _file(tags, strips)


def _descriptive(metadata: Metadata) -> dict[int, Any]:
    """Metadata as tags of TIFF."""
    tags: dict[int, Any] = {}
    if metadata.exif:
        exif = Image.Exif()
        exif.load(metadata.exif)
        tags.update(descriptive_tags(exif))
    if metadata.dpi:
        tags.update({282: metadata.dpi[0], 283: metadata.dpi[1], 296: 2})
    tags.update({700: metadata.xmp} if metadata.xmp else {})
    tags.update({34675: metadata.icc} if metadata.icc else {})
    return tags


def _file(tags: dict[int, Any], strips: list[bytes]) -> bytes:
    directory = ImageFileDirectory_v2()
    for tag, value in tags.items():
        directory[tag] = value
        if tag in (273, 279):
            directory.tagtype[tag] = _LONG
    stream = io.BytesIO()
    directory.save(stream)  # adds its own end to the strips' offsets
    stream.writelines(strips)
    return stream.getvalue()
