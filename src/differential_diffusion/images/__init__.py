"""The only place where the pictures and maps of users become arrays and tensors, and back.

`read` turns a file, Pillow image, array or tensor into a `Picture`, which keeps the source's
samples in their own mode and dtype; `Picture.tensor` gives what models see, and
`Picture.replaced` writes what they made over the pixels that may change.
"""

from __future__ import annotations

from .formats import FORMATS, SUFFIXES, Format, LossyOutputWarning
from .paths import expand
from .picture import Picture
from .raster import Metadata
from .reading import MAX_PIXELS, Source, read

__all__ = [
    "FORMATS",
    "MAX_PIXELS",
    "SUFFIXES",
    "Format",
    "LossyOutputWarning",
    "Metadata",
    "Picture",
    "Source",
    "expand",
    "read",
]
