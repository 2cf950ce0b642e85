"""Average a denoiser over turned and mirrored views of the picture."""

from __future__ import annotations

import torch
from torch import Tensor

from .grid import to_whole_strides
from .types import Denoiser

__all__ = ["MAX_VIEWS", "average_views"]

# Transposed, flipped in height, flipped in width. Of two views, those that differ most.
_SYMMETRIES = (
    (False, False, False),
    (True, True, True),
    (False, True, True),
    (True, False, False),
    (False, True, False),
    (False, False, True),
    (True, True, False),
    (True, False, True),
)
MAX_VIEWS = len(_SYMMETRIES)


def average_views(denoise: Denoiser, views: int, *, stride: int = 1) -> Denoiser:
    """The mean of a denoiser's estimates for several of the eight symmetries of the square.

    A trained network answers each view a little differently; their mean errs less, for as many
    times the work (Timofte, Rothe and Van Gool, "Seven ways to improve example-based single image
    super resolution", CVPR 2016, there called enhanced prediction).

    The picture is first extended to whole strides, so that a network that works on a grid sees one
    grid in every view: crops that start on that grid still give the numbers of the whole.

    Args:
        denoise: D(x, σ).
        views: 1 (`denoise` as it is) to 8.
        stride: of the network's grid, in pixels.

    Raises:
        ValueError: views is not 1 to 8.
    """
    if not 1 <= views <= MAX_VIEWS:
        raise ValueError(f"views is {views}: give 1 to {MAX_VIEWS}")
    if views == 1:
        return denoise

    def averaged(x: Tensor, sigma: Tensor) -> Tensor:
        height, width = x.shape[-2:]
        if sigma.shape[-2:] != (1, 1):
            sigma = to_whole_strides(sigma.expand(-1, -1, height, width), stride)
        x = to_whole_strides(x, stride)
        mean = torch.zeros_like(x)
        for count, symmetry in enumerate(_SYMMETRIES[:views], start=1):
            estimate = denoise(_seen(x, *symmetry), _seen(sigma, *symmetry))
            # A running mean, so that where all views agree it is what they say, bit for bit.
            mean += (_seen_back(estimate, *symmetry) - mean) / count
        return mean[..., :height, :width]

    return averaged


def _seen(x: Tensor, transposed: bool, upside_down: bool, mirrored: bool) -> Tensor:
    x = x.mT if transposed else x
    return _flipped(x, upside_down, mirrored).contiguous()


def _seen_back(x: Tensor, transposed: bool, upside_down: bool, mirrored: bool) -> Tensor:
    x = _flipped(x, upside_down, mirrored)
    return x.mT if transposed else x


def _flipped(x: Tensor, upside_down: bool, mirrored: bool) -> Tensor:
    return x.flip([axis for axis, flip in ((-2, upside_down), (-1, mirrored)) if flip])
