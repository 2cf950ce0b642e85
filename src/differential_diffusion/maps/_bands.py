"""What a picture's small blocks hold at each spatial frequency, in luma and in chroma.

Noise and texture differ there: white noise puts the same energy everywhere, texture falls
steeply with frequency and is far weaker in chroma than in luma.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

__all__ = ["BLOCK", "CHROMA", "COUNTS", "DCT", "LUMA", "Bands", "block_bands", "opponent"]

Array = NDArray[np.float32]

BLOCK = 8
LUMA, CHROMA = 0, 1
_MAX_BLOCKS = 130_000
_STRIP = 8_192

_OPPONENT = np.array(
    [
        [1 / math.sqrt(3), 1 / math.sqrt(3), 1 / math.sqrt(3)],
        [1 / math.sqrt(2), 0, -1 / math.sqrt(2)],
        [1 / math.sqrt(6), -2 / math.sqrt(6), 1 / math.sqrt(6)],
    ],
    np.float32,
)


def _dct_matrix() -> Array:
    k, n = np.arange(BLOCK)[:, None], np.arange(BLOCK)[None, :]
    one = np.cos(np.pi * (n + 0.5) * k / BLOCK) * math.sqrt(2 / BLOCK)
    one[0] /= math.sqrt(2)
    return np.kron(one, one).astype(np.float32)


def _band_matrix() -> tuple[Array, NDArray[np.intp]]:
    """Averages 64 coefficients into five rings of frequency, and the size of each ring."""
    edges = (1.0, 2.0, 3.5, 5.2, 7.0, 10.0)
    frequency = np.hypot(*np.mgrid[:BLOCK, :BLOCK]).ravel()
    rings = np.stack(
        [(frequency >= low) & (frequency < high) for low, high in itertools.pairwise(edges)]
    )
    counts = rings.sum(1)
    return (rings / counts[:, None]).T.astype(np.float32), counts


DCT = _dct_matrix()
_RINGS, COUNTS = _band_matrix()


@dataclass(frozen=True)
class Bands:
    """Band energies of overlapping 8x8 blocks on a (rows, columns) grid.

    Attributes:
        energy: (groups, 5, rows, columns) mean square of the DCT coefficients in each ring, low
            frequencies first, in squared 8-bit levels; groups are luma and, in colour, chroma.
            White noise of deviation s has energy s² everywhere.
        amplitude: as the root of `energy`, but from the mean absolute value: s too for Gaussian
            noise, less for edges and lines, which put their energy into few coefficients.
        colour: (channels, rows, columns) mean of the block in [-1, 1].
        saturated: (rows, columns) fraction of pixels at the ends of the range in any channel.
        ignored: (rows, columns) fraction of pixels that the caller asked to leave out.
        step: pixels from one block to the next.
    """

    energy: Array
    amplitude: Array
    colour: Array
    saturated: Array
    ignored: Array
    step: int

    def pooled(self, size: int) -> Bands:
        """Means over size x size blocks; the step grows accordingly."""
        return Bands(
            _pool(self.energy, size),
            _pool(self.amplitude, size),
            _pool(self.colour, size),
            _pool(self.saturated, size),
            _pool(self.ignored, size),
            self.step * size,
        )


def opponent(image: Array) -> Array:
    """RGB (H,W,3) to luma and two chroma axes by a rotation, which keeps white noise white."""
    return np.asarray(image @ _OPPONENT.T, np.float32)


def block_bands(image: Array, ignore: NDArray[np.bool_] | None = None) -> Bands:
    """Band energies of a picture (H,W,C), C = 1 or 3, in [-1, 1], at least 8 pixels a side.

    The blocks lie 4 pixels apart; in large pictures further, so that the cost is bounded.
    """
    height, width, channels = image.shape
    step = 4 * max(1, math.ceil(math.sqrt(height * width / 16 / _MAX_BLOCKS)))
    step = min(step, max(4, (min(height, width) - BLOCK) // 4 * 4))  # two rows even of a strip
    rows, columns = (height - BLOCK) // step + 1, (width - BLOCK) // step + 1
    groups = 1 if channels == 1 else 2
    energy = np.empty((rows, columns, groups, 5), np.float32)
    amplitude = np.empty_like(energy)
    per_strip = max(1, _STRIP // columns)
    for start in range(0, rows, per_strip):
        stop = min(start + per_strip, rows)
        strip = image[start * step : (stop - 1) * step + BLOCK]
        energy[start:stop], amplitude[start:stop] = _strip_bands(strip, step)

    means = [_block_means(image[..., c], rows, columns, step) for c in range(channels)]
    clipped = image.min() >= -1 and image.max() <= 1
    at_limit = np.asarray(((image <= -1) | (image >= 1)).any(-1)) if clipped else None
    return Bands(
        np.moveaxis(energy, (2, 3), (0, 1)),
        np.moveaxis(amplitude, (2, 3), (0, 1)),
        np.stack(means),
        _block_means(at_limit, rows, columns, step),
        _block_means(ignore, rows, columns, step),
        step,
    )


def _strip_bands(strip: Array, step: int) -> tuple[Array, Array]:
    planes = strip * np.float32(127.5)
    if planes.shape[-1] == 3:
        planes = opponent(planes)
    windows = np.lib.stride_tricks.sliding_window_view(planes, (BLOCK, BLOCK), axis=(0, 1))
    windows = windows[::step, ::step]
    shape = windows.shape[:3]
    coefficients = np.abs(windows.reshape(-1, BLOCK * BLOCK) @ DCT.T)
    energy = ((coefficients * coefficients) @ _RINGS).reshape(*shape, 5)
    amplitude = (coefficients @ _RINGS * math.sqrt(math.pi / 2)).reshape(*shape, 5)
    return _luma_chroma(energy), _luma_chroma(amplitude)


def _luma_chroma(bands: Array) -> Array:
    if bands.shape[2] == 1:
        return bands
    return np.stack([bands[:, :, 0], bands[:, :, 1:].mean(2)], axis=2)


def _block_means(plane: NDArray[Any] | None, rows: int, columns: int, step: int) -> Array:
    if plane is None:
        return np.zeros((rows, columns), np.float32)
    means = cv2.blur(np.asarray(plane, np.float32), (BLOCK, BLOCK), anchor=(0, 0))
    return np.ascontiguousarray(means[: rows * step : step, : columns * step : step])


def _pool(grid: Array, size: int) -> Array:
    rows, columns = grid.shape[-2] // size, grid.shape[-1] // size
    trimmed = grid[..., : rows * size, : columns * size]
    return np.asarray(
        trimmed.reshape(*grid.shape[:-2], rows, size, columns, size).mean((-3, -1)), np.float32
    )
