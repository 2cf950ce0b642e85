"""Generation: every pixel may change completely, so that nothing of a picture is left."""

from __future__ import annotations

import torch

from ..core.plan import Plan, Run
from ..schema import GenerateRequest
from .base import Task, TaskInput, TaskOutput, plan_options


def generate(request: GenerateRequest, source: TaskInput, run: Run) -> TaskOutput:
    """Sample from pure noise over the whole picture, whose pixels are only its size."""
    everywhere = torch.ones(1, 1, *source.size)
    samples = run(Plan(source.image, everywhere, **plan_options(request)))
    return TaskOutput(samples, everywhere == 0, everywhere)


TASK = Task(GenerateRequest, generate, "make a picture from a prompt, or from nothing")
