"""The value that every source of maps makes: how much each pixel may change."""

from __future__ import annotations

import os
from typing import Any, NoReturn

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from ..errors import InputError
from . import _check, ops

__all__ = ["StrengthMap"]

Array = NDArray[np.float32]


class StrengthMap:
    """How much each pixel may change: (H,W) float32 in [0, 1]; 0 must not, 1 may completely.

    The value is immutable, compares by content and can be hashed. `~a`, `a | b`, `a & b` and
    `a * b` stand for `invert`, `union`, `intersection` and `product`.

    Args:
        array: (H,W) floats in [0, 1] (or bool); copied.

    Raises:
        InputError: another shape, an empty map, NaN, or values outside [0, 1].
    """

    __slots__ = ("_array",)

    _array: Array

    def __init__(self, array: Any) -> None:
        values = np.asarray(array)
        if values.ndim != 2 or values.size == 0:
            raise InputError(
                f"a strength map has the shape (height, width), not {values.shape}: "
                "give one value for each pixel."
            )
        if values.dtype.kind not in "fb":
            raise InputError(
                f"a strength map holds floats in [0, 1], not {values.dtype}: divide by the "
                "largest value, or use StrengthMap.of for 8 and 16 bits."
            )
        values = np.array(values, np.float32, order="C")
        # NaN fails both comparisons, so this refuses it too.
        if not (values.min() >= 0 and values.max() <= 1):
            _refuse_values(values)
        values += 0.0  # -0 to 0
        values.flags.writeable = False
        object.__setattr__(self, "_array", values)

    @classmethod
    def of(cls, value: Any, height: int, width: int) -> StrengthMap:
        """The map that a user's value stands for, of the size of a picture.

        Args:
            value: a number in [0, 1] for every pixel; or (H,W) as a `StrengthMap`, an array or
                tensor of bool, uint8 (divided by 255), uint16 (by 65535) or floats in [0, 1];
                or a PIL image or the path of an image file, as grey levels (see `from_file`).
            height: of the picture in pixels.
            width: of the picture in pixels.

        Raises:
            InputError: another kind of value, a bad file, bad numbers, or another size.
        """
        height, width = _check.size(height, width)
        made = cls._from_any(value, height, width)
        if made.array.shape != (height, width):
            raise InputError(
                f"the strength map is {made.width}x{made.height} pixels and the picture "
                f"{width}x{height}: make it fit with StrengthMap.resize({height}, {width})."
            )
        return made

    @classmethod
    def _from_any(cls, value: Any, height: int, width: int) -> StrengthMap:
        from .file import from_file, from_image  # file makes StrengthMaps

        if isinstance(value, StrengthMap):
            return value
        if isinstance(value, str | os.PathLike):
            return from_file(value)
        if isinstance(value, Image.Image):
            return from_image(value)
        if isinstance(value, Tensor):
            value = _tensor_values(value)
        if isinstance(value, np.generic) or (isinstance(value, np.ndarray) and value.ndim == 0):
            value = value.item()
        if isinstance(value, bool):
            value = float(value)
        if isinstance(value, int | float | complex):
            return cls.constant(value, height, width)  # type: ignore[arg-type]
        if isinstance(value, list | tuple):
            value = _array_of(value)
        if isinstance(value, np.ndarray):
            return cls(_scaled(value))
        raise InputError(
            f"a strength map cannot be made of {type(value).__name__}: give a number in [0, 1], "
            "an array, an image or a path."
        )

    @classmethod
    def constant(cls, strength: float, height: int, width: int) -> StrengthMap:
        """The same strength in [0, 1] at every pixel."""
        height, width = _check.size(height, width)
        return cls(np.full((height, width), _check.number("strength", strength, 0, 1), np.float32))

    @property
    def array(self) -> Array:
        """(H,W) float32 in [0, 1], read-only."""
        return self._array

    @property
    def height(self) -> int:
        """Rows."""
        return int(self._array.shape[0])

    @property
    def width(self) -> int:
        """Columns."""
        return int(self._array.shape[1])

    @property
    def max(self) -> float:
        """The largest strength."""
        return float(self._array.max())

    @property
    def active(self) -> NDArray[np.bool_]:
        """(H,W) bool: the pixels that may change at all."""
        return self._array > 0

    def tensor(self) -> Tensor:
        """(1,1,H,W) float32, a copy."""
        return torch.from_numpy(self._array.copy())[None, None]

    def invert(self) -> StrengthMap:
        """See `ops.invert`."""
        return ops.invert(self)

    def union(self, other: StrengthMap) -> StrengthMap:
        """See `ops.union`."""
        return ops.union(self, other)

    def intersection(self, other: StrengthMap) -> StrengthMap:
        """See `ops.intersection`."""
        return ops.intersection(self, other)

    def product(self, other: StrengthMap) -> StrengthMap:
        """See `ops.product`."""
        return ops.product(self, other)

    def feather(self, radius: float, *, inside: bool = False) -> StrengthMap:
        """See `ops.feather`."""
        return ops.feather(self, radius, inside=inside)

    def dilate(self, radius: float) -> StrengthMap:
        """See `ops.dilate`."""
        return ops.dilate(self, radius)

    def levels(self, black: float = 0.0, white: float = 1.0, gamma: float = 1.0) -> StrengthMap:
        """See `ops.levels`."""
        return ops.levels(self, black, white, gamma)

    def threshold(self, level: float = 0.5) -> StrengthMap:
        """See `ops.threshold`."""
        return ops.threshold(self, level)

    def resize(self, height: int, width: int) -> StrengthMap:
        """See `ops.resize`."""
        return ops.resize(self, height, width)

    def to_latent_grid(self, cell: int) -> StrengthMap:
        """See `ops.to_latent_grid`."""
        return ops.to_latent_grid(self, cell)

    def heat_map(self, image: Any, alpha: float = 0.6) -> NDArray[np.uint8]:
        """See `ops.heat_map`."""
        return ops.heat_map(self, image, alpha)

    def __invert__(self) -> StrengthMap:
        return self.invert()

    def __or__(self, other: StrengthMap) -> StrengthMap:
        return self.union(other) if isinstance(other, StrengthMap) else NotImplemented

    def __and__(self, other: StrengthMap) -> StrengthMap:
        return self.intersection(other) if isinstance(other, StrengthMap) else NotImplemented

    def __mul__(self, other: StrengthMap) -> StrengthMap:
        return self.product(other) if isinstance(other, StrengthMap) else NotImplemented

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, StrengthMap):
            return NotImplemented
        return np.array_equal(self._array, other._array)

    def __hash__(self) -> int:
        return hash((self._array.shape, self._array.tobytes()))

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        """For numpy; see `array`."""
        if dtype is not None and np.dtype(dtype) != np.float32:
            return self._array.astype(dtype)
        return self._array.copy() if copy else self._array

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError("a StrengthMap is immutable: make a new one.")

    def __copy__(self) -> StrengthMap:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> StrengthMap:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (np.array(self._array),)

    def __repr__(self) -> str:
        values = self._array
        return (
            f"StrengthMap({self.height}x{self.width}, {values.min():.3g} to {values.max():.3g}, "
            f"{100 * self.active.mean():.3g} % active)"
        )


def _refuse_values(values: Array) -> NoReturn:
    wrong = int((~((values >= 0) & (values <= 1))).sum())
    if not np.isfinite(values).all():
        raise InputError(
            f"the strength map holds NaN or infinity ({wrong} values outside [0, 1]): fix it."
        )
    raise InputError(
        f"the strength map runs from {values.min():.4g} to {values.max():.4g}: "
        "scale it to [0, 1] or clip it."
    )


def _tensor_values(tensor: Tensor) -> NDArray[Any]:
    """A tensor's values as an array, without the leading axes of length 1."""
    if tensor.ndim > 2 and all(length == 1 for length in tensor.shape[:-2]):
        tensor = tensor.reshape(tensor.shape[-2:])
    if tensor.layout != torch.strided:
        raise InputError("the strength map is a sparse tensor: give a dense one.")
    tensor = tensor.detach().cpu()
    return np.asarray((tensor.float() if tensor.is_floating_point() else tensor).numpy())


def _array_of(rows: list[Any] | tuple[Any, ...]) -> NDArray[Any]:
    try:
        array = np.asarray(rows, np.float64)
    except (TypeError, ValueError, OverflowError):
        raise InputError(
            "the strength map is a list that makes no table of numbers: give rows of equal length."
        ) from None
    return array


def _scaled(values: NDArray[Any]) -> NDArray[Any]:
    """Array values as floats in [0, 1] by their type; one channel axis of length 1 goes."""
    if values.ndim == 3 and values.shape[2] == 1:
        values = values[..., 0]
    if values.dtype.kind == "u" and values.dtype.itemsize <= 2:
        return values.astype(np.float32) / np.iinfo(values.dtype).max
    if values.dtype.kind in "iu":
        raise InputError(
            f"the strength map has the type {values.dtype}, whose range is unclear: "
            "give uint8, uint16, bool, or floats in [0, 1]."
        )
    if values.dtype.kind not in "fb":
        raise InputError(
            f"the strength map has the type {values.dtype}: give uint8, uint16, bool, or floats."
        )
    return values
