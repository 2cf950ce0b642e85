"""What finds the features by which two sets of pictures are compared, by name.

Figures of different extractors do not compare, nor those of one extractor with other weights: each
has a hash that says what it is made of.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ..core.noise import PositionalNoise
from ..errors import InputError, on_one_line
from ..models import prior_network
from ..models.computed import digest, weights_digest
from ..models.device import choose_device

__all__ = ["EXTRACTORS", "Extractor", "load_extractor"]

Features = Callable[[Tensor], Tensor]
Numbers = NDArray[np.float32]

PRIOR_SIGMA = 0.1
"""Noise level at which the prior sees pictures, on [-1,1]: about 13/255."""

_PATH = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")


@dataclass(frozen=True)
class Extractor:
    """Finds features in pictures.

    Attributes:
        name: what it was asked for as, less the places of files.
        hash: of its definition and weights, 16 hexadecimal digits.
        features: pictures (B,C,H,W) in [-1,1] to (B,D), on the CPU or the device of its weights.
        size: side that the middle square of each picture is brought to before; None for pictures as
            they are.
        rule: what it does with their size itself, in words.
        is_inception: whether its Fréchet distance is called FID.
    """

    name: str
    hash: str
    features: Features = field(repr=False)
    size: int | None = None
    rule: str = "as they are"
    is_inception: bool = False

    @property
    def resize(self) -> str:
        """How pictures are brought to size, in words."""
        if self.size is None:
            return self.rule
        return f"middle square to {self.size}x{self.size} (area down, cubic up)"

    def __call__(self, pictures: Tensor) -> Numbers:
        """Features (B,D) of pictures (B,C,H,W) in [-1,1].

        Raises:
            InputError: pictures of another shape, or features that are no finite (B,D).
        """
        if pictures.ndim != 4 or not pictures.numel():
            raise InputError(f"the pictures have the shape {tuple(pictures.shape)}: give (B,C,H,W)")
        with torch.no_grad():
            found = self.features(pictures)
        if not isinstance(found, Tensor) or found.ndim != 2 or len(found) != len(pictures):
            shape = tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__
            raise InputError(
                f"the extractor '{self.name}' gives {shape} for {len(pictures)} pictures: it must "
                "give one row of numbers for each"
            )
        numbers: Numbers = found.float().cpu().numpy()
        if not np.isfinite(numbers).all():
            raise InputError(
                f"the extractor '{self.name}' gives NaN or infinity: check its weights, or choose "
                "another"
            )
        return numbers


def load_extractor(name: str, device: str | None = None) -> Extractor:
    """The extractor of a name.

    Args:
        name: a name in `EXTRACTORS`, with a colon and what it takes after it, such as "pixels:32"
            or "transformers:facebook/dinov2-small"; or "package.module:function" for one of your
            own. That takes pictures (B,C,H,W) in [-1,1] and returns features (B,D); its attributes
            `size` (side in pixels) and `hash` (text, by default of the file that it stands in and
            of the weights of a module) are heeded, if it has them. An `nn.Module` is moved to the
            device, and its pictures too.
        device: where its weights lie; by default the best present.

    Raises:
        InputError: for a name that stands for none.
        MissingExtraError: for one whose packages are not installed.
    """
    kind, _, rest = name.partition(":")
    if kind in EXTRACTORS:
        return EXTRACTORS[kind](name, rest, choose_device(device))
    if _PATH.fullmatch(name):
        return _own(name, choose_device(device))
    raise InputError(
        f"the extractor '{name}' is not known: use {', '.join(EXTRACTORS)}, or name a function of "
        "your own as package.module:function"
    )


def _side(name: str, rest: str, default: int, least: int) -> int:
    if not rest:
        return default
    if not rest.isdecimal() or int(rest) < least:
        kind = name.partition(":")[0]
        raise InputError(
            f"the extractor '{name}' names no side in pixels: give a whole number of at least "
            f"{least} after the colon, such as {kind}:{default}"
        )
    return int(rest)


def _pixels(name: str, rest: str, device: torch.device) -> Extractor:
    """The pixels of a small version, one after the other, in [-1,1]; 16 pixels a side."""
    side = _side(name, rest, 16, 1)
    return Extractor(name, digest("pixels/1", str(side)), lambda x: x.flatten(1), side)


def _prior(name: str, rest: str, device: torch.device) -> Extractor:
    """Mean and deviation of each channel after each encoder stage of the bundled prior.

    Pictures of 64 pixels a side get noise of σ = 0.1, the same for all, and go through the
    network; from each stage of its encoder the mean over positions of every channel is taken, then
    the deviation: 2 (64 + 128 + 160) = 704 numbers.
    """
    side = _side(name, rest, 64, 8)
    network, described = prior_network()
    weights = weights_digest(network.state_dict())
    network = network.to(device).requires_grad_(False)
    denoiser = described.form.denoiser(network)
    encoder = network.get_submodule("encoder")
    assert isinstance(encoder, nn.ModuleList)

    def features(x: Tensor) -> Tensor:
        seen: list[Tensor] = []

        def keep(_module: nn.Module, _given: Any, out: Tensor) -> None:
            deviation, mean = torch.std_mean(out.flatten(2), dim=2, correction=0)
            seen.extend([mean, deviation])

        handles = [stage.register_forward_hook(keep) for stage in encoder]
        try:
            x = _coloured(x, name).to(device, torch.float32)
            noise = PositionalNoise([0], *x.shape[1:])(0).to(device)
            denoiser(x + PRIOR_SIGMA * noise, x.new_full((1, 1, 1, 1), PRIOR_SIGMA))
        finally:
            for handle in handles:
                handle.remove()
        return torch.cat(seen, dim=1)

    return Extractor(name, digest("prior/1", str(PRIOR_SIGMA), str(side), weights), features, side)


def _inception(name: str, rest: str, device: torch.device) -> Extractor:
    """The 2048 features of Inception that FID is defined with, by torch-fidelity."""
    from ._inception import load

    features, weights = load(rest, device)
    return Extractor(
        "inception",
        digest("inception/1", weights),
        lambda x: features(_bytes(_coloured(x, name))),
        rule="bilinear to 299x299, as in TensorFlow 1",
        is_inception=True,
    )


def _transformers(name: str, rest: str, device: torch.device) -> Extractor:
    """What a vision model of transformers says of each picture as a whole."""
    from ._transformers import load

    features, described = load(rest, device)
    folder = Path(rest).expanduser()
    return Extractor(
        f"transformers:{folder.resolve().name if folder.is_dir() else rest}",
        digest("transformers/1", described),
        lambda x: features(_bytes(_coloured(x, name))),
        rule="by the model's own processor",
    )


def _own(name: str, device: torch.device) -> Extractor:
    """A function that the user wrote."""
    place, _, attribute = name.partition(":")
    try:
        module = import_module(place)
        found = getattr(module, attribute)
    except Exception as error:  # whatever the user's file does
        why = on_one_line(f"{type(error).__name__}: {error}")
        raise InputError(
            f"the extractor '{name}' cannot be imported ({why}): check its name, its file, and "
            "that Python finds its package"
        ) from None
    if not callable(found):
        raise InputError(f"the extractor '{name}' is no function: name one that takes pictures")
    size = getattr(found, "size", None)
    if size is not None and (not isinstance(size, int) or size < 1):
        raise InputError(f"the extractor '{name}' has the size {size!r}: give pixels, or leave out")
    told = digest("own/1", str(size), _described(name, module, found))
    return Extractor(name, told, _on(device, found), size)


def _on(device: torch.device, found: Any) -> Features:
    """A function as it is; a network on a device, to which its pictures are brought."""
    if not isinstance(found, nn.Module):
        return cast(Features, found)
    network = found.to(device).eval()
    return lambda x: network(x.to(device))


def _described(name: str, module: ModuleType, found: Any) -> str:
    """The text that tells one function of the user from another."""
    if isinstance(getattr(found, "hash", None), str):
        return str(found.hash)
    weights = weights_digest(found.state_dict()) if isinstance(found, nn.Module) else ""
    try:
        code = found if inspect.isroutine(found) else type(found)
        files = [Path(str(module.__file__)), Path(inspect.getfile(code))]
        return weights + digest(*(file.read_bytes() for file in files))
    except (OSError, TypeError, AttributeError):
        raise InputError(
            f"the extractor '{name}' has no source to tell it by: give it an attribute hash, a text"
        ) from None


def _coloured(x: Tensor, name: str) -> Tensor:
    """Grey pictures as coloured ones, (B,3,H,W)."""
    if x.shape[1] not in (1, 3):
        raise InputError(
            f"the extractor '{name}' takes pictures of 1 or 3 channels, not {x.shape[1]}: use "
            "pixels, or a function of your own"
        )
    return x.expand(-1, 3, -1, -1)


def _bytes(x: Tensor) -> Tensor:
    """Pictures in [-1,1] as uint8."""
    return ((x.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)


EXTRACTORS: dict[str, Callable[[str, str, torch.device], Extractor]] = {
    "pixels": _pixels,
    "prior": _prior,
    "inception": _inception,
    "transformers": _transformers,
}
"""Extractors by name; each is made of its full name, what follows its colon, and a device."""
