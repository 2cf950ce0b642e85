"""Upscaling: the large pictures that, made small again, are the one given."""

from __future__ import annotations

from functools import partial

import torch
import torch.nn.functional as F

from ..core.guidance import data_consistency
from ..core.operators import BlockAverage, LinearOperator, bicubic
from ..core.plan import Plan, Run
from ..schema import UpscaleRequest
from .base import Task, TaskInput, TaskOutput, plan_options
from .measured import ROUNDING, posterior_mean


def upscale(request: UpscaleRequest, source: TaskInput, run: Run) -> TaskOutput:
    """Estimate the mean, or sample, held to the small picture in every step."""
    factor, small = request.factor, source.image
    height, width = (factor * side for side in source.size)
    shrink: LinearOperator = (
        bicubic(height, width, factor) if request.kernel == "bicubic" else BlockAverage(factor)
    )
    large = F.interpolate(small, (height, width), mode="bicubic", align_corners=False)
    noise = max(request.noise_level_8bit / 127.5, ROUNDING)
    everywhere = torch.ones(1, 1, height, width)
    mean = None
    if request.estimate == "mean":
        mean = posterior_mean(run, shrink, small, large, noise, request.passes, request.seed)
    if mean is not None and request.samples == 1:
        return TaskOutput(mean, everywhere == 0, everywhere, mean=mean)
    seen = small[:, : source.model_channels]
    guide = partial(data_consistency, operator=shrink, y=seen, noise_sigma=noise)
    samples = run(Plan(large, everywhere, guide=guide, **plan_options(request)))
    return TaskOutput(samples, everywhere == 0, everywhere, mean=mean)


TASK = Task(UpscaleRequest, upscale, "enlarge a picture two, three or four times")
