"""How figures came about, and whether those of two results compare."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from importlib import metadata
from typing import Any, TypeVar

from ..errors import InputError

__all__ = ["PairedProtocol", "Protocol", "comparable", "package_version"]

E = TypeVar("E", bound="_Entries")


@dataclass(frozen=True)
class _Entries:
    """Numbers and texts that go to JSON and back."""

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls: type[E], raw: Any) -> E:
        """What `as_dict` gave.

        Raises:
            InputError: for anything else.
        """
        kinds = {entry.name: entry.type for entry in fields(cls)}
        if not isinstance(raw, dict) or set(raw) != set(kinds):
            raise InputError(f"a protocol has the entries {', '.join(kinds)} and no others")
        for name, kind in kinds.items():
            if not isinstance(raw[name], int if kind == "int" else str):
                raise InputError(f"the protocol's {name} is {raw[name]!r}, no {kind}")
        return cls(**raw)


@dataclass(frozen=True)
class Protocol(_Entries):
    """What figures of one extractor depend on besides the samples.

    Attributes:
        extractor, extractor_hash: what found the features.
        resize: how pictures were brought to size for it.
        samples, reference: how many pictures there were of each.
        reference_digest: tells one reference set from another, by names and pixels.
        channels: of the pictures, as they were read.
        subset, subsets: of the kernel distance.
        neighbours: k of precision, recall, density and coverage.
        seed: of the subsets.
        version: of this package.
    """

    extractor: str
    extractor_hash: str
    resize: str
    samples: int
    reference: int
    reference_digest: str
    channels: int
    subset: int
    subsets: int
    neighbours: int
    seed: int
    version: str


@dataclass(frozen=True)
class PairedProtocol(_Entries):
    """What figures of pairs depend on besides the samples.

    Attributes:
        pairs: how many there are.
        reference_digest: tells the reference pictures of these pairs from others.
        channels: of the pictures, as they were read.
        lpips: the network of LPIPS; "none" without.
        version: of this package.
    """

    pairs: int
    reference_digest: str
    channels: int
    lpips: str
    version: str


_WORDS = {
    "pairs": "numbers of pairs",
    "extractor": "extractors",
    "extractor_hash": "weights or definitions of the extractor",
    "resize": "ways of resizing",
    "samples": "numbers of samples",
    "reference": "numbers of reference pictures",
    "reference_digest": "reference sets",
    "channels": "numbers of channels",
    "subset": "subset sizes of the kernel distance",
    "subsets": "numbers of subsets of the kernel distance",
    "neighbours": "numbers of neighbours",
    "seed": "seeds",
    "lpips": "networks of LPIPS",
    "version": "versions of the package",
}


def comparable(a: _Entries, b: _Entries) -> str | None:
    """None where figures of these protocols compare, else one sentence that says why not."""
    mine, other = a.as_dict(), b.as_dict()
    differ = [name for name in _WORDS if mine.get(name) != other.get(name)]
    if not differ:
        return None
    said = [f"{_WORDS[name]} ({mine[name]} and {other[name]})" for name in differ]
    listed = " and ".join([", ".join(said[:-1]), said[-1]] if len(said) > 1 else said)
    return f"the figures were made with different {listed}: evaluate both sets the same way"


def package_version() -> str:
    """Version of this package as it is installed."""
    try:
        return metadata.version("differential-diffusion")
    except metadata.PackageNotFoundError:
        return "unknown"
