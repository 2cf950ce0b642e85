"""Several requests of one pipeline, drawn together where they are alike."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from ..core.plan import Plan
from ..core.types import Step
from ..images import read
from ..models import PipelineModel
from ..schema import PromptedRequest
from ..tasks import TASKS, TaskInput
from .executor import OnProgress, Progress, as_result, execute, model_of, with_holes_filled
from .pipelines import Part, run_on_pipeline
from .result import Result
from .run import Counter

__all__ = ["execute_batch"]


class _Planned(Exception):  # it is no error
    """Carries the plan out of a task that runs it."""

    def __init__(self, plan: Plan) -> None:
        super().__init__()
        self.plan = plan


def execute_batch(
    requests: Sequence[PromptedRequest], batch_size: int, on_progress: OnProgress | None = None
) -> list[Result]:
    """Carry out requests to one model, whose tasks run it once: edits and fillings.

    A pipeline draws up to `batch_size` of them at once where size, steps and settings are alike;
    each comes out as it would alone, up to rounding. Other models do one after the other.

    Args:
        requests: to the same model, device and precision.
        batch_size: pictures to draw at once.
        on_progress: called with a `Progress`: of a pipeline, all requests are one run.

    Raises:
        InputError: as `execute`.
    """
    if not requests:
        return []
    first = requests[0]
    model = model_of(first)
    if not isinstance(model, PipelineModel):
        loaded = {"model": model, "config": None, "device": None, "precision": "auto"}
        return [
            execute(request.model_copy(update=loaded), on_progress=_as_run(index, on_progress))
            for index, request in enumerate(requests, start=1)
        ]
    started = time.perf_counter()
    counters = [Counter() for _ in requests]

    def count(parts: Sequence[Part], step: Step) -> None:
        for index in {part.index for part in parts}:
            counters[index].add(step)

    def report(fraction: float) -> None:
        if on_progress is not None:
            on_progress(Progress(1, fraction))

    with torch.no_grad():
        pictures = [read(request.image) for request in requests]
        sources = [TaskInput(p.tensor(), p.is_grey, model.channels) for p in pictures]
        plans = [with_holes_filled(_plan(*of), model) for of in zip(requests, sources, strict=True)]
        samples = run_on_pipeline(plans, model, batch_size, count, report)
        outputs = [
            TASKS[request.task].perform(request, source, lambda plan, made=made: made)
            for request, source, made in zip(requests, sources, samples, strict=True)
        ]
    seconds = (time.perf_counter() - started) / len(requests)
    return [
        as_result(request, picture, output, seconds, counter.evaluations)
        for request, picture, output, counter in zip(
            requests, pictures, outputs, counters, strict=True
        )
    ]


def _plan(request: PromptedRequest, source: TaskInput) -> Plan:
    """What the request's task would run."""

    def run(plan: Plan) -> Tensor:
        raise _Planned(plan)

    try:
        TASKS[request.task].perform(request, source, run)
    except _Planned as planned:
        return planned.plan
    raise TypeError(f"the task '{request.task}' runs no model")


def _as_run(index: int, on_progress: OnProgress | None) -> OnProgress | None:
    """Progress of one execution as that of a run among several."""
    if on_progress is None:
        return None
    return lambda progress: on_progress(replace(progress, run=index))
