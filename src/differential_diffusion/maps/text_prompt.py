"""Strength where a picture shows what a text names."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ..errors import InputError
from . import _check
from ._loaded import fit
from ._transformers import TEXT, load
from .strength import StrengthMap

__all__ = ["text_region"]


def text_region(
    image: NDArray[np.floating],
    *,
    model: Any,
    text: str | Sequence[str],
    strength: float = 1.0,
    default: float = 0.0,
    black: float = 0.0,
    white: float = 1.0,
    threshold: float | None = None,
    device: str | None = None,
) -> StrengthMap:
    """The region that a text names, such as "the red car", with CLIPSeg.

    With p the sigmoid of the model's output, of several texts the largest, p is stretched from
    [black, white] to [0, 1], becomes 0 or 1 where there is a threshold, and the strength is
    default + (strength - default) p. Lüddecke and Ecker, "Image Segmentation Using Text and Image
    Prompts" (2022).

    Args:
        image: (H,W,3), or (H,W,1) or (H,W) for grey, floats in [-1, 1].
        model: a CLIPSeg model of transformers: a folder, a name on the Hub, or a pair
            (model, processor).
        text: what to find, or a list of such texts.
        strength: where the picture shows it, in [0, 1].
        default: strength elsewhere, in [0, 1].
        black: p up to here counts as 0; in [0, 1].
        white: p from here on counts as 1; above `black`. CLIPSeg is seldom sure: 0.5 or less
            often fits.
        threshold: if given, p from here on is 1 and below it 0; in (0, 1].
        device: where the model runs; chosen by default.

    Raises:
        InputError: a bad picture, text or number, or a model that is not there or of another kind.
        MissingExtraError: the extra 'maps' is not installed.
    """
    image = _check.picture(image)
    strength = _check.number("strength", strength, 0, 1)
    default = _check.number("default", default, 0, 1)
    texts = _texts(text)
    found = StrengthMap.constant(0, *image.shape[:2])
    _adjusted(found, black, white, threshold)  # refuses bad settings before the model is loaded
    loaded = load(TEXT, model, device)
    for each in texts:
        logits = loaded.tensor(loaded.run(image, **loaded.tokens(each)), "logits", 2, 3)
        values = torch.sigmoid(logits.reshape(logits.shape[-2:]))
        found |= StrengthMap(np.clip(fit(values, *image.shape[:2]), 0, 1))
    p = _adjusted(found, black, white, threshold).array
    return StrengthMap(np.clip(default + np.float32(strength - default) * p, 0, 1))


def _adjusted(
    found: StrengthMap, black: float, white: float, threshold: float | None
) -> StrengthMap:
    found = found.levels(black, white)
    return found if threshold is None else found.threshold(threshold)


def _texts(text: Any) -> list[str]:
    texts = [text] if isinstance(text, str) else text
    if (
        not isinstance(texts, list | tuple)
        or not texts
        or not all(isinstance(each, str) and each.strip() for each in texts)
    ):
        raise InputError(f"text is {text!r}: give a few words, such as 'the red car'.")
    return list(texts)
