"""PNG: Pillow reads and writes 8 bits, but cuts 16-bit colour down to 8 without a word.

So 16-bit colour is decoded by OpenCV, and 16 bits are encoded here with the filters of the PNG
specification (third edition, section 9); Pillow writes the chunks around them.
"""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterator
from dataclasses import replace
from typing import IO, Any

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image, PngImagePlugin

from ..errors import InputError
from .exif import metadata_of, oriented
from .pil_io import frame_notes, from_pillow, keyed_alpha, pillow_info, pillow_pixels
from .raster import Array, Metadata, Raster, check_size, fast_deflate, row_strips

__all__ = ["encode_png", "read_png"]

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_COLOUR_CHUNKS = {b"gAMA", b"cHRM", b"sRGB", b"cICP"}
_GREY, _RGB, _GREY_ALPHA, _RGB_ALPHA = 0, 2, 4, 6
_COLOUR_TYPE = {1: _GREY, 2: _GREY_ALPHA, 3: _RGB, 4: _RGB_ALPHA}  # by number of channels
_FILTERS = np.array([1, 2, 4], dtype=np.uint8)  # Sub, Up, Paeth

_Bytes = npt.NDArray[np.uint8]


def read_png(stream: IO[bytes], name: str, max_pixels: int) -> Raster:
    """Decode PNG of any colour type and depth; of an animation, its first picture.

    Raises:
        InputError: No pixels, or more than `max_pixels`.
    """
    depth, colour_type = stream.read(26)[24:]
    stream.seek(len(_SIGNATURE))
    colour = tuple(chunk for chunk in _chunks(stream) if chunk[0] in _COLOUR_CHUNKS)
    stream.seek(0)
    with Image.open(stream, formats=["PNG"]) as image:
        if depth == 16 and colour_type != _GREY:
            raster = _read_deep_colour(image, stream, colour_type, name, max_pixels)
        else:
            key = image.info.get("transparency")
            if depth in (2, 4) and colour_type == _GREY and key is not None:
                image.info["transparency"] = key * 255 // (2**depth - 1)  # as Pillow scales samples
            raster = from_pillow(image, name, max_pixels)
    return replace(raster, metadata=replace(raster.metadata, colour_chunks=colour))


def _read_deep_colour(
    image: Image.Image, stream: IO[bytes], colour_type: int, name: str, max_pixels: int
) -> Raster:
    """16-bit RGB, RGBA or grey with alpha; Pillow checks the stream and finds late chunks."""
    check_size(name, image.height, image.width, max_pixels)
    notes = frame_notes(image)
    image.load()
    metadata, orientation = metadata_of(image)
    stream.seek(0)
    found: Any = cv2.imdecode(np.frombuffer(stream.read(), np.uint8), cv2.IMREAD_UNCHANGED)
    if found is None or found.dtype != np.uint16 or found.shape[:2] != image.size[::-1]:
        raise InputError(f"{name} is a 16-bit PNG that OpenCV cannot decode: save it again.")
    found = oriented(found, orientation)
    pixels = found[..., 0] if colour_type == _GREY_ALPHA else found[..., 2::-1]
    alpha = None if colour_type == _RGB else found[..., 3]
    if colour_type == _RGB and "transparency" in image.info:
        alpha = keyed_alpha(pixels, image.info["transparency"])
    return Raster(
        pixels=np.ascontiguousarray(pixels),
        alpha=None if alpha is None else np.ascontiguousarray(alpha),
        metadata=metadata,
        format="PNG",
        notes=tuple(notes),
    )


def encode_png(raster: Raster) -> bytes:
    """PNG of 8 or 16 bits: grey or RGB, with or without alpha."""
    if raster.pixels.dtype != np.uint16:
        return _saved(pillow_pixels(raster), raster.metadata)
    samples = raster.merged()
    channels = 1 if samples.ndim == 2 else samples.shape[2]
    header = struct.pack(
        ">IIBBBBB", raster.width, raster.height, 16, _COLOUR_TYPE[channels], 0, 0, 0
    )
    around = io.BytesIO(_saved(Image.new("L" if channels < 3 else "RGB", (1, 1)), raster.metadata))
    around.seek(len(_SIGNATURE))
    out = [_SIGNATURE]
    for kind, data in _chunks(around):
        if kind == b"IDAT":
            out.extend(_chunk(b"IDAT", part) for part in _compressed(samples))
        else:
            out.append(_chunk(kind, header if kind == b"IHDR" else data))
    return b"".join(out)


def _saved(image: Image.Image, metadata: Metadata) -> bytes:
    """A Pillow image as PNG with all of the metadata."""
    info = PngImagePlugin.PngInfo()
    for kind, data in metadata.colour_chunks:
        info.add(kind, data)
    for keyword, text in metadata.text.items():
        info.add_text(keyword, text)
    if metadata.comment:
        info.add_text("Comment", metadata.comment)
    if metadata.xmp:
        info.add_itxt("XML:com.adobe.xmp", metadata.xmp)
    known = pillow_info(metadata)
    options = {name: known[name] for name in ("icc_profile", "exif", "dpi") if name in known}
    stream = io.BytesIO()
    image.save(stream, "PNG", pnginfo=info, compress_type=zlib.Z_RLE, **options)
    return stream.getvalue()


def _chunks(stream: IO[bytes]) -> Iterator[tuple[bytes, bytes]]:
    """The chunks from where the stream stands to the end, as (name, content)."""
    while len(head := stream.read(8)) == 8:
        length, kind = struct.unpack(">I4s", head)
        yield kind, stream.read(length)
        stream.seek(4, io.SEEK_CUR)


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _compressed(samples: Array) -> Iterator[bytes]:
    """The content of the IDAT chunks for 16-bit samples (H, W) or (H, W, C)."""
    height, width = samples.shape[:2]
    step = 2 * (samples.size // (height * width))
    above = np.zeros(step * width, dtype=np.uint8)
    deflate = fast_deflate()
    for rows in row_strips(height, width):
        big_endian = np.ascontiguousarray(samples[rows], dtype=">u2")
        strip = big_endian.view(np.uint8).reshape(len(big_endian), -1)
        yield deflate.compress(_filtered(strip, above, step).tobytes())
        above = strip[-1]
    yield deflate.flush()


def _filtered(rows: _Bytes, above: _Bytes, step: int) -> _Bytes:
    """Rows of bytes, each after the filter that leaves the least sum of absolute differences."""
    up = np.vstack([above, rows[:-1]])
    left, corner = (np.pad(lines[:, :-step], ((0, 0), (step, 0))) for lines in (rows, up))
    results = np.stack([rows - left, rows - up, rows - _paeth(left, up, corner)])
    cost = np.abs(results.view(np.int8).astype(np.int16)).sum(axis=2)
    best = cost.argmin(axis=0)
    return np.column_stack([_FILTERS[best], results[best, np.arange(len(rows))]])


def _paeth(left: _Bytes, up: _Bytes, corner: _Bytes) -> _Bytes:
    """Of the three neighbours, the one nearest to left + up - corner; ties in that order."""
    a, b, c = (lines.astype(np.int16) for lines in (left, up, corner))
    to_left, to_up, to_corner = np.abs(b - c), np.abs(a - c), np.abs(a + b - 2 * c)
    first = (to_left <= to_up) & (to_left <= to_corner)
    return np.where(first, left, np.where(to_up <= to_corner, up, corner))
