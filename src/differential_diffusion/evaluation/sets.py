"""The features of a set of pictures: found in batches, kept in a file, and checked on return."""

from __future__ import annotations

import hashlib
import heapq
import json
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save
from torch import Tensor

from ..data.crops import fitted, to_tensor, unit
from ..data.images import NamedImage, decode_or_reason
from ..data.sources import find_pictures, picture_names
from ..errors import InputError
from ..files import write_atomically
from .extractors import Extractor, Numbers
from .protocol import package_version

__all__ = ["FeatureSet", "Pixels", "collect", "load_features", "save_features", "stream"]

Pixels = NDArray[Any]
OnProgress = Callable[[int, "int | None"], None]

FORMAT = "differential-diffusion-features/1"
SHOWN = 48
"""Pictures of a set that are kept to be shown."""


@dataclass(frozen=True)
class FeatureSet:
    """Features of a set of pictures, by extractor.

    Attributes:
        source: where the pictures came from.
        names: of the pictures, in the order of the rows.
        digest: tells one set from another, by names and pixels, whatever their order.
        channels: of the pictures, as they were read.
        size: side that the middle squares were brought to first; None for pictures as they are.
        features: (n,d) float32, by name of the extractor.
        made: hash and resizing rule, by name of the extractor.
        skipped: files that could not be read, and why.
        shown: some of the pictures, those with the smallest hashes of their names.
        split: of a source that has several.
        readable: whether the pictures can be read from the source again.
    """

    source: str
    names: tuple[str, ...]
    digest: str
    channels: int
    size: int | None
    features: dict[str, Numbers]
    made: dict[str, tuple[str, str]]
    skipped: dict[str, str] = field(default_factory=dict)
    shown: tuple[NamedImage, ...] = ()
    split: str = "train"
    readable: bool = False

    def __len__(self) -> int:
        return len(self.names)


def stream(
    source: str | Path,
    *,
    count: int | None = None,
    channels: int = 3,
    split: str = "train",
    names: Container[str] | None = None,
    skipped: dict[str, str] | None = None,
) -> Iterator[NamedImage]:
    """The pictures of a source one by one, none kept.

    Args:
        source: see `data.sources.find_pictures`.
        count: take this many, those with the smallest hashes of their names; by default all.
        channels: see `data.images.load_images`.
        split: of a set that has several.
        names: without a count, take these alone; the others are not read.
        skipped: receives the files that cannot be read, and why.

    Raises:
        InputError: if there are fewer than `count`.
    """
    chosen = names if count is None else _chosen(source, count, split)
    for found in find_pictures(source, split, chosen):
        pixels = decode_or_reason(found, channels)
        if isinstance(pixels, str):
            if skipped is not None:
                skipped[found.name] = pixels
            continue
        yield NamedImage(found.name, pixels)


def check_source(source: str | Path, *, count: int | None = None, split: str = "train") -> None:
    """That a source holds pictures, and `count` of them, of which none is read yet.

    Raises:
        InputError: if not; see `stream`.
    """
    if count is not None:
        _chosen(source, count, split)
    else:
        check_readable(str(source), len([*islice(picture_names(source, split), 1)]), {}, 0)


def collect(
    pictures: str | Path | Iterable[NamedImage],
    extractors: Sequence[Extractor],
    *,
    count: int | None = None,
    size: int | None = None,
    channels: int = 3,
    split: str = "train",
    batch_size: int = 64,
    max_skipped: float = 0.1,
    name: str = "samples",
    on_progress: OnProgress | None = None,
) -> FeatureSet:
    """Find the features of a set of pictures.

    Args:
        pictures: a source as in `stream`, or pictures.
        extractors: what finds them.
        count, channels, split: of a source, see `stream`.
        size: bring the middle square of each to this side first, by area or cubic interpolation.
        batch_size: pictures given to an extractor at once.
        max_skipped: largest share of unreadable files to put up with.
        name: what to call pictures that come without a source.
        on_progress: called with how many pictures are done, and of how many if that is known.

    Raises:
        InputError: no pictures, too few, too many unreadable ones, of another number of channels,
            an extractor named twice, or a size or batch under 1.
    """
    names = [extractor.name for extractor in extractors]
    if len(set(names)) < len(names) or not names:
        raise InputError(f"the extractors are {', '.join(names) or 'none'}: name one of each")
    for what, value in (("size", size), ("batch_size", batch_size)):
        if value is not None and value < 1:
            raise InputError(f"{what} is {value}: give at least 1.")
    skipped: dict[str, str] = {}
    readable = isinstance(pictures, str | Path)
    if isinstance(pictures, str | Path):
        name = str(pictures)
        pictures = stream(pictures, count=count, channels=channels, split=split, skipped=skipped)
    batches = [_Batches(extractor, batch_size, size) for extractor in extractors]
    tell = None if on_progress is None else lambda done: on_progress(done, count)
    seen, digests, shown = _pass(pictures, batches, channels, tell)
    check_readable(name, len(seen), skipped, max_skipped)
    return FeatureSet(
        name,
        tuple(seen),
        set_digest(digests),
        channels,
        size,
        {batch.extractor.name: batch.finish() for batch in batches},
        {each.name: (each.hash, each.resize) for each in extractors},
        skipped,
        shown,
        split,
        readable,
    )


def save_features(made: FeatureSet, path: Path) -> None:
    """Write a set's features to a safetensors file, atomically; the pictures stay out."""
    described = {
        "version": package_version(),
        "source": made.source,
        "names": made.names,
        "digest": made.digest,
        "channels": made.channels,
        "size": made.size,
        "made": made.made,
        "skipped": made.skipped,
    }
    metadata = {"format": FORMAT, "described": json.dumps(described)}
    tensors = {name: np.ascontiguousarray(rows) for name, rows in made.features.items()}
    write_atomically(path, save(tensors, metadata))


def load_features(
    path: Path,
    extractors: Sequence[Extractor],
    *,
    count: int | None = None,
    size: int | None = None,
    channels: int = 3,
) -> FeatureSet:
    """What `save_features` wrote, if it is what `collect` would make now.

    Args:
        path: the file.
        extractors: those wanted.
        count, size, channels: as they would be given to `collect`.

    Raises:
        InputError: no such file of ours, a damaged one, or one made in another way.
    """
    made, version = _read(path)
    anew = "make it anew with --save-reference"
    if version != package_version():
        raise InputError(
            f"'{path}' was made by version {version} and this is {package_version()}: {anew}"
        )
    for what, wanted in (("size", size), ("channels", channels), ("count", count)):
        had = len(made) if what == "count" else getattr(made, what)
        if wanted != had and not (what == "count" and count is None):
            raise InputError(
                f"'{path}' was made with {what} {had}, not {wanted}: give that {what}, or {anew}"
            )
    for each in extractors:
        if each.name not in made.made:
            raise InputError(
                f"'{path}' holds features of {', '.join(made.made)}, not of {each.name}: {anew}"
            )
        if made.made[each.name] != (each.hash, each.resize):
            raise InputError(
                f"the features of {each.name} in '{path}' were found by another definition or "
                f"other weights ({made.made[each.name][0]}, not {each.hash}): {anew}"
            )
    return made


def stored_extractors(path: Path) -> list[str]:
    """Names of the extractors whose features a file holds; raises InputError if it is not ours."""
    return list(_read(path)[0].made)


def square(pixels: Pixels, side: int) -> Pixels:
    """The middle square at `side` pixels, (side,side,C) float32 in [0,1]."""
    least = min(pixels.shape[:2])
    top, left = (pixels.shape[0] - least) // 2, (pixels.shape[1] - least) // 2
    middle = unit(pixels[top : top + least, left : left + least])
    return np.asarray(fitted(middle, side).clip(0, 1))


class _Batches:
    """Gathers pictures of one shape for an extractor."""

    def __init__(self, extractor: Extractor, batch_size: int, size: int | None) -> None:
        self.extractor, self.batch_size, self.size = extractor, batch_size, size
        self.waiting: list[Tensor] = []
        self.found: list[Numbers] = []

    def add(self, pixels: Pixels) -> None:
        for side in (self.size, self.extractor.size):
            pixels = pixels if side is None else square(pixels, side)
        picture = to_tensor(pixels)
        if self.waiting and self.waiting[0].shape != picture.shape:
            self._flush()
        self.waiting.append(picture)
        if len(self.waiting) == self.batch_size:
            self._flush()

    def finish(self) -> Numbers:
        self._flush()
        widths = {rows.shape[1] for rows in self.found}
        if len(widths) > 1:
            raise InputError(
                f"the extractor '{self.extractor.name}' finds {min(widths)} to {max(widths)} "
                "numbers in pictures of different sizes: set size"
            )
        return np.concatenate(self.found)

    def _flush(self) -> None:
        if self.waiting:
            self.found.append(self.extractor(torch.stack(self.waiting)))
            self.waiting = []


def _pass(
    pictures: Iterable[NamedImage],
    batches: Sequence[_Batches],
    channels: int,
    tell: Callable[[int], None] | None,
) -> tuple[list[str], list[str], tuple[NamedImage, ...]]:
    """Give the pictures to the extractors; their names, their digests, and some to be shown."""
    seen: list[str] = []
    digests: list[str] = []
    shown: list[tuple[int, int, NamedImage]] = []
    for image in pictures:
        if image.pixels.shape[2] != channels:
            raise InputError(
                f"'{image.name}' has {image.pixels.shape[2]} channels, not {channels}: set channels"
            )
        for batch in batches:
            batch.add(image.pixels)
        seen.append(image.name)
        digests.append(picture_digest(image))
        _show(shown, image, len(seen))
        if tell is not None:
            tell(len(seen))
    return seen, digests, tuple(image for *_, image in sorted(shown, key=lambda e: -e[0]))


def _chosen(source: str | Path, count: int, split: str) -> set[str]:
    names = set(picture_names(source, split))
    if not 1 <= count <= len(names):
        raise InputError(
            f"count is {count} and '{source}' holds {len(names)} pictures: give 1 to that many"
        )
    return set(heapq.nsmallest(count, names, key=_order))


def _order(name: str) -> int:
    return int.from_bytes(hashlib.sha256(name.encode()).digest(), "big")


def picture_digest(image: NamedImage) -> str:
    """Tells one picture from another, by name and pixels."""
    pixels = image.pixels
    told = f"{image.name}\n{pixels.dtype} {pixels.shape}\n".encode()
    return hashlib.sha256(told + pixels.tobytes()).hexdigest()


def set_digest(digests: Iterable[str]) -> str:
    """Tells one set from another by the digests of its pictures, whatever their order."""
    return hashlib.sha256("\n".join(sorted(digests)).encode()).hexdigest()[:16]


def _show(shown: list[tuple[int, int, NamedImage]], image: NamedImage, number: int) -> None:
    """Keep the picture if its hash is among the smallest."""
    entry = (-_order(image.name), -number, image)
    if len(shown) < SHOWN:
        heapq.heappush(shown, entry)
    elif entry[:2] > shown[0][:2]:
        heapq.heapreplace(shown, entry)


def check_readable(name: str, count: int, skipped: dict[str, str], most: float) -> None:
    """That of a source `count` pictures could be read, and a share of at most `most` could not.

    Raises:
        InputError: if not.
    """
    first = next(iter(skipped.items()), ("", ""))
    if not count:
        why = f"none of {len(skipped)} can be read: '{first[0]}': {first[1]}" if skipped else "none"
        raise InputError(f"'{name}' holds no usable picture ({why}): give others")
    if len(skipped) > most * (count + len(skipped)):
        raise InputError(
            f"{len(skipped)} of {count + len(skipped)} pictures in '{name}' cannot be read (the "
            f"first is '{first[0]}': {first[1]}): mend or remove them"
        )


def _read(path: Path) -> tuple[FeatureSet, str]:
    try:
        with safe_open(path, framework="np") as file:
            told = file.metadata() or {}
            features = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        if told.get("format") != FORMAT:
            raise ValueError(f"it is not of the format {FORMAT}")
        raw = json.loads(told["described"])
        made = {name: (str(has), str(rule)) for name, (has, rule) in raw["made"].items()}
        result = FeatureSet(
            str(raw["source"]), tuple(raw["names"]), str(raw["digest"]), int(raw["channels"]),
            raw["size"], features, made, dict(raw["skipped"]),
        )  # fmt: skip
        shapes = {rows.shape[:-1] for rows in features.values()}
        if set(features) != set(made) or shapes != {(len(result),)}:
            raise ValueError("its parts do not belong together")
        if not all(np.isfinite(rows).all() for rows in features.values()):
            raise ValueError("its numbers are not finite")
        return result, str(raw["version"])
    except (OSError, SafetensorError, ValueError, LookupError, TypeError, AttributeError) as error:
        why = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise InputError(
            f"'{path}' is no file of features of ours ({why}): make one with --save-reference"
        ) from None
