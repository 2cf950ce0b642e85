"""Samples of a trained model: from nothing, of a class, around a sketch, between two seeds."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import repeat
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..core.noise import PositionalNoise, derive_seed
from ..core.plan import Plan
from ..core.solvers import SOLVERS
from ..errors import InputError
from ..models import DenoiserModel, LatentModel, Model

__all__ = [
    "Sample",
    "SampleSettings",
    "draw_samples",
    "interpolate",
    "labels_asked",
    "pixels_of",
    "sample_grid",
    "sample_tensors",
]

Label = int | str
Drawer = DenoiserModel | LatentModel
EACH = "each"
_STREAM = 7


@dataclass(frozen=True)
class Sample:
    """One sample.

    Attributes:
        index: its number, from 0.
        label: its class, if the model was asked for one.
        seed: what it was drawn from.
        pixels: (H,W,C) uint8.
    """

    index: int
    label: str | None
    seed: int
    pixels: NDArray[np.uint8]


@dataclass(frozen=True)
class SampleSettings:
    """How samples are drawn.

    Attributes:
        size: height and width in pixels; by default those of the picture that the model is told,
            else those that it was trained on.
        guidance_scale: see `DenoiserModel.given`; by default the model's own.
        vector: numbers that the model takes, for all samples.
        picture: the picture that the model is told, (1,K,H,W) in [-1,1]; samples are of its size.
        steps: of the ladder.
        solver: a name in `SOLVERS`.
        image: a sketch (1,C,H,W) in [-1,1] to begin with.
        strength: how much of it may change, a number in [0,1] or a map (1,1,H,W).
    """

    size: tuple[int, int] | None = None
    guidance_scale: float | None = None
    vector: Sequence[float] | None = None
    picture: Tensor | None = None
    steps: int = 30
    solver: str = "heun"
    image: Tensor | None = None
    strength: float | Tensor = 1.0


def draw_samples(
    model: Model,
    count: int,
    *,
    labels: Sequence[Label] | None = None,
    seed: int = 0,
    batch_size: int = 64,
    skip: Callable[[int], bool] | None = None,
    **settings: Any,
) -> Iterator[Sample]:
    """Samples of a model, as they are drawn; what is asked is checked at once.

    Sample i has a seed of its own, made of `seed` and i: it does not depend on how many are drawn
    or together with which (but for rounding).

    Args:
        model: a denoiser, trained here or a U-Net of Diffusers.
        count: how many.
        labels: classes by name or number, in turn: sample i is of class i modulo their number;
            ["each"] for all.
        seed: of all samples.
        batch_size: how many are drawn at once.
        skip: whether sample i is there already.
        settings: see `SampleSettings`.

    Raises:
        InputError: for a model that is no denoiser or that takes no such condition, an unknown
            solver, or a size that does not fit; while drawing, for samples that are not finite.
    """
    asked, labels = SampleSettings(**settings), labels_asked(model, labels) or None
    denoiser = checked(model, asked, count, batch_size, labels)

    def drawn() -> Iterator[Sample]:
        for indices in _batches(count, batch_size, skip):
            told = [labels[i % len(labels)] for i in indices] if labels else None
            seeds = [derive_seed(_STREAM, seed, i) for i in indices]
            pictures = pixels_of(sample_tensors(denoiser, seeds, told, asked))
            names = _names(denoiser, told) if told else repeat(None)
            for index, name, own, one in zip(indices, names, seeds, pictures, strict=False):
                yield Sample(index, name, own, one)

    return drawn()


def labels_asked(model: Model, labels: Sequence[Label] | None) -> Sequence[Label] | None:
    """The labels, ["each"] standing for all classes of the model.

    Raises:
        InputError: ["each"] of a model that knows no classes.
    """
    if labels is None or list(labels) != [EACH]:
        return labels
    classes: tuple[str, ...] = getattr(model, "classes", ())
    if not classes:
        raise InputError(f"the model '{model.name}' knows no classes: leave label out.")
    return list(classes)


def sample_tensors(
    model: Drawer,
    seeds: Sequence[int],
    labels: Sequence[Label] | None = None,
    settings: SampleSettings | None = None,
    noise: PositionalNoise | None = None,
) -> Tensor:
    """Samples (n,C,H,W) in [-1,1] give or take, one for each seed.

    Args:
        model: what draws them.
        seeds: one for each sample.
        labels: a class for each, if the model is asked for one.
        settings: how.
        noise: in place of that of the seeds.
    """
    settings = settings or SampleSettings()
    height, width = _size(model, settings)
    image = settings.image
    blank = torch.zeros(1, model.channels, height, width) if image is None else image
    strength = torch.as_tensor(settings.strength, dtype=torch.float32)
    plan = Plan(
        blank,
        strength.expand(1, 1, 1, 1) if strength.ndim == 0 else strength,
        seeds=tuple(seeds),
        steps=settings.steps,
        solver=settings.solver,
    )
    told = _told(model, labels, settings)
    return told.run(plan, noise or PositionalNoise(plan.seeds, *blank.shape[1:]))


def _told(model: Drawer, labels: Sequence[Label] | None, settings: SampleSettings) -> Drawer:
    return model.given(
        label=labels,
        vector=settings.vector,
        picture=settings.picture,
        guidance_scale=settings.guidance_scale,
    )


def _batches(
    count: int, batch_size: int, skip: Callable[[int], bool] | None
) -> Iterator[list[int]]:
    """The numbers of the samples that are not there already."""
    wanted = [index for index in range(count) if skip is None or not skip(index)]
    for start in range(0, len(wanted), batch_size):
        yield wanted[start : start + batch_size]


class _Between(PositionalNoise):
    """Noise on the way from one to another, along the sphere on which normal noise lies.

        n = cos(a) n₁ + sin(a) n₂,    a from 0 to π/2

    Args:
        first, second: noise of n samples each.
        angles: a for each sample.
    """

    def __init__(
        self, first: PositionalNoise, second: PositionalNoise, angles: Sequence[float]
    ) -> None:
        super().__init__(first.seeds, first.channels, first.height, first.width)
        self.first, self.second = first, second
        self.angles = torch.tensor(angles).view(-1, 1, 1, 1)

    def __call__(self, k: int) -> Tensor:
        return self.angles.cos() * self.first(k) + self.angles.sin() * self.second(k)

    def on_grid(self, channels: int, height: int, width: int) -> PositionalNoise:
        """See `PositionalNoise.on_grid`."""
        first, second = (end.on_grid(channels, height, width) for end in (self.first, self.second))
        return _Between(first, second, self.angles.flatten().tolist())


def interpolate(
    model: Model,
    first: int,
    second: int,
    count: int,
    *,
    label: Label | None = None,
    batch_size: int = 64,
    skip: Callable[[int], bool] | None = None,
    **settings: Any,
) -> Iterator[Sample]:
    """Samples on the way from the noise of one seed to that of another, ends included.

    Args:
        model: as in `draw_samples`.
        first, second: two seeds, of samples 0 of `draw_samples` with them.
        count: how many, at least 2.
        label: a class by name or number.
        batch_size: how many are drawn at once.
        skip: whether sample i is there already.
        settings: see `SampleSettings`.

    Raises:
        InputError: as `draw_samples`, and for fewer than two samples or a seed given twice.
    """
    asked = SampleSettings(**settings)
    denoiser = checked(model, asked, count, batch_size, None if label is None else [label])
    if count < 2:
        raise InputError(f"count is {count}: a way between two samples has at least 2.")
    if first == second:
        raise InputError(f"there is no way from seed {first} to itself: give two seeds.")
    shape = denoiser.channels, *_size(denoiser, asked)
    ends = [derive_seed(_STREAM, seed, 0) for seed in (first, second)]
    name = None if label is None else _names(denoiser, [label])[0]

    def drawn() -> Iterator[Sample]:
        for indices in _batches(count, batch_size, skip):
            angles = [math.pi / 2 * i / (count - 1) for i in indices]
            noises = [PositionalNoise([end] * len(indices), *shape) for end in ends]
            way = _Between(noises[0], noises[1], angles)
            labels = None if label is None else [label] * len(indices)
            pictures = pixels_of(sample_tensors(denoiser, way.seeds, labels, asked, way))
            for index, one in zip(indices, pictures, strict=True):
                yield Sample(index, name, ends[0], one)

    return drawn()


def sample_grid(pictures: Sequence[NDArray[np.uint8]], columns: int | None = None) -> NDArray[Any]:
    """Pictures of one size (H,W,C) side by side in rows, with a pixel of white between.

    Raises:
        InputError: fewer columns than one.
    """
    if columns is None:
        columns = math.ceil(math.sqrt(len(pictures)))
    if columns < 1:
        raise InputError(f"columns is {columns}: give at least 1.")
    height, width, channels = pictures[0].shape
    rows = math.ceil(len(pictures) / columns)
    shape = rows * (height + 1) - 1, columns * (width + 1) - 1, channels
    grid = np.full(shape, 255, np.uint8)
    for index, picture in enumerate(pictures):
        row, column = divmod(index, columns)
        top, left = row * (height + 1), column * (width + 1)
        grid[top : top + height, left : left + width] = picture
    return grid


def checked(
    model: Model,
    settings: SampleSettings,
    count: int,
    batch: int,
    labels: Sequence[Label] | None = None,
) -> Drawer:
    """The model, if it is one that can draw so.

    Raises:
        InputError: if not.
    """
    if not isinstance(model, DenoiserModel | LatentModel):
        raise InputError(
            "this model makes pictures from prompts: use generate, or name a model that was "
            "trained here or a U-Net of Diffusers"
        )
    for name, value in (("count", count), ("batch_size", batch), ("steps", settings.steps)):
        if value < 1:
            raise InputError(f"{name} is {value}: give at least 1.")
    if settings.solver not in SOLVERS:
        raise InputError(
            f"the solver '{settings.solver}' is not known: use one of {', '.join(SOLVERS)}."
        )
    much = torch.as_tensor(settings.strength)
    if not bool(((much >= 0) & (much <= 1)).all()):
        raise InputError("strength must lie in [0, 1] everywhere: clip it.")
    image = settings.image
    if image is not None and image.shape[1] != model.channels:
        raise InputError(
            f"the sketch has {image.shape[1]} channels and the model '{model.name}' "
            f"{model.channels}: convert it"
        )
    _size(model, settings)
    _told(model, labels, settings)
    return model


def _size(model: Drawer, settings: SampleSettings) -> tuple[int, int]:
    """Height and width of the samples."""
    shown = {"image": settings.image, "picture": settings.picture}
    sizes = {name: (x.shape[-2], x.shape[-1]) for name, x in shown.items() if x is not None}
    if settings.size is not None:
        height, width = settings.size
        sizes["size"] = height, width
    if len(set(sizes.values())) > 1:
        said = " and ".join(
            f"{name} is {rows}x{columns}" for name, (rows, columns) in sizes.items()
        )
        raise InputError(f"{said}, height by width: make them equal.")
    height, width = next(iter(sizes.values()), model.size or (256, 256))
    if min(height, width) < 1:
        raise InputError(f"size is {height}x{width}: give at least a pixel a side.")
    return height, width


def _names(model: Drawer, labels: Sequence[Label]) -> list[str]:
    """Classes by name."""
    return [model.classes[number] for number in model.label_numbers(labels)]


def pixels_of(drawn: Tensor) -> Iterator[NDArray[np.uint8]]:
    """(n,C,H,W) in [-1,1] as pictures (H,W,C) of 8 bits.

    Raises:
        InputError: NaN or infinity, as of a model whose training diverged.
    """
    if not bool(drawn.isfinite().all()):
        raise InputError(
            "the model drew NaN or infinite values: try precision fp32 or another solver, and see "
            "whether its training diverged"
        )
    whole = ((drawn.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).permute(0, 2, 3, 1)
    return iter(whole.contiguous().numpy())
