"""A set of samples against a reference set: figures, and the protocol that they hold under."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from ..data.images import NamedImage
from ..errors import InputError
from ..files import write_atomically
from .distances import Moments, frechet_distance, kernel_distance, nearest, neighbours
from .extractors import Extractor, Numbers
from .paired import PairedFigures
from .protocol import Protocol, comparable, package_version
from .sets import FeatureSet, stream

__all__ = [
    "Evaluation",
    "Figures",
    "Gallery",
    "against",
    "compare_sets",
    "load_results",
    "paired_against",
    "save_results",
]

FORMAT = "differential-diffusion-evaluation/1"
SUBSET, SUBSETS, NEIGHBOURS = 1000, 100, 5
"""Of the kernel distance, and of precision and recall; of small sets, subsets are halves."""
PAIRS = 8
"""Samples that are shown beside what lies nearest to them."""


@dataclass(frozen=True)
class Figures:
    """Distances between the features that one extractor finds in both sets.

    Attributes:
        protocol: how they were made.
        frechet: the squared Fréchet distance, see `frechet_distance`.
        kernel, kernel_error: the kernel distance and its standard error, see `kernel_distance`.
        precision, recall, density, coverage: see `neighbours`; None for sets of no more pictures
            than the neighbours asked for.
        is_inception: whether these are FID and KID: of Inception's features, of pictures as they
            are.
    """

    protocol: Protocol
    frechet: float
    kernel: float
    kernel_error: float
    precision: float | None = None
    recall: float | None = None
    density: float | None = None
    coverage: float | None = None
    is_inception: bool = False

    @property
    def names(self) -> tuple[str, str]:
        """What the Fréchet and the kernel distance are called."""
        return ("FID", "KID") if self.is_inception else ("Fréchet distance", "kernel distance")

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


@dataclass(frozen=True)
class Gallery:
    """Pictures for a report.

    Attributes:
        samples, reference: some of each set.
        nearest: for each extractor, some samples with the reference picture that lies nearest by
            its features, and the distance.
    """

    samples: tuple[NamedImage, ...] = ()
    reference: tuple[NamedImage, ...] = ()
    nearest: dict[str, tuple[tuple[NamedImage, NamedImage, float], ...]] = field(
        default_factory=dict
    )


@dataclass(frozen=True)
class Evaluation:
    """What was found of a set of samples.

    Attributes:
        samples, reference: where the pictures came from.
        figures: one for each extractor.
        paired: of pictures of the same names.
        skipped_samples, skipped_reference: files that could not be read, and why.
        settings: how the samples were drawn, if they were drawn for it.
        gallery: pictures for a report; not saved.
    """

    samples: str
    reference: str
    figures: tuple[Figures, ...] = ()
    paired: PairedFigures | None = None
    skipped_samples: dict[str, str] = field(default_factory=dict)
    skipped_reference: dict[str, str] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)
    gallery: Gallery = field(default_factory=Gallery, repr=False, compare=False)

    def of(self, extractor: str) -> Figures | None:
        """The figures of an extractor, if there are any."""
        return next((f for f in self.figures if f.protocol.extractor == extractor), None)

    def as_dict(self) -> dict[str, Any]:
        """For JSON; infinite numbers are None."""
        return {
            "samples": self.samples,
            "reference": self.reference,
            "figures": [each.as_dict() for each in self.figures],
            "paired": None if self.paired is None else self.paired.as_dict(),
            "skipped_samples": self.skipped_samples,
            "skipped_reference": self.skipped_reference,
            "settings": self.settings,
        }

    @classmethod
    def from_dict(cls, raw: Any) -> Evaluation:
        """What `as_dict` gave; raises InputError, LookupError or TypeError for anything else."""
        raw = dict(raw)
        figures = tuple(
            Figures(**{**each, "protocol": Protocol.from_dict(each["protocol"])})
            for each in raw.pop("figures")
        )
        paired = raw.pop("paired")
        made = PairedFigures.from_dict(paired) if paired is not None else None
        return cls(**raw, figures=figures, paired=made)


def compare_sets(
    samples: FeatureSet,
    reference: FeatureSet,
    extractors: Sequence[Extractor],
    *,
    seed: int = 0,
    settings: dict[str, Any] | None = None,
    gallery: bool = False,
) -> Evaluation:
    """The figures of samples against a reference, for each extractor.

    Args:
        samples, reference: with features of each extractor.
        extractors: which.
        seed: of the subsets of the kernel distance.
        settings: how the samples were drawn.
        gallery: whether to gather pictures for a report; those of the reference that are not held
            are read again.

    Raises:
        InputError: fewer than two pictures, or sets of features that were not found alike.
    """
    for name, (had, wanted) in {
        "channels": (samples.channels, reference.channels),
        "size": (samples.size, reference.size),
    }.items():
        if had != wanted:
            raise InputError(
                f"the samples were read with {name} {had} and the reference with {wanted}: "
                "read both alike"
            )
    figures = tuple(_figures(samples, reference, each, seed) for each in extractors)
    shown = _gallery(samples, reference, extractors) if gallery else Gallery()
    return Evaluation(
        samples.source,
        reference.source,
        figures,
        None,
        samples.skipped,
        reference.skipped,
        settings or {},
        shown,
    )


def against(mine: Evaluation, other: Evaluation) -> list[tuple[Figures, Figures]]:
    """The figures of two results side by side, mine first, for each extractor that both have.

    None where both have figures of pairs alone in common, see `paired_against`.

    Raises:
        InputError: they have nothing in common, or their protocols differ.
    """
    both = [(one, two) for one in mine.figures if (two := other.of(one.protocol.extractor))]
    if not both and (mine.paired is None or other.paired is None):
        had, wanted = (
            ", ".join(f.protocol.extractor for f in e.figures) or "none" for e in (other, mine)
        )
        raise InputError(
            f"the results have no extractor in common ({wanted} and {had}): evaluate both sets "
            "with the same"
        )
    for one, two in both:
        if (why := comparable(one.protocol, two.protocol)) is not None:
            raise InputError(why)
    return both


def paired_against(
    mine: Evaluation, other: Evaluation
) -> tuple[PairedFigures, PairedFigures] | None:
    """The figures of pairs of two results, mine first, if both have some.

    Raises:
        InputError: their protocols differ.
    """
    if mine.paired is None or other.paired is None:
        return None
    if (why := comparable(mine.paired.protocol, other.paired.protocol)) is not None:
        raise InputError(why)
    return mine.paired, other.paired


def save_results(results: Sequence[Evaluation], path: Path, *, complete: bool = True) -> None:
    """Write results with their protocols as JSON, atomically.

    Args:
        results: at least one.
        path: the file.
        complete: whether these are all that was asked for, for readers of the file.
    """
    rows = [each.as_dict() for each in results]
    whole = {"format": FORMAT, "complete": complete, "results": rows}
    text = json.dumps(whole, indent=2, ensure_ascii=False, allow_nan=False)
    write_atomically(path, (text + "\n").encode())


def load_results(path: Path) -> list[Evaluation]:
    """What `save_results` wrote.

    Raises:
        InputError: no such file of ours.
    """
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
        if raw["format"] != FORMAT or not raw["results"]:
            raise ValueError(f"it is not of the format {FORMAT}")
        return [Evaluation.from_dict(each) for each in raw["results"]]
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        raise InputError(
            f"'{path}' holds no results of an evaluation ({why}): name one that `diffdiff evaluate "
            "-o` wrote"
        ) from None


def _figures(
    samples: FeatureSet, reference: FeatureSet, extractor: Extractor, seed: int
) -> Figures:
    name = extractor.name
    if min(len(samples), len(reference)) < 2:
        raise InputError(
            f"there are {len(samples)} samples and {len(reference)} reference pictures: give two "
            "of each at least"
        )
    for each in (samples, reference):
        if each.made.get(name) != (extractor.hash, extractor.resize):
            raise InputError(f"the features of '{each.source}' were not found by {name}: find them")
    made, real = samples.features[name], reference.features[name]
    protocol = protocol_of(extractor, reference, len(samples), seed)
    kernel = kernel_distance(real, made, subset=protocol.subset, subsets=SUBSETS, seed=seed)
    enough = min(len(real), len(made)) > NEIGHBOURS
    near = asdict(neighbours(real, made, NEIGHBOURS)) if enough else {}
    return Figures(
        protocol,
        frechet_distance(Moments.of([real]), Moments.of([made])),
        kernel.mean,
        0.0 if math.isnan(kernel.error) else kernel.error,
        **near,
        is_inception=extractor.is_inception and samples.size is None,
    )


def protocol_of(
    extractor: Extractor, reference: FeatureSet, samples: int, seed: int = 0
) -> Protocol:
    """What figures of so many samples, read like a reference, will hold under."""
    # Subsets of all there is would be one and the same, and tell nothing of the error.
    subset = min(SUBSET, max(2, min(len(reference), samples) // 2))
    return Protocol(
        extractor.name,
        extractor.hash,
        resizing(reference.size, extractor),
        samples,
        len(reference),
        reference.digest,
        reference.channels,
        subset,
        SUBSETS,
        NEIGHBOURS,
        seed,
        package_version(),
    )


def resizing(size: int | None, extractor: Extractor) -> str:
    """How pictures are brought to size, in words."""
    if size is None:
        return extractor.resize
    first = replace(extractor, size=size).resize
    return f"{first}, then {extractor.resize}"


def _gallery(
    samples: FeatureSet, reference: FeatureSet, extractors: Sequence[Extractor]
) -> Gallery:
    """Some pictures of both sets, and pairs of neighbours."""
    shown = samples.shown[:PAIRS]
    row = {name: index for index, name in enumerate(samples.names)}
    found: dict[str, list[tuple[NamedImage, str, float]]] = {}
    for each in extractors:
        made: Numbers = np.stack([samples.features[each.name][row[image.name]] for image in shown])
        rows, distances = nearest(made, reference.features[each.name])
        found[each.name] = [
            (image, reference.names[index], float(distance))
            for image, index, distance in zip(shown, rows, distances, strict=True)
        ]
    wanted = {name for pairs in found.values() for _, name, _ in pairs}
    held = _named(reference, wanted)
    pairs = {
        extractor: tuple((one, held[name], d) for one, name, d in each if name in held)
        for extractor, each in found.items()
    }
    return Gallery(samples.shown, reference.shown, pairs)


def _named(reference: FeatureSet, names: set[str]) -> dict[str, NamedImage]:
    """Pictures of a reference by name; only those that are held if its source is gone."""
    held = {image.name: image for image in reference.shown if image.name in names}
    missing = names - set(held)
    if not reference.readable or not missing:
        return held
    pictures = stream(
        reference.source, channels=reference.channels, split=reference.split, names=missing
    )
    return held | {image.name: image for image in pictures}
