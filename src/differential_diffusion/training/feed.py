"""What a run learns from: its pictures, what is told of them, and this step's levels and noise."""

from __future__ import annotations

import csv
import hashlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..core.noise import CameraNoise, derive_seed, generator
from ..data.crops import Items, fitted
from ..data.images import ImageCollection, NamedImage, load_images
from ..errors import InputError
from ..models.checkpoint import LatentSpace
from ..nn import Conditions
from .config import DataConfig, TrainingConfig

T = TypeVar("T")
_STREAM_FIELDS, _STREAM_NOISE, _STREAM_COLOURS, _STREAM_KEPT, _STREAM_DROPOUT = 1, 2, 3, 4, 5


class Pictures:
    """The pictures of a run, those that are fitted at their size, and what is told of each.

    Attributes:
        training, held_out: the split.
        skipped: names of those left out, and why.
        classes: names of the classes in alphabetical order, if asked for.
        vectors: numbers by name, if asked for.
        pictures: pictures to condition on by name, if asked for.
        digests: tell what is learnt from of another set: by names, sizes, classes, pixels and what
            is told of each; and, as checkpoints once had it, without the last two.
        space: how latents are normalised; None for pixels.

    Raises:
        InputError: for unusable data.
    """

    space: LatentSpace | None = None

    def __init__(self, config: DataConfig) -> None:
        self.config = config
        fits = config.cut == "fit"
        load = partial(
            load_images,
            max_skipped=config.max_skipped,
            prepare=partial(fitted, size=config.patch_size) if fits else None,
        )
        collection = load(
            config.path,
            min_size=1 if fits else config.patch_size,
            channels=config.channels,
            labels=config.labels,
            split=config.split,
        )
        self.skipped = collection.skipped
        self.training, self.held_out = collection.split(config.validation)
        self.classes = _classes(self.training, self.held_out, config)
        names = [image.name for image in collection.images]
        self.vectors = None if config.vectors is None else _vectors(config.vectors, names)
        beside = {} if config.pictures is None else _paired(config, load, collection.images)
        self.pictures = {name: other.pixels for name, other in beside.items()} or None
        self.digests = self._digests(beside)

    @property
    def digest(self) -> str:
        """The first of `digests`."""
        return self.digests[0]

    @property
    def told(self) -> dict[str, int]:
        """What the network must be made to take, see `TrainingConfig.shape`."""
        vector = len(next(iter(self.vectors.values()))) if self.vectors else 0
        picture = next(iter(self.pictures.values())).shape[2] if self.pictures else 0
        return {
            "classes": len(self.classes),
            "vector": vector,
            "condition_channels": picture,
        }

    def _digests(self, beside: Mapping[str, NamedImage]) -> tuple[str, ...]:
        known, contents = [], []
        for image in self.training:
            line = f"{image.name} {image.shape}" + (f" {image.label}" if image.label else "")
            known.append(line)
            vector = "" if self.vectors is None else self.vectors[image.name].tobytes().hex()
            picture = beside[image.name].checksum if beside else ""
            contents.append(f"{line} {image.checksum} {vector} {picture}")
        return tuple(_digest(lines) for lines in (contents, known))

    def describe_skipped(self) -> str:
        """How many pictures were left out, and why the first was."""
        name, why = next(iter(self.skipped.items()))
        return f"pictures left out: {len(self.skipped)}, the first is '{name}' ({why})."

    def items(self, length: int, seed: int) -> Items:
        """Training items."""
        config = self.config
        return self._items(
            self.training, length, seed, symmetries=config.symmetries, augmented=config.augmentation
        )

    def plain_items(self, images: Sequence[NamedImage], count: int) -> Items:
        """A square of each of the first `count` pictures, always the same and not augmented."""
        return self._items(images[:count], min(count, len(images)), 0, in_turn=True)

    def _items(
        self,
        images: Sequence[NamedImage],
        length: int,
        seed: int,
        *,
        in_turn: bool = False,
        symmetries: Any = "none",
        augmented: float = 0.0,
    ) -> Items:
        return Items(
            images,
            self.config.patch_size,
            length,
            seed,
            cut=self.config.cut,
            in_turn=in_turn,
            symmetries=symmetries,
            augmentation=augmented,
            classes=self.classes,
            vectors=self.vectors,
            pictures=self.pictures,
        )


def fetched_ahead(items: Iterator[T]) -> Iterator[T]:
    """The same items, each fetched in another thread while the one before is used."""
    with ThreadPoolExecutor(1) as pool:
        coming = pool.submit(next, items, None)
        while (item := coming.result()) is not None:
            coming = pool.submit(next, items, None)
            yield item


class Draws:
    """Levels, noise and withheld conditions of every step: functions of (seed, step) alone.

    Every picture has a stream of its own, so that the number of processes and turns does not change
    the run.

    Args:
        config: the run.
        classes: number of classes, whose number stands for "not known".
    """

    def __init__(self, config: TrainingConfig, classes: int) -> None:
        self.config, self.classes = config, classes
        self.maps = config.objective.maps
        self.fields, self.levels = config.fields(), config.goal().levels

    def noise(
        self, step: int, part: slice, shape: Sequence[int], device: torch.device
    ) -> tuple[Tensor, Tensor]:
        """σ, (B,1,H,W) or (B,1,1,1), and ε, (B,C,H,W), float32, of a part of a batch.

        Args:
            step: from 0.
            part: of the batch.
            shape: (C,H,W).
            device: where they are wanted; noise for CUDA is drawn there.
        """
        config = self.config
        sigma = self._sigma(step, part, shape)
        kind = device.type if device.type == "cuda" else "cpu"
        noise = torch.empty(len(sigma), *shape, device=kind)
        rng = torch.Generator(kind)
        for one, index in zip(noise, _indices(part), strict=True):
            one.normal_(generator=rng.manual_seed(self._seed(_STREAM_NOISE, step, index)))
        if shape[0] == 3 and config.coloured > 0:
            drawn = generator(_STREAM_COLOURS, config.seed, step)
            coloured = (torch.rand(config.batch_size, generator=drawn) < config.coloured)[part]
            coloured &= sigma.amax((1, 2, 3)) < 1
            if coloured.any():
                camera = CameraNoise.draw(config.batch_size, drawn).of(part).of(coloured)
                noise[coloured] = camera.shape(noise[coloured])
        return sigma.to(device), noise.to(device)

    def _sigma(self, step: int, part: slice, shape: Sequence[int]) -> Tensor:
        config = self.config
        rng = generator(_STREAM_FIELDS, config.seed, step)
        if not self.maps:
            levels = self.levels.sample(config.batch_size, rng)[part]
            return levels.clamp(*config.sigma_range).view(-1, 1, 1, 1)
        kinds = self.fields.kinds(config.batch_size, rng)[part]
        seeds = [self._seed(_STREAM_FIELDS, step, index) for index in _indices(part)]
        maps = [
            self.fields.draw(kind, shape[-2], shape[-1], rng.manual_seed(seed))
            for kind, seed in zip(kinds, seeds, strict=True)
        ]
        return torch.stack(maps)

    def _seed(self, stream: int, step: int, index: int) -> int:
        return derive_seed(stream, self.config.seed, step, index)

    def conditions(
        self, batch: Mapping[str, Tensor], step: int, part: slice, device: torch.device
    ) -> Conditions:
        """What the network is told of a part of a batch, some of it withheld."""
        if not batch.keys() & {"label", "vector", "picture"}:
            augmentation = batch.get("augmentation")
            return Conditions(augmentation=_on(augmentation, device))
        rng = generator(_STREAM_KEPT, self.config.seed, step)
        drawn = torch.rand(self.config.batch_size, generator=rng)
        keep = (drawn >= self.config.objective.condition_dropout)[part]
        labels = batch.get("label")
        if labels is not None:
            labels = torch.where(keep.to(labels.device), labels, self.classes)
        return Conditions(
            _on(labels, device),
            _on(batch.get("vector"), device),
            _on(batch.get("picture"), device),
            _on(batch.get("augmentation"), device),
            keep.to(device),
        )

    def seed_dropout(self, step: int, part: int) -> None:
        """Have dropout draw from this step's and part's own stream."""
        torch.manual_seed(derive_seed(_STREAM_DROPOUT, self.config.seed, step, part))


def _indices(part: slice) -> range:
    return range(part.start, part.stop)


def _on(tensor: Tensor | None, device: torch.device) -> Tensor | None:
    return None if tensor is None else tensor.to(device)


def _digest(lines: Sequence[str]) -> str:
    return hashlib.sha256("\n".join(sorted(lines)).encode()).hexdigest()


def _classes(
    training: Sequence[NamedImage], held_out: Sequence[NamedImage], config: DataConfig
) -> tuple[str, ...]:
    if config.labels == "none":
        return ()
    counts = Counter(image.label for image in training if image.label != config.unlabelled)
    names = sorted(label for label in counts if label is not None)
    if not names:
        raise InputError(f"'{config.path}' has no labelled training picture: add some")
    if len(names) < 2:
        raise InputError(
            f"'{config.path}' has the single class '{names[0]}': set data.labels to none"
        )
    for image in held_out:
        if image.label not in counts and image.label != config.unlabelled:
            raise InputError(
                f"the class '{image.label}' has all of its pictures in the validation set: add "
                "some, lower data.validation, or remove the class"
            )
    for name in names:
        if counts[name] < 2:
            raise InputError(
                f"the class '{name}' has one training picture: add some, or remove the class"
            )
    numbered = all(name.isdecimal() for name in names)
    return tuple(sorted(names, key=int) if numbered else names)


def _vectors(path: Path, names: Sequence[str]) -> dict[str, NDArray[np.float32]]:
    """The numbers of each picture, from a CSV file: its name, or its name without suffix, first."""
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            rows = {row[0]: row[1:] for row in csv.reader(file) if row}
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        reason = getattr(error, "strerror", None) or "it is no CSV text"
        raise InputError(f"data.vectors '{path}' cannot be read: {reason}") from None
    result: dict[str, NDArray[np.float32]] = {}
    for name in names:
        row = rows.get(name, rows.get(str(PurePosixPath(name).with_suffix(""))))
        if row is None:
            raise InputError(f"data.vectors '{path}' has no line for '{name}': add one")
        try:
            result[name] = np.array([float(entry) for entry in row], np.float32)
        except ValueError:
            raise InputError(
                f"data.vectors '{path}' has {row} for '{name}': give numbers only"
            ) from None
    widths = {len(row) for row in result.values()}
    if widths == {0} or len(widths) > 1 or not all(np.isfinite(v).all() for v in result.values()):
        raise InputError(
            f"data.vectors '{path}' must have as many finite numbers on each line, at least one"
        )
    return result


def _paired(
    config: DataConfig, load: Callable[..., ImageCollection], images: Sequence[NamedImage]
) -> dict[str, NamedImage]:
    """The picture of the same name in `config.pictures` for each, whatever its suffix."""
    folder = config.pictures
    others = load(folder, channels=config.picture_channels).images
    stem = {str(PurePosixPath(other.name).with_suffix("")): other for other in others}
    result = {}
    for image in images:
        found = stem.get(str(PurePosixPath(image.name).with_suffix("")))
        if found is None or found.shape[:2] != image.shape[:2]:
            what = "no readable picture" if found is None else "one of another size"
            raise InputError(f"data.pictures '{folder}' has {what} for '{image.name}': add it")
        result[image.name] = found
    return result
