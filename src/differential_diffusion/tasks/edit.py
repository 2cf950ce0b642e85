"""Differential editing: every pixel changes as much as its strength says."""

from __future__ import annotations

from torch import Tensor

from ..core.plan import Plan, Run
from ..schema import EditRequest
from .base import Task, TaskInput, TaskOutput, plan_options, strength_tensor


def plan_edit(request: EditRequest, source: TaskInput) -> Plan:
    """What an edit asks of a model."""
    strength = strength_tensor(request.strength, source, invert=request.invert)
    return Plan(source.image, strength, **plan_options(request))


def edited(request: EditRequest, plan: Plan, samples: Tensor) -> TaskOutput:
    """What came of the plan."""
    return TaskOutput(samples, (plan.strength == 0) & request.exact, plan.strength)


def edit(request: EditRequest, source: TaskInput, run: Run) -> TaskOutput:
    """Noise each pixel to σ(strength) and sample what explains the rest."""
    plan = plan_edit(request, source)
    return edited(request, plan, run(plan))


TASK = Task(EditRequest, edit, "change each pixel as much as a strength map says")
