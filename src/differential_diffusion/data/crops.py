"""Training items: crops of pictures with what is told of them, a pure function of (seed, index)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, Literal

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from .augment import augment
from .images import NamedImage

Cut = Literal["crop", "fit"]
Symmetries = Literal["all", "mirror", "none"]
SYMMETRIES: dict[Symmetries, tuple[int, ...]] = {
    "all": tuple(range(8)),
    "mirror": (0, 2),
    "none": (0,),
}


class Items(Dataset[dict[str, Tensor]]):
    """Item i is a square of a picture, with what the network is told of it.

    With "crop", a random square of a random picture, each drawn in proportion to the square root of
    its number of positions, so that large ones count for more without drowning the rest. With
    "fit", each picture in turn, in an order drawn anew for every round, is brought to the size by
    its shorter side, and a random square of that is taken. Every item has a generator of its own,
    seeded by (seed, i): the order of reading, workers and resuming change nothing.

    Args:
        images: pictures of at least `size` pixels a side, unless they are fitted.
        size: side of the square in pixels.
        length: number of items.
        seed: of the draw.
        cut: how squares are taken.
        in_turn: whether "crop", too, shows each picture once: item i is a square of picture i.
        symmetries: which of the square's symmetries a picture is shown under.
        augmentation: probability of each augmentation, see `augment`; 0 for none. It replaces the
            symmetries.
        classes: names of the classes, in the order of their numbers, if the network is told them;
            pictures of other names get the number after the last, "not known".
        vectors: numbers to tell for each name.
        pictures: pictures to tell for each name, of the size of the picture itself.
    """

    def __init__(
        self,
        images: Sequence[NamedImage],
        size: int,
        length: int,
        seed: int,
        *,
        cut: Cut = "crop",
        in_turn: bool = False,
        symmetries: Symmetries = "all",
        augmentation: float = 0.0,
        classes: Sequence[str] = (),
        vectors: Mapping[str, NDArray[np.float32]] | None = None,
        pictures: Mapping[str, NDArray[Any]] | None = None,
    ) -> None:
        self.images = images
        self.size, self.length, self.seed = size, length, seed
        self.cut, self.in_turn = cut, in_turn
        self.symmetries, self.augmentation = symmetries, augmentation
        self.number = {name: number for number, name in enumerate(classes)}
        self.vectors, self.pictures = vectors, pictures
        if cut == "crop" and not in_turn:
            shapes = [image.pixels.shape for image in images]
            positions = [(h - size + 1) * (w - size + 1) for h, w, _ in shapes]
            self.cumulative = np.cumsum(np.sqrt(np.asarray(positions, dtype=np.float64)))

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        """Item `index`: "x0" (C,size,size) in [-1,1] and, as asked for, "label", "vector",
        "picture" and "augmentation".
        """  # noqa: D205
        if not 0 <= index < self.length:
            raise IndexError(index)
        rng = np.random.default_rng([self.seed, index])
        image, squares = self._squares(index, rng)
        item: dict[str, Tensor] = {}
        if self.augmentation > 0:  # together, so that what is drawn befalls both
            both = np.concatenate([unit(square) for square in squares], axis=2)
            pixels, told = augment(both, self.augmentation, rng)
            squares = np.split(pixels, [image.pixels.shape[2]], axis=2)
            item["augmentation"] = torch.from_numpy(told)
        else:
            kinds = SYMMETRIES[self.symmetries]
            which = kinds[int(rng.integers(len(kinds)))]
            squares = [symmetry(square, which) for square in squares]
        item["x0"] = self.tensor(squares[0], rng)
        if self.pictures is not None:
            item["picture"] = to_tensor(squares[1])
        if self.number:
            item["label"] = torch.tensor(self.number.get(image.label or "", len(self.number)))
        if self.vectors is not None:
            item["vector"] = torch.from_numpy(self.vectors[image.name])
        return item

    def tensor(self, pixels: NDArray[Any], rng: np.random.Generator) -> Tensor:
        """What the network learns of a square, (C,size,size)."""
        del rng
        return to_tensor(pixels)

    def _squares(
        self, index: int, rng: np.random.Generator
    ) -> tuple[NamedImage, list[NDArray[Any]]]:
        """A picture, and a square of it and of the one to tell beside it, if there is one."""
        if self.cut == "fit":
            turn, place = divmod(index, len(self.images))
            image = self.images[int(_order(self.seed, turn, len(self.images))[place])]
        elif self.in_turn:
            image = self.images[index % len(self.images)]
        else:
            drawn = rng.random() * self.cumulative[-1]
            which = int(np.searchsorted(self.cumulative, drawn, side="right"))
            image = self.images[min(which, len(self.images) - 1)]
        both = [image.pixels]
        if self.pictures is not None:
            both.append(self.pictures[image.name])
        if self.cut == "fit":
            both = [fitted(pixels, self.size) for pixels in both]
        top, left = (int(rng.integers(side - self.size + 1)) for side in both[0].shape[:2])
        return image, [p[top : top + self.size, left : left + self.size] for p in both]


@lru_cache(maxsize=4)
def _order(seed: int, turn: int, count: int) -> NDArray[np.int64]:
    return np.random.default_rng([seed, turn, 1]).permutation(count)


def fitted(pixels: NDArray[Any], size: int) -> NDArray[Any]:
    """A picture (H,W,C) brought to `size` by its shorter side."""
    height, width = pixels.shape[:2]
    if min(height, width) == size:
        return pixels
    scale = size / min(height, width)
    shape = max(size, round(width * scale)), max(size, round(height * scale))
    how = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    planes = [
        cv2.resize(np.ascontiguousarray(plane), shape, interpolation=how)
        for plane in np.moveaxis(pixels, -1, 0)
    ]
    resized = np.stack(planes, axis=-1)
    return resized if pixels.dtype.kind == "u" else resized.clip(0, 1)


def symmetry(pixels: NDArray[Any], which: int) -> NDArray[Any]:
    """One of the 8 symmetries of the square: bits of `which` flip, mirror and transpose."""
    if which & 1:
        pixels = pixels[::-1]
    if which & 2:
        pixels = pixels[:, ::-1]
    return pixels.transpose(1, 0, 2) if which & 4 else pixels


def unit(pixels: NDArray[Any]) -> NDArray[np.float32]:
    """Pixels of any type as float32 in [0,1]."""
    most = np.iinfo(pixels.dtype).max if pixels.dtype.kind == "u" else 1
    scaled: NDArray[np.float32] = pixels.astype(np.float32) / np.float32(most)
    return scaled


def to_tensor(pixels: NDArray[Any]) -> Tensor:
    """(H,W,C) pixels to (C,H,W) float32 in [-1,1]."""
    planes = torch.from_numpy(np.require(pixels.transpose(2, 0, 1), requirements=["C", "W"]))
    if pixels.dtype.kind == "u":
        return planes.float() / (np.iinfo(pixels.dtype).max / 2) - 1
    return planes.float() * 2 - 1
