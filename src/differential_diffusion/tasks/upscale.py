"""Upscaling: the large pictures that, made small again, are the one given."""

from __future__ import annotations

import torch.nn.functional as F

from ..core.operators import BlockAverage, LinearOperator, bicubic
from ..core.plan import Run
from ..schema import UpscaleRequest
from .base import Task, TaskInput, TaskOutput
from .measured import reconstructed


def upscale(request: UpscaleRequest, source: TaskInput, run: Run) -> TaskOutput:
    """Estimate the mean, or sample, held to the small picture in every step."""
    factor, small = request.factor, source.image
    height, width = (factor * side for side in source.size)
    shrink: LinearOperator = (
        bicubic(height, width, factor) if request.kernel == "bicubic" else BlockAverage(factor)
    )
    large = F.interpolate(small, (height, width), mode="bicubic", align_corners=False)
    return reconstructed(request, source, run, shrink, small, large, guidance=request.guidance)


TASK = Task(UpscaleRequest, upscale, "enlarge a picture two, three, four or eight times")
