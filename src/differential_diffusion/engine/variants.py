"""Labelled variants of labelled pictures, to train classifiers on where labels are few."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ..core.noise import derive_seed
from ..errors import InputError
from ..maps import make_map
from ..models import Model
from .samples import SampleSettings, checked, pixels_of, sample_tensors

__all__ = ["protecting_map", "vary"]

_STREAM = 11


def vary(
    model: Model,
    pixels: NDArray[np.uint8],
    count: int,
    *,
    label: str | None = None,
    strength: float | NDArray[np.floating[Any]] = 0.5,
    guidance_scale: float | None = None,
    steps: int = 20,
    solver: str = "ancestral",
    seed: int = 0,
) -> Iterator[NDArray[np.uint8]]:
    """Variants of a picture that keep its class: noised as far as the strength says, and sampled.

    What is asked is checked at once.

    Where the strength is 0 they are the picture itself, to the bit. With a model of classes the
    rest is drawn as of the same class; a class that the model does not know is not told.

    Args:
        model: a denoiser.
        pixels: (H,W,C) uint8.
        count: how many variants.
        label: the picture's class.
        strength: how much may change, in [0,1], or a map (H,W).
        guidance_scale: see `DenoiserModel.given`; by default the model's own.
        steps, solver: of the sampling; a solver that draws noise makes variants differ more.
        seed: of all variants.

    Raises:
        InputError: for a model that is no denoiser, a picture or map that does not fit it, or
            guidance without a class that it knows.
    """
    image = torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None].float() / 127.5 - 1
    much = torch.as_tensor(strength, dtype=torch.float32)
    if much.ndim not in (0, 2) or (much.ndim == 2 and much.shape != image.shape[-2:]):
        raise InputError(
            f"strength has the shape {tuple(much.shape)} and the picture {pixels.shape}: give a "
            "number or a map of its height and width"
        )
    settings = SampleSettings(
        steps=steps,
        solver=solver,
        image=image,
        strength=much if much.ndim == 0 else much[None, None],
        guidance_scale=guidance_scale,
    )
    known = label is not None and label in getattr(model, "classes", ())
    told = [label] * count if known and label is not None else None
    denoiser = checked(model, settings, count, 1, told)
    seeds = [derive_seed(_STREAM, seed, index) for index in range(count)]
    kept = (much == 0).numpy() & np.ones(pixels.shape[:2], bool)

    def drawn() -> Iterator[NDArray[np.uint8]]:
        for one in pixels_of(sample_tensors(denoiser, seeds, told, settings)):
            one[kept] = pixels[kept]
            yield one

    return drawn()


def protecting_map(
    pixels: NDArray[np.uint8], source: str, strength: float, settings: Mapping[str, Any]
) -> NDArray[np.float32]:
    """A map that lets change what a source of maps does not find: strength (1 - found), (H,W).

    Args:
        pixels: (H,W,C) uint8.
        source: a name in `MAPS` whose maps are high on the object, such as "saliency".
        strength: of what may change most.
        settings: of the source.

    Raises:
        InputError: for a strength outside [0, 1], or as `make_map`.
    """
    if not 0 <= strength <= 1:
        raise InputError(f"strength must lie in [0, 1], not be {strength:g}.")
    colours = pixels if pixels.shape[2] == 3 else np.repeat(pixels[..., :1], 3, axis=2)
    found = make_map(source, (colours / 127.5 - 1).astype(np.float32), settings).array
    return (strength * (1 - found)).astype(np.float32)
