"""The coefficients of a JPEG file from the pixels that it was decoded to."""

from __future__ import annotations

import torch
from torch import Tensor

from .jpeg import Coefficients, Jpeg

__all__ = ["coefficients_of_decoded"]


def coefficients_of_decoded(x: Tensor, jpeg: Jpeg) -> Coefficients:
    """The coefficients that libjpeg decoded to x, as well as they can be told.

    Pixels were rounded and clipped, which rarely moves a coefficient by half a step unless quality
    is high or the picture burnt out. Colour that has one sample for two pixels was interpolated
    between these (3/4 of the nearer, 1/4 of the farther), which is undone here. Of a block that
    the picture does not fill, what lay beyond is taken for a repetition of its border.

    Args:
        x: (B,C,H,W) in [-1,1], as decoded.
        jpeg: the operator of the file's format and the picture's size.
    """
    planes = []
    for plane, (down, across) in zip(jpeg.planes(x), jpeg.form.factors, strict=True):
        plane = _sharpened(plane.mT, down).mT
        planes.append(_sharpened(plane, across))
    return tuple(steps.round() for steps in jpeg.steps_of(planes))


def _sharpened(plane: Tensor, factor: int) -> Tensor:
    """Interpolated samples (...,n) as repeated ones, where there is one for two.

    The means of pairs of pixels are 3/4 of their sample and 1/8 of those beside it; at an end the
    sample stands for its neighbour.
    """
    pixels = plane.shape[-1]
    samples = -(-pixels // 2)
    if factor != 2 or samples < 3:
        return plane
    even = plane if pixels % 2 == 0 else torch.cat([plane, plane[..., -1:]], -1)
    means = even.reshape(*even.shape[:-1], samples, 2).mean(-1)
    blur = torch.eye(samples) * 0.75
    beside = torch.arange(samples - 1)
    blur[beside, beside + 1] = blur[beside + 1, beside] = 0.125
    blur[0, 0] = blur[-1, -1] = 0.875
    if pixels % 2:  # the last pair is the nearer pixel twice
        blur[-1, -2:] = torch.tensor([0.25, 0.75])
    solved: Tensor = torch.linalg.solve(blur.to(means), means.transpose(-2, -1)).transpose(-2, -1)
    return solved.repeat_interleave(2, -1)[..., :pixels]
