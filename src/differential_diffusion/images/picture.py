"""A picture that remembers what it was: the source's samples, and the way back to its kind."""

from __future__ import annotations

import os
import struct
import warnings
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor

from ..core.operators import Coefficients, JpegFormat
from ..errors import InputError
from ..files import write_atomically
from .convert import enlarged, luma, requantised, to_tensor, written_over
from .formats import LossyOutputWarning, encode, format_of
from .jpeg_io import coefficients_in
from .pil_io import to_pillow
from .raster import Array, Raster

__all__ = ["FileOrigin", "Origin", "Picture"]


class Origin(Protocol):
    """Where a picture came from, and how to give it back in that form."""

    @property
    def kind(self) -> str:
        """One of "path", "pil", "numpy" and "tensor"."""

    @property
    def path(self) -> Path | None:
        """The file that it was read from, if it was."""

    @property
    def name(self) -> str:
        """What error messages call it."""

    def restore(self, raster: Raster) -> Image.Image | Array | Tensor:
        """The picture in the source's form."""


@dataclass(frozen=True)
class FileOrigin:
    """The source was a file."""

    path: Path
    kind: str = "path"

    @property
    def name(self) -> str:
        """The file's name in quotes."""
        return f"'{self.path}'"

    def restore(self, raster: Raster) -> Image.Image | Array:
        """The picture as a Pillow image; as an array for .npy, and where Pillow has no mode."""
        return raster.merged().copy() if raster.format == "NPY" else to_pillow(raster)


@dataclass(frozen=True, kw_only=True, eq=False)
class Picture(Raster):
    """The source's samples in their own mode and dtype, upright, and where they came from.

    Made by `read`. Nothing in it changes: `replaced` gives a new picture. Samples of numpy arrays
    and tensors are not copied, so do not write to the source while the picture is in use.

    Attributes:
        origin: The source's kind and path.
    """

    origin: Origin

    @property
    def kind(self) -> str:
        """The source's kind: "path", "pil", "numpy" or "tensor"."""
        return self.origin.kind

    @property
    def path(self) -> Path | None:
        """The source file, if it was one."""
        return self.origin.path

    @property
    def is_grey(self) -> bool:
        """Whether there is one colour channel."""
        return self.colour == "grey"

    def tensor(self, channels: int = 3) -> Tensor:
        """The colours as a new float32 tensor (1, 3, H, W) in [-1, 1], encoded values as they are.

        Grey is repeated over the channels; CMYK becomes (1 - C)(1 - K) and so on, whatever its ICC
        profile; alpha is left out.

        Args:
            channels: 3, or 1 for `luminance` as (1, 1, H, W), the grey that models are trained on.
        """
        if channels == 1:
            return torch.from_numpy(2 * self.luminance() - 1)[None, None]
        return to_tensor(self.pixels)

    def coefficients(self) -> Coefficients | None:
        """What the JPEG file that this was read from holds, in steps of its tables, exactly.

        None for other sources, and without the package jpeglib (the extra `jpeg`).
        """
        if not isinstance(self.jpeg, JpegFormat) or self.path is None:
            return None
        return coefficients_in(self.path, self.jpeg)

    def luminance(self) -> npt.NDArray[np.float32]:
        """Brightness (H, W), float32 in [0, 1], for use as a map; alpha is left out.

        Exact (sample / largest sample) for grey and where R = G = B, else Rec. 601 luma.
        """
        return luma(self.pixels)

    def replaced(self, x: Tensor, keep: npt.NDArray[np.bool_]) -> Picture:
        """A new picture from x, with the pixels of this one, bit for bit, where `keep` is True.

        The mode and dtype stay, except that a bilevel picture becomes 8-bit, which `notes` tells.
        Alpha and metadata stay. Grey takes the mean of x's channels; integer samples are rounded.

        Args:
            x: (1, 3, H, W) or (3, H, W) in [-1, 1], clipped to that.
            keep: (H, W), bool.

        Raises:
            InputError: Another shape or dtype, or NaN or infinity in a pixel that is not kept.
        """
        size = (self.height, self.width)
        planes = x[0] if x.ndim == 4 and len(x) == 1 else x
        if planes.shape != (3, *size):
            raise InputError(
                f"the new picture has shape {tuple(x.shape)}: "
                f"{self.origin.name} needs (3, {size[0]}, {size[1]})."
            )
        if keep.shape != size or keep.dtype != np.bool_:
            raise InputError(
                f"keep has shape {keep.shape} and dtype {keep.dtype}: "
                f"{self.origin.name} needs {size} of bool."
            )
        source = self._levels() if self.pixels.dtype == np.bool_ else self
        return replace(source, pixels=written_over(source.pixels, planes, keep), jpeg=None)

    def enlarged(self, factor: int) -> Picture:
        """This picture with its sides as many times as long, by cubic interpolation.

        Its resolution grows with it, alpha too. A bilevel picture becomes 8-bit.

        Args:
            factor: from 1 on.
        """
        if factor == 1:
            return self
        source = self._levels() if self.pixels.dtype == np.bool_ else self
        dpi = source.metadata.dpi
        larger = None if dpi is None else (factor * dpi[0], factor * dpi[1])
        return replace(
            source,
            pixels=enlarged(source.pixels, factor),
            alpha=None if source.alpha is None else enlarged(source.alpha, factor),
            metadata=replace(source.metadata, dpi=larger),
            jpeg=None,
        )

    def coloured(self) -> Picture:
        """This picture with three channels: a grey one's are equal, others stay as they are."""
        source = self._levels() if self.pixels.dtype == np.bool_ else self
        if source.pixels.ndim == 3:
            return source
        metadata, notes = source.metadata, source.notes
        if metadata.icc is not None and metadata.icc[16:20] == b"GRAY":
            metadata = replace(metadata, icc=None)
            notes = (*notes, "The profile of grey pictures was left out of one with colours.")
        pixels = np.repeat(source.pixels[..., None], 3, axis=2)
        return replace(source, pixels=pixels, metadata=metadata, notes=notes)

    def _levels(self) -> Picture:
        """This bilevel picture in 8 bits, which an edit's grey levels need."""
        depth = np.dtype(np.uint8)
        return replace(
            self,
            pixels=requantised(self.pixels, depth),
            alpha=None if self.alpha is None else requantised(self.alpha, depth),
            notes=(*self.notes, "The bilevel picture became 8-bit."),
        )

    def native(self) -> Image.Image | Array | Tensor:
        """The picture in the kind that went in: Pillow, numpy or torch; a path gives Pillow.

        Shape, dtype and range are the source's (uint8 for bool that `replaced` edited). Samples
        that Pillow has no mode for (16 bits or floats with more than one channel), and those of
        .npy files, come as an array (H, W, C), alpha last.
        """
        return self.origin.restore(self)

    def save(self, path: str | Path, *, overwrite: bool = True) -> Path:
        """Write the picture to a file in the format of its suffix, atomically; give the path.

        PNG, TIFF, WebP, BMP and .npy are lossless. What a format cannot hold is converted with a
        warning: JPEG re-encodes all pixels (quality 95, 4:4:4), GIF reduces RGB to 256 colours,
        PNG takes floats as 16 bits and CMYK as RGB, the 8-bit formats round, and metadata without
        a place is dropped. Alpha is never dropped.

        Raises:
            InputError: An unknown suffix, alpha in a format without, a place that cannot be
                written, a file that is there though `overwrite` is False, or the source itself.

        Warns:
            LossyOutputWarning: The file does not hold all of the picture.
        """
        target = Path(path).expanduser()
        name = format_of(target)
        if self.path is not None and _same_file(self.path, target):
            raise InputError(f"'{path}' is the source itself: save under another name.")
        if not overwrite and target.exists():
            raise InputError(f"'{path}' exists: save under another name, or allow overwriting.")
        try:
            content, losses = encode(self, name)
        except InputError:
            raise
        except (OSError, ValueError, TypeError, OverflowError, struct.error) as error:
            raise InputError(
                f"the picture cannot be written as {name} ({error}): choose another format."
            ) from error
        write_atomically(target, content)
        if losses:
            warnings.warn(f"In '{path}', {'; '.join(losses)}.", LossyOutputWarning, stacklevel=2)
        return target


def _same_file(source: Path, target: Path) -> bool:
    try:
        return os.path.samefile(source, target)
    except OSError:
        return source.resolve() == target.resolve()
