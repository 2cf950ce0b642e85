"""Colours painted on a picture: hints of what its colours are, and how sure they are."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..images import read

__all__ = ["colour_hints"]

_COLOURED = 8 / 255
"""Difference between a pixel's channels from which on it counts as painted."""


def colour_hints(value: Any) -> tuple[Tensor, Tensor]:
    """The colours that a picture of hints has, and where: (1,3,H,W) in [-1,1], (1,1,H,W) in [0,1].

    Where the picture is transparent there is no hint, and where it is partly so, half a one. A
    picture that is opaque everywhere, such as the grey one with strokes painted on it, has hints
    where it is coloured: where its channels differ by 8 of 255 or more.

    Args:
        value: a path, PIL image, array or tensor, see `images.read`.

    Raises:
        InputError: what is no picture.
    """
    picture = read(value)
    colours = picture.tensor()
    if picture.is_transparent:
        return colours, torch.from_numpy(picture.opacity())[None, None]
    spread = colours.amax(1, keepdim=True) - colours.amin(1, keepdim=True)
    return colours, (spread >= 2 * _COLOURED).float()
