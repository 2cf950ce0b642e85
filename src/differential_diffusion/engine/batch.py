"""Several edits with one pipeline, drawn together where they are alike."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace

import torch

from ..core.types import Step
from ..images import read
from ..models import PipelineModel
from ..schema import EditRequest
from ..tasks.edit import edited, plan_edit
from .executor import (
    OnProgress,
    Progress,
    as_loaded,
    as_result,
    averaged,
    execute,
    model_of,
    source_of,
    with_holes_filled,
)
from .pipelines import Part, run_on_pipeline
from .result import Result
from .run import Counter

__all__ = ["execute_batch"]


def execute_batch(
    requests: Sequence[EditRequest], batch_size: int, on_progress: OnProgress | None = None
) -> list[Result]:
    """Carry out edits with one model.

    A pipeline draws up to `batch_size` of them at once where size, steps and settings are alike;
    each comes out as it would alone, up to rounding. Other models do one after the other.

    Args:
        requests: with the same model, device, precision and views.
        batch_size: pictures to draw at once.
        on_progress: called with a `Progress`: of a pipeline, all requests are one run.

    Raises:
        InputError: as `execute`.
    """
    if not requests:
        return []
    model = model_of(requests[0])
    if not isinstance(model, PipelineModel):
        loaded = as_loaded(model)
        return [
            execute(request.model_copy(update=loaded), on_progress=_as_run(index, on_progress))
            for index, request in enumerate(requests, start=1)
        ]
    averaged(model, requests[0].views)  # which a pipeline cannot be
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
        sources = [source_of(picture, model) for picture in pictures]
        plans = [
            with_holes_filled(plan_edit(*of), model) for of in zip(requests, sources, strict=True)
        ]
        samples = run_on_pipeline(plans, model, batch_size, count, report)
    seconds = (time.perf_counter() - started) / len(requests)
    return [
        as_result(request, picture, edited(request, plan, made), seconds, counter.evaluations)
        for request, picture, plan, made, counter in zip(
            requests, pictures, plans, samples, counters, strict=True
        )
    ]


def _as_run(index: int, on_progress: OnProgress | None) -> OnProgress | None:
    """Progress of one execution as that of a run among several."""
    if on_progress is None:
        return None
    return lambda progress: on_progress(replace(progress, run=index))
