"""Demosaicing: three colours at each pixel of a raw picture that has one."""

from __future__ import annotations

from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from ..core.operators import ChannelSum, bayer
from ..core.plan import Run
from ..errors import InputError
from ..schema import DemosaicRequest, is_auto
from .base import Task, TaskInput, TaskOutput
from .measured import reconstructed

# Malvar, He and Cutler (2004), figure 2, eighths: green at red or blue; red or blue at green, its
# like beside it; and at the other of the two. A green with its like above and below has the
# second's transpose.
_GREEN = ((0, 0, -1, 0, 0), (0, 0, 2, 0, 0), (-1, 2, 4, 2, -1), (0, 0, 2, 0, 0), (0, 0, -1, 0, 0))
_BESIDE = (
    (0, 0, 0.5, 0, 0),
    (0, -1, 0, -1, 0),
    (-1, 4, 5, 4, -1),
    (0, -1, 0, -1, 0),
    (0, 0, 0.5, 0, 0),
)
_ACROSS = (
    (0, 0, -1.5, 0, 0),
    (0, 2, 0, 2, 0),
    (-1.5, 0, 6, 0, -1.5),
    (0, 2, 0, 2, 0),
    (0, 0, -1.5, 0, 0),
)
_FIRST_8BIT, _LAST_8BIT = 8.0, 0.1


def interpolated(mosaic: Tensor, weights: Tensor) -> Tensor:
    """A first guess by linear filters (Malvar, He and Cutler, 2004): (1,3,H,W).

    Args:
        mosaic: (1,1,H,W).
        weights: of `bayer`, (1,3,H,W).
    """
    beside = torch.tensor(_BESIDE)
    kernels = torch.stack([torch.tensor(_GREEN), beside, beside.mT, torch.tensor(_ACROSS)]) / 8
    padded = F.pad(mosaic, (2, 2, 2, 2), "reflect")
    filtered, known = F.conv2d(padded, kernels.to(mosaic)[:, None]), weights.to(mosaic)
    green, along, down, across = (filtered[:, k : k + 1] for k in range(4))
    red, blue = known[:, :1], known[:, 2:]

    def spread(own: Tensor, other: Tensor) -> Tensor:
        in_its_rows = own.amax(-1, keepdim=True) > 0
        at_green = torch.where(in_its_rows, along, down)
        return torch.where(own > 0, mosaic, torch.where(other > 0, across, at_green))

    at_green = torch.where(known[:, 1:2] > 0, mosaic, green)
    return torch.cat([spread(red, blue), at_green, spread(blue, red)], 1)


def demosaic(request: DemosaicRequest, source: TaskInput, run: Run) -> TaskOutput:
    """Estimate the mean, or sample, held to the mosaic in every step."""
    if not source.grey:
        raise InputError("the picture has colours already: give a raw picture, of one channel")
    if source.model_channels < 3:
        raise InputError(
            f"the model knows {source.model_channels} channel, and demosaicing makes three: use a "
            "model of colours"
        )
    if min(source.size) < 4:
        raise InputError(f"the raw picture has {source.size} pixels: give 4 x 4 at least")
    if is_auto(request.noise_level_8bit):
        raise InputError(
            "noise_level_8bit is 'auto', and noise cannot be told from the pattern of a raw "
            "picture: give a number or a map"
        )
    operator: ChannelSum = bayer(request.pattern, *source.size)
    mosaic = source.image[:, :1]
    start = interpolated(mosaic, operator.weights)
    levels = _FIRST_8BIT / 127.5, _LAST_8BIT / 127.5
    output = reconstructed(
        request, source, run, operator, mosaic, start, levels, guidance=request.guidance
    )
    return replace(output, coloured=True)


TASK = Task(DemosaicRequest, demosaic, "give each pixel of a raw picture its three colours")
