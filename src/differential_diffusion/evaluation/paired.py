"""Pictures against those that they should be: PSNR, SSIM and LPIPS of each pair."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

from torch import Tensor

from ..core.metrics import psnr, ssim
from ..data.crops import to_tensor
from ..data.images import NamedImage
from ..errors import InputError
from .protocol import PairedProtocol, package_version
from .sets import OnProgress, check_readable, picture_digest, set_digest, stream

__all__ = ["Pair", "PairedFigures", "compare_pairs"]

Measure = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Pair:
    """Figures of one picture against its reference.

    Attributes:
        name: of the sample.
        psnr: in dB, over the full range of the pixels; infinite for equal pictures.
        ssim: at most 1, see `core.ssim`, of pixels in [0,1].
        lpips: at least 0, if it was asked for.
    """

    name: str
    psnr: float
    ssim: float
    lpips: float | None = None


@dataclass(frozen=True)
class PairedFigures:
    """Figures of all pairs.

    Attributes:
        pairs: one for each sample.
        protocol: how they were made.
        unmatched: reference pictures without a sample.
    """

    pairs: tuple[Pair, ...]
    protocol: PairedProtocol
    unmatched: int = 0

    @property
    def psnr(self) -> float:
        """Mean over the pictures in dB; infinite if any is."""
        return statistics.fmean(pair.psnr for pair in self.pairs)

    @property
    def ssim(self) -> float:
        """Mean over the pictures."""
        return statistics.fmean(pair.ssim for pair in self.pairs)

    @property
    def lpips(self) -> float | None:
        """Mean over the pictures, if it was asked for."""
        found = [pair.lpips for pair in self.pairs if pair.lpips is not None]
        return statistics.fmean(found) if found else None

    def as_dict(self) -> dict[str, Any]:
        """For JSON; an infinite PSNR is None."""
        means = {"psnr": _finite(self.psnr), "ssim": self.ssim, "lpips": self.lpips}
        rows = [asdict(pair) | {"psnr": _finite(pair.psnr)} for pair in self.pairs]
        protocol = self.protocol.as_dict()
        return {"protocol": protocol, "means": means, "pairs": rows, "unmatched": self.unmatched}

    @classmethod
    def from_dict(cls, raw: Any) -> PairedFigures:
        """What `as_dict` gave; raises InputError, LookupError or TypeError for anything else."""
        known = {entry.name for entry in fields(Pair)}
        rows = [{name: row[name] for name in known} for row in raw["pairs"]]
        pairs = tuple(
            Pair(**row | {"psnr": math.inf if row["psnr"] is None else row["psnr"]}) for row in rows
        )
        return cls(pairs, PairedProtocol.from_dict(raw["protocol"]), int(raw["unmatched"]))


def compare_pairs(
    samples: str | Path,
    reference: str | Path,
    *,
    channels: int = 3,
    split: str = "train",
    lpips: Measure | None = None,
    lpips_net: str = "alex",
    max_skipped: float = 0.1,
    skipped_samples: dict[str, str] | None = None,
    skipped_reference: dict[str, str] | None = None,
    on_progress: OnProgress | None = None,
) -> PairedFigures:
    """Each sample against the reference picture of the same name, whatever the suffix.

    The reference is held in memory.

    Args:
        samples, reference: sources as in `data.sources.find_pictures`.
        channels, split: see `data.images.load_images`.
        lpips: such as `lpips_distance()` gives; by default LPIPS is left out.
        lpips_net: its network, for the protocol.
        max_skipped: largest share of unreadable files of either to put up with.
        skipped_samples, skipped_reference: receive the files that cannot be read, and why.
        on_progress: called with how many samples are done.

    Raises:
        InputError: a sample without a reference, two of one name, pictures of different sizes or
            smaller than 11 pixels a side, no samples, or too many unreadable files.
    """
    skipped_samples = {} if skipped_samples is None else skipped_samples
    skipped_reference = {} if skipped_reference is None else skipped_reference
    read = partial(stream, channels=channels, split=split)
    held = _by_key(read(reference, skipped=skipped_reference), str(reference))
    check_readable(str(reference), len(held), skipped_reference, max_skipped)
    lost = {_key(name) for name in skipped_reference}
    pairs: list[Pair] = []
    met: set[str] = set()
    seen = 0
    for image in read(samples, skipped=skipped_samples):
        seen += 1
        key = _key(image.name)
        if key in lost:
            continue
        if key not in held:
            raise InputError(
                f"the sample '{image.name}' has no picture of its name in '{reference}': name them "
                "alike, or leave --paired out"
            )
        if key in met:
            raise InputError(f"'{samples}' holds two pictures named '{key}': remove one")
        met.add(key)
        pairs.append(_pair(image, held[key], lpips))
        if on_progress is not None:
            on_progress(len(pairs), len(held))
    check_readable(str(samples), seen, skipped_samples, max_skipped)
    if not pairs:
        raise InputError(f"'{samples}' and '{reference}' hold no pair of readable pictures")
    protocol = PairedProtocol(
        len(pairs),
        set_digest(picture_digest(held[key]) for key in met),
        channels,
        "none" if lpips is None else lpips_net,
        package_version(),
    )
    return PairedFigures(tuple(pairs), protocol, len(held.keys() - met))


def _pair(image: NamedImage, other: NamedImage, lpips: Measure | None) -> Pair:
    a, b = (to_tensor(each.pixels)[None] for each in (image, other))
    if a.shape != b.shape:
        sizes = [f"{each.shape[3]}x{each.shape[2]}" for each in (a, b)]
        raise InputError(
            f"the sample '{image.name}' is {sizes[0]} pixels and its reference '{other.name}' "
            f"{sizes[1]}: bring them to one size"
        )
    seen = None if lpips is None else float(lpips(a, b))
    # Means take part in SSIM, so that the range must begin at 0.
    a, b = ((each.double() + 1) / 2 for each in (a, b))
    return Pair(image.name, float(psnr(a, b, 1.0)), float(ssim(a, b, 1.0)), seen)


def _by_key(pictures: Any, source: str) -> dict[str, NamedImage]:
    held: dict[str, NamedImage] = {}
    for image in pictures:
        key = _key(image.name)
        if key in held:
            raise InputError(f"'{source}' holds two pictures named '{key}': remove one")
        held[key] = image
    return held


def _key(name: str) -> str:
    return PurePosixPath(name).with_suffix("").as_posix()


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
