"""`read`: from whatever stands for a picture to a `Picture`."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import fields
from functools import partial
from pathlib import Path
from typing import IO, Any

import numpy as np
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from ..errors import InputError
from .arrays import NumpyOrigin, TensorOrigin, from_numpy, from_tensor, read_npy
from .picture import FileOrigin, Origin, Picture
from .pil_io import PillowOrigin, from_pillow, read_pillow
from .png_io import read_png
from .raster import Raster
from .tiff_io import read_tiff

__all__ = ["MAX_PIXELS", "Source", "read"]

MAX_PIXELS = 200_000_000

Source = str | os.PathLike[str] | Image.Image | np.ndarray[Any, Any] | Tensor | Picture

_Decoder = Callable[[IO[bytes], str, int], Raster]


def _pillow(form: str) -> _Decoder:
    return lambda stream, name, max_pixels: read_pillow(stream, form, name, max_pixels)


# What a file begins with, and who decodes it. Its name does not matter.
_DECODERS: dict[bytes, _Decoder] = {
    b"\x89PNG\r\n\x1a\n": read_png,
    b"\xff\xd8\xff": _pillow("JPEG"),
    b"II*\0": read_tiff,
    b"MM\0*": read_tiff,
    b"II+\0": read_tiff,
    b"MM\0+": read_tiff,
    b"RIFF": _pillow("WEBP"),
    b"GIF8": _pillow("GIF"),
    b"BM": _pillow("BMP"),
    b"\x93NUMPY": read_npy,
}


def read(source: Source, *, max_pixels: int = MAX_PIXELS) -> Picture:
    """The picture that a path, Pillow image, numpy array or tensor holds.

    Files: PNG, JPEG, TIFF, WebP, BMP, GIF (first frame) and .npy, told by their content. Bilevel,
    grey, palette, RGB, CMYK and alpha are read; 8 bits, and 16 bits and floats where the format
    has them. EXIF's orientation is applied and reset. Palettes become RGB, which `notes` tells.

    numpy arrays are (H, W) or (H, W, C), tensors (H, W), (C, H, W) or (1, C, H, W), where C is 1
    grey, 2 grey and alpha, 3 RGB, 4 RGB and alpha. Values are bool, uint8, uint16 (not tensors),
    or floats in [0, 1]. They are not copied, so do not write to them while the picture is in use.

    Nothing is unpickled. A `Picture` is returned as it is.

    Args:
        source: The path, image, array or tensor.
        max_pixels: Refuse pictures with more pixels, before decoding. Pillow refuses files with
            more than twice `PIL.Image.MAX_IMAGE_PIXELS` too.

    Raises:
        InputError: The file is missing, unreadable, damaged or of another kind; or the picture is
            empty, too large, of a mode, dtype or shape that is not read, or out of range.
    """
    if isinstance(source, Picture):
        return source
    if isinstance(source, (str, os.PathLike)):
        path = Path(source).expanduser()
        return _picture(_read_file(path, max_pixels), FileOrigin(path))
    if isinstance(source, Image.Image):
        image = PillowOrigin()
        decode = partial(from_pillow, source, image.name, max_pixels)
        return _picture(_decoded(decode, image.name), image)
    if isinstance(source, np.ndarray):
        array = NumpyOrigin(source.shape, source.dtype)
        return _picture(from_numpy(source, array.name, max_pixels), array)
    if isinstance(source, Tensor):
        tensor = TensorOrigin(tuple(source.shape), source.dtype, source.device)
        return _picture(from_tensor(source, tensor.name, max_pixels), tensor)
    raise InputError(
        f"a {type(source).__name__} is no picture: "
        "give a path, a Pillow image, a numpy array or a tensor."
    )


def _picture(raster: Raster, origin: Origin) -> Picture:
    return Picture(origin=origin, **{f.name: getattr(raster, f.name) for f in fields(Raster)})


def _read_file(path: Path, max_pixels: int) -> Raster:
    name = f"'{path}'"
    try:
        if path.is_dir():
            raise InputError(f"{name} is a folder: give an image file in it.")
        if not path.exists():
            raise InputError(f"{name} does not exist: give the path of an image file.")
        if not path.is_file():
            raise InputError(f"{name} is a device or a pipe: give an image file.")
        stream = path.open("rb")
    except OSError as error:
        raise InputError(
            f"{name} cannot be read ({error.strerror or error}): check its name and permissions."
        ) from error
    with stream:
        head = stream.read(16)
        stream.seek(0)
        if not head:
            raise InputError(f"{name} is empty: give an image file.")
        for signature, decoder in _DECODERS.items():
            if head.startswith(signature):
                return _decoded(partial(decoder, stream, name, max_pixels), name)
    raise InputError(f"{name} is no PNG, JPEG, TIFF, WebP, BMP, GIF or .npy file: convert it.")


def _decoded(decode: Callable[[], Raster], name: str) -> Raster:
    """What `decode` gives; whatever damaged bytes make it raise becomes an InputError."""
    try:
        return decode()
    except InputError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise InputError(
            f"{name} has more pixels than Pillow allows: "
            "shrink it, or raise PIL.Image.MAX_IMAGE_PIXELS if you trust its source."
        ) from error
    except MemoryError as error:
        raise InputError(f"{name} does not fit into memory: shrink it.") from error
    except Exception as error:
        unknown = isinstance(error, UnidentifiedImageError) or not str(error)
        reason = "its header makes no sense" if unknown else str(error).splitlines()[0][:120]
        raise InputError(
            f"{name} cannot be decoded ({reason}): it is truncated, damaged or of a rare kind."
        ) from error
