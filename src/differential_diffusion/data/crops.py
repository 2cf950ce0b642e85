"""Random crops of pictures, a pure function of (seed, index)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from .images import NamedImage


class RandomCrops(Dataset[Tensor]):
    """Item i is a random crop of a random picture under one of the square's 8 symmetries.

    Pictures are drawn in proportion to the square root of their number of crop positions, so
    that large ones count for more without drowning the rest. Every item has a generator of
    its own, seeded by (seed, i): the order of reading, workers and resuming change nothing.

    Args:
        images: pictures of at least `size` pixels a side.
        size: side of the crop in pixels.
        length: number of items.
        seed: of the draw.
    """

    def __init__(self, images: Sequence[NamedImage], size: int, length: int, seed: int) -> None:
        self.images = [image.pixels for image in images]
        self.size, self.length, self.seed = size, length, seed
        positions = [(p.shape[0] - size + 1) * (p.shape[1] - size + 1) for p in self.images]
        self.cumulative = np.cumsum(np.sqrt(np.asarray(positions, dtype=np.float64)))

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> Tensor:
        """Crop `index` as (3,size,size) float32 in [-1,1]."""
        rng = np.random.default_rng([self.seed, index])
        which = np.searchsorted(self.cumulative, rng.random() * self.cumulative[-1], side="right")
        pixels = self.images[min(int(which), len(self.images) - 1)]
        top = int(rng.integers(pixels.shape[0] - self.size + 1))
        left = int(rng.integers(pixels.shape[1] - self.size + 1))
        crop = pixels[top : top + self.size, left : left + self.size]
        return to_tensor(_symmetry(crop, int(rng.integers(8))))


def _symmetry(pixels: NDArray[np.uint8], which: int) -> NDArray[np.uint8]:
    """One of the 8 symmetries of the square: bits of `which` flip, mirror and transpose."""
    if which & 1:
        pixels = pixels[::-1]
    if which & 2:
        pixels = pixels[:, ::-1]
    return pixels.transpose(1, 0, 2) if which & 4 else pixels


def to_tensor(pixels: NDArray[np.uint8]) -> Tensor:
    """(H,W,3) uint8 to (3,H,W) float32 in [-1,1]."""
    return torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1))).float() / 127.5 - 1
