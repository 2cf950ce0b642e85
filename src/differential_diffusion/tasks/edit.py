"""Differential editing: every pixel changes as much as its strength says."""

from __future__ import annotations

from ..core.plan import Plan, Run
from ..schema import EditRequest
from .base import Task, TaskInput, TaskOutput, plan_options, strength_tensor


def edit(request: EditRequest, source: TaskInput, run: Run) -> TaskOutput:
    """Noise each pixel to σ(strength) and sample what explains the rest."""
    strength = strength_tensor(request.strength, source, invert=request.invert)
    samples = run(Plan(source.image, strength, **plan_options(request)))
    return TaskOutput(samples, (strength == 0) & request.exact, strength)


TASK = Task(EditRequest, edit, "change each pixel as much as a strength map says")
