"""Strength by what each pixel shows, as a model of semantic segmentation sees it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from . import _check
from ._classes import strengths_of
from ._loaded import Loaded, fit
from ._transformers import SEGMENTATION, load
from .strength import StrengthMap

__all__ = ["class_scores", "segmentation"]


def segmentation(
    image: NDArray[np.floating],
    *,
    model: Any,
    classes: Mapping[str, float],
    default: float = 0.0,
    soft: bool = True,
    device: str | None = None,
) -> StrengthMap:
    """A strength for each class of things, such as sky or person, with a segmentation model.

    With p_c the model's probability that a pixel shows class c, the strength is
    Σ_c p_c s_c, where s_c is the strength given for c or else the default: between two classes it
    goes over as softly as the model is unsure. Where not soft, it is s_c of the likeliest c.

    Args:
        image: (H,W,3), or (H,W,1) or (H,W) for grey, floats in [-1, 1].
        model: a semantic segmentation model of transformers, such as SegFormer, BEiT, DPT,
            UPerNet, MaskFormer or Mask2Former: a folder, a name on the Hub, a pipeline, or a pair
            (model, processor).
        classes: strengths in [0, 1] by names of the model's classes, in any case; a label such as
            "person, individual" goes by either name too.
        default: strength of all other classes, in [0, 1].
        soft: mix strengths by probability.
        device: where the model runs; chosen by default.

    Raises:
        InputError: a bad picture or number, a class that the model does not know, or a model that
            is not there or of another kind.
        MissingExtraError: the extra 'maps' is not installed.
    """
    image = _check.picture(image)
    default, soft = _check.number("default", default, 0, 1), _check.flag("soft", soft)
    loaded = load(SEGMENTATION, model, device)
    strengths = strengths_of(classes, loaded.labels, loaded.name)
    scores, probabilities = class_scores(loaded, image)
    height, width = image.shape[:2]
    if soft:
        above = torch.zeros(probabilities.shape[1:])
        for index, strength in strengths.items():
            above += (strength - default) * probabilities[index]
        made = fit(default + above, height, width)
    else:
        of_class = np.full(len(scores) + 1, default, np.float32)
        of_class[list(strengths)] = list(strengths.values())
        made = of_class[_likeliest(scores, height, width)]
    return StrengthMap(np.clip(made, 0, 1))


def class_scores(loaded: Loaded, image: NDArray[np.float32]) -> tuple[Tensor, Tensor]:
    """Scores (C,h,w), of which the largest and positive wins, and probabilities (C,h,w).

    Models of pixels give logits, of which one alone is a logit of its class against none.
    MaskFormer and its like give classes and masks for each query: Cheng et al., "Per-Pixel
    Classification is Not All You Need for Semantic Segmentation" (2021), section 3.4.
    """
    outputs = loaded.run(image)
    if hasattr(outputs, "masks_queries_logits"):
        classes = loaded.tensor(outputs, "class_queries_logits", 3)[0].softmax(-1)[:, :-1]
        masks = loaded.tensor(outputs, "masks_queries_logits", 4)[0].sigmoid()
        scores = torch.einsum("qc,qhw->chw", classes, masks)
        probabilities = scores / scores.sum(0).clamp(min=1)  # what is left is no class
    else:
        logits = loaded.tensor(outputs, "logits", 4)[0]
        single = len(logits) == 1
        probabilities = logits.sigmoid() if single else logits.softmax(0)
        scores = logits if single else logits - logits.min() + 1
    if not set(range(len(scores))) >= set(loaded.labels):
        raise loaded.wrong_kind()
    return scores, probabilities


def _likeliest(scores: Tensor, height: int, width: int) -> NDArray[np.intp]:
    """The class with the largest score at each pixel of the picture, or -1 where none is positive.

    One class is enlarged at a time: all of them at once would fill the memory.
    """
    best = np.zeros((height, width), np.float32)
    winner = np.full((height, width), -1, np.intp)
    for index, score in enumerate(scores):
        value = fit(score, height, width)
        better = value > best
        best[better], winner[better] = value[better], index
    return winner
