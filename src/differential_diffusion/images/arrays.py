"""Arrays of numbers: numpy's, torch's, and numpy's files.

numpy arrays are (H, W), or (H, W, C) with C = 1 grey, 2 grey and alpha, 3 RGB, 4 RGB and alpha.
Tensors are (H, W), (C, H, W) or (1, C, H, W) with the same meaning of C. Values are bool, uint8,
uint16 (numpy only), or floats in [0, 1].
"""

from __future__ import annotations

import io
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
from torch import Tensor

from ..errors import InputError
from .raster import Array, Raster, check_samples, check_size

__all__ = [
    "NumpyOrigin",
    "TensorOrigin",
    "encode_npy",
    "from_numpy",
    "from_tensor",
    "read_npy",
]


@dataclass(frozen=True)
class NumpyOrigin:
    """The source was a numpy array of this shape and dtype."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    name: str = "the array"
    kind: str = "numpy"
    path: Path | None = None

    def restore(self, raster: Raster) -> Array:
        """The picture as a new array like the source; one of bool that was edited is uint8."""
        samples = raster.merged()
        if samples.ndim == 2:  # of a grey source, which may have an axis for its one channel
            samples = samples.reshape(*samples.shape, *self.shape[2:])
        edited = self.dtype == np.bool_ and samples.dtype != np.bool_
        return samples.astype(samples.dtype if edited else self.dtype)


@dataclass(frozen=True)
class TensorOrigin:
    """The source was a tensor of this shape and dtype."""

    shape: tuple[int, ...]
    dtype: torch.dtype
    device: torch.device
    name: str = "the tensor"
    kind: str = "tensor"
    path: Path | None = None

    def restore(self, raster: Raster) -> Tensor:
        """The picture as a new tensor like the source; one of bool that was edited is uint8."""
        samples = raster.merged()
        if samples.ndim == 3:
            samples = samples.transpose(2, 0, 1)
        values = torch.from_numpy(np.array(samples, order="C"))
        axes = values.ndim  # a batch of one, or of a grey source one channel, comes back
        values = values.reshape(*self.shape[:-axes], *values.shape)
        edited = self.dtype == torch.bool and values.dtype != torch.bool
        return values.to(self.device, values.dtype if edited else self.dtype)


def from_numpy(array: Array, name: str, max_pixels: int) -> Raster:
    """A numpy array's samples, as views where they can be: the array is not copied.

    Raises:
        InputError: A shape or dtype that is not read, values out of range, no or too many pixels.
    """
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (1, 2, 3, 4)):
        hint = ""
        if array.ndim == 3 and array.shape[0] in (1, 3, 4):
            hint = ", as by x.transpose(1, 2, 0)"
        raise InputError(
            f"{name} has shape {array.shape}: give (H, W) or (H, W, C) with 1 to 4 channels{hint}."
        )
    return _raster(array, name, max_pixels)


def from_tensor(tensor: Tensor, name: str, max_pixels: int) -> Raster:
    """A tensor's samples, as views where they can be.

    Raises:
        InputError: A shape or dtype that is not read, values out of range, no or too many pixels.
    """
    if tensor.dtype not in (torch.bool, torch.uint8) and not tensor.is_floating_point():
        raise InputError(
            f"{name} holds {tensor.dtype} values: convert them to torch.uint8, "
            "or to torch.float32 in [0, 1]."
        )
    values = tensor[0] if tensor.ndim == 4 and len(tensor) == 1 else tensor
    if values.ndim not in (2, 3) or (values.ndim == 3 and values.shape[0] not in (1, 2, 3, 4)):
        raise InputError(
            f"{name} has shape {tuple(tensor.shape)}: "
            "give one picture, (C, H, W) or (1, C, H, W) with 1 to 4 channels."
        )
    values = values.detach().cpu()
    if values.dtype == torch.bfloat16:
        values = values.float()  # numpy has no such type; exact, and exact on the way back
    array = values.numpy()
    return _raster(array if array.ndim == 2 else array.transpose(1, 2, 0), name, max_pixels)


def read_npy(stream: IO[bytes], name: str, max_pixels: int) -> Raster:
    """The array in an open .npy file, of the kinds that arrays may have; never unpickles."""
    mapped = np.load(stream.name, mmap_mode="r", allow_pickle=False)  # looks before it allocates
    if mapped.ndim >= 2:
        check_size(name, mapped.shape[0], mapped.shape[1], max_pixels)
    return replace(from_numpy(np.array(mapped), name, max_pixels), format="NPY")


def encode_npy(raster: Raster) -> bytes:
    """The samples as numpy's file: (H, W) or (H, W, C), alpha last."""
    stream = io.BytesIO()
    np.save(stream, raster.merged(), allow_pickle=False)
    return stream.getvalue()


def _raster(array: Array, name: str, max_pixels: int) -> Raster:
    check_size(name, array.shape[0], array.shape[1], max_pixels)
    check_samples(name, array)
    array = array.astype(array.dtype.newbyteorder("="), copy=False)
    channels = array.shape[2] if array.ndim == 3 else 1
    if array.ndim == 2:
        return Raster(pixels=array)
    return Raster(
        pixels=array[..., 0] if channels < 3 else array[..., :3],
        alpha=array[..., -1] if channels in (2, 4) else None,
    )
