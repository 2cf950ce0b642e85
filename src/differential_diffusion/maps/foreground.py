"""Strength on the main thing in a picture, as a model that tells it from the background sees it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError
from . import _check
from ._classes import find_class
from ._loaded import fit
from ._transformers import SEGMENTATION, load
from .image_segmentation import class_scores
from .strength import StrengthMap

__all__ = ["salient_object"]

_BACKGROUND = {"background", "back ground", "bg", "unlabeled", "unlabelled"}


def salient_object(
    image: NDArray[np.floating],
    *,
    model: Any,
    foreground: str | Sequence[str] | None = None,
    strength: float = 1.0,
    default: float = 0.0,
    device: str | None = None,
) -> StrengthMap:
    """The foreground, softly, with a model that tells it from the background.

    With p the probability of the foreground, the strength is default + (strength - default) p.

    Models are those of semantic segmentation that transformers has itself (SegFormer, BEiT, DPT,
    UPerNet, MobileViT, MaskFormer, Mask2Former): with one class, the foreground; with a class
    called background, all the others are the foreground; otherwise name its classes. Models of
    masks without classes (SAM) do not say which mask is the foreground, and models that bring
    code of their own (BiRefNet, RMBG) are not loaded: run those yourself and give the mask as an
    array.

    Args:
        image: (H,W,3), or (H,W,1) or (H,W) for grey, floats in [-1, 1].
        model: a model of segmentation as above: a folder, a name on the Hub, a pipeline, or a pair
            (model, processor).
        foreground: the class or classes of the model that are the foreground; by default its
            only class, or all but the background.
        strength: of the foreground, in [0, 1].
        default: strength of the background, in [0, 1].
        device: where the model runs; chosen by default.

    Raises:
        InputError: a bad picture or number, a model whose foreground is not known, or one that is
            not there or of another kind.
        MissingExtraError: the extra 'maps' is not installed.
    """
    image = _check.picture(image)
    strength = _check.number("strength", strength, 0, 1)
    default = _check.number("default", default, 0, 1)
    loaded = load(SEGMENTATION, model, device)
    chosen = _foreground(foreground, loaded.labels, loaded.name)
    _, probabilities = class_scores(loaded, image)
    p = fit(probabilities[chosen].sum(0), *image.shape[:2])
    return StrengthMap(np.clip(default + np.float32(strength - default) * p, 0, 1))


def _foreground(named: Any, labels: Mapping[int, str], model: str) -> list[int]:
    """The numbers of the classes that are the foreground."""
    if named is not None:
        names = [named] if isinstance(named, str) else named
        if not isinstance(names, list | tuple) or not names:
            raise InputError(f"foreground is {named!r}: give the name of a class, or a list.")
        return sorted({index for name in names for index in find_class(name, labels, model)})
    if len(labels) == 1:
        return list(labels)
    behind = [index for index, label in labels.items() if label.strip().casefold() in _BACKGROUND]
    if not behind or len(behind) == len(labels):
        shown = ", ".join(f"'{label}'" for label in list(labels.values())[:6])
        raise InputError(
            f"the model {model} has no class called background: say which of its classes are the "
            f"foreground ({shown}...) with foreground='name'."
        )
    return [index for index in labels if index not in behind]
