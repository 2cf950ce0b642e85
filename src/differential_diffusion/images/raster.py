"""What every format is decoded to and encoded from: samples, alpha and metadata."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from ..core.operators import JpegFormat
from ..errors import InputError

__all__ = [
    "Array",
    "Colour",
    "Metadata",
    "Raster",
    "check_samples",
    "check_size",
    "fast_deflate",
    "peak_of",
    "row_strips",
]

Array = npt.NDArray[Any]
Colour = Literal["grey", "rgb", "cmyk"]

_PEAKS = {"bool": 1, "uint8": 255, "uint16": 65535, "float16": 1, "float32": 1, "float64": 1}
_STRIP_SAMPLES = 1 << 20


@dataclass(frozen=True, kw_only=True)
class Metadata:
    """What travels with a picture untouched; formats that cannot hold a part say so on saving.

    Attributes:
        icc: The ICC colour profile.
        exif: EXIF as a TIFF structure, without JPEG's `Exif` prefix; its orientation is 1.
        xmp: The XMP packet.
        comment: The comment of a JPEG or GIF file, in whatever encoding it has.
        text: PNG's text chunks by keyword; international ones keep language and translation.
        dpi: Horizontal and vertical resolution in pixels per inch.
        colour_chunks: PNG's gAMA, cHRM, sRGB and cICP chunks, as (name, content).
    """

    icc: bytes | None = None
    exif: bytes | None = None
    xmp: bytes | None = None
    comment: bytes | None = None
    text: Mapping[str, str] = field(default_factory=dict)
    dpi: tuple[float, float] | None = None
    colour_chunks: tuple[tuple[bytes, bytes], ...] = ()


@dataclass(frozen=True, kw_only=True, eq=False)
class Raster:
    """Samples in their own dtype, alpha apart.

    Attributes:
        pixels: (H, W) grey, (H, W, 3) RGB or (H, W, 4) CMYK (full ink is the largest value);
            bool, uint8, uint16, or a float type in [0, 1]. Read-only.
        alpha: (H, W) in the same dtype, not premultiplied, or None. Read-only.
        metadata: Profile, EXIF and texts.
        format: The file format that it was read from, or "".
        notes: Sentences on what reading or editing converted.
        jpeg: How the JPEG file that it was read from holds it, or why that is not understood.
    """

    pixels: Array
    alpha: Array | None = None
    metadata: Metadata = field(default_factory=Metadata)
    format: str = ""
    notes: tuple[str, ...] = ()
    jpeg: JpegFormat | str | None = None

    def __post_init__(self) -> None:
        for name in ("pixels", "alpha"):
            samples = getattr(self, name)
            if samples is not None:
                view = samples.view()
                view.flags.writeable = False
                object.__setattr__(self, name, view)

    @property
    def height(self) -> int:
        """Number of rows."""
        return int(self.pixels.shape[0])

    @property
    def width(self) -> int:
        """Number of columns."""
        return int(self.pixels.shape[1])

    @property
    def channels(self) -> int:
        """Number of colour channels, alpha not counted: 1, 3 or 4."""
        return 1 if self.pixels.ndim == 2 else int(self.pixels.shape[2])

    @property
    def colour(self) -> Colour:
        """What the channels mean."""
        names: dict[int, Colour] = {1: "grey", 3: "rgb", 4: "cmyk"}
        return names[self.channels]

    @property
    def is_transparent(self) -> bool:
        """Whether some pixel lets the background through."""
        return self.alpha is not None and bool((self.alpha < peak_of(self.alpha.dtype)).any())

    def opacity(self) -> npt.NDArray[np.float32]:
        """Alpha (H, W) in [0, 1], as float32; 1 everywhere without."""
        if self.alpha is None:
            return np.ones(self.pixels.shape[:2], np.float32)
        share = self.alpha.astype(np.float32) / np.float32(peak_of(self.alpha.dtype))
        clipped: npt.NDArray[np.float32] = np.clip(share, 0, 1)
        return clipped

    @property
    def value_range(self) -> tuple[float, float]:
        """The samples for black (or no ink) and for full intensity."""
        return 0.0, float(peak_of(self.pixels.dtype))

    def merged(self) -> Array:
        """Colour and alpha as one array, alpha last; the array itself where there is no alpha."""
        return self.pixels if self.alpha is None else np.dstack([self.pixels, self.alpha])


def peak_of(dtype: np.dtype[Any]) -> int:
    """The sample value of full intensity."""
    return _PEAKS[dtype.name]


def row_strips(height: int, width: int) -> Iterator[slice]:
    """Rows in strips of about a million samples, so that temporaries stay small."""
    step = max(1, _STRIP_SAMPLES // (4 * width))
    for top in range(0, height, step):
        yield slice(top, min(top + step, height))


def fast_deflate() -> zlib._Compress:
    """A zlib stream that seeks runs only.

    After a filter of neighbours little else repeats in photographs, and looking for it takes most
    of the time. Drawings come out larger.
    """
    return zlib.compressobj(strategy=zlib.Z_RLE)


def check_size(name: str, height: int, width: int, max_pixels: int) -> None:
    """Raise InputError for an empty picture or one of more than `max_pixels`."""
    if height < 1 or width < 1:
        raise InputError(f"{name} has no pixels ({width}x{height}): give at least 1x1.")
    if height * width > max_pixels:
        raise InputError(
            f"{name} has {width}x{height} pixels, more than max_pixels={max_pixels}: shrink it."
        )


def check_samples(name: str, samples: Array) -> None:
    """Raise InputError for a dtype that is not read, and for floats that leave [0, 1]."""
    if samples.dtype.name not in _PEAKS:
        raise InputError(
            f"{name} holds {samples.dtype} samples: "
            "convert them to uint8, uint16, or float32 in [0, 1]."
        )
    if samples.dtype.kind != "f" or not samples.size:
        return
    low, high = float(samples.min()), float(samples.max())
    if not (np.isfinite(low) and np.isfinite(high)):
        raise InputError(f"{name} holds NaN or infinite values: replace them, as by np.nan_to_num.")
    if low < 0 or high > 1:
        raise InputError(
            f"{name} holds floats from {low:.6g} to {high:.6g}: scale them to [0, 1], "
            "as by x / 255, by (x + 1) / 2 from [-1, 1], or by clipping."
        )
