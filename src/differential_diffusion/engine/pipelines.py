"""Run plans on a pipeline: crop by crop, and what is alike at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from ..core.noise import Window, derive_seed
from ..core.plan import OnStep, Plan
from ..core.types import Step
from ..models import PipelineModel
from ..models.aligned import cut
from ..models.pipeline_settings import PipelineSettings, read_pictures
from .crops import CONTEXT, crops_over
from .regions import crop_map, cropped

__all__ = ["Part", "run_on_pipeline", "steps_of"]

OURS = ("region", "context", "crop_size", "prefill", "batch_size")
"""Options that are none of the pipeline's."""

PROMPTS = ("prompt", "negative_prompt")


@dataclass(frozen=True)
class Part:
    """One crop of a picture, for one seed.

    Attributes:
        plan: of the crop.
        window: where it lies in the picture.
        index: of the picture's plan.
        into: (3,h,w), the part of the result that it is to change.
        strength: that the pipeline will be given.
    """

    plan: Plan
    window: Window
    index: int
    into: Tensor
    strength: float


OnParts = Callable[[Sequence[Part], Step], None]


def run_on_pipeline(
    plans: Sequence[Plan],
    model: PipelineModel,
    batch_size: int,
    on_step: OnParts,
    on_fraction: Callable[[float], None] | None = None,
) -> list[Tensor]:
    """Samples (n,3,H,W) of each plan, one for each of its seeds.

    Args:
        plans: with the options of the requests.
        model: that runs them all.
        batch_size: parts to give it at once, where their sizes, steps and settings are alike.
        on_step: called with the parts in hand after each of their steps.
        on_fraction: called with the share of the work that is done.
    """
    for plan in plans:
        model.check(plan)
    results = [plan.image.repeat(len(plan.seeds), 1, 1, 1) for plan in plans]
    parts = [
        part
        for index, (plan, result) in enumerate(zip(plans, results, strict=True))
        for part in _parts(plan, model, index, result)
    ]
    groups = _groups(parts, batch_size)
    for done, group in enumerate(groups):

        def listen(step: Step, group: Sequence[Part] = group, done: int = done) -> None:
            if on_fraction is not None:
                on_fraction((done + (step.index + 1) / step.count) / len(groups))
            on_step(group, step)

        _run(group, model, listen)
    if on_fraction is not None:
        on_fraction(1.0)
    return results


def steps_of(parts: Sequence[Part], step: Step) -> Iterator[Step]:
    """A step of several parts as that of each: of the first sample, where several are drawn."""
    seen: set[tuple[int, Window]] = set()
    for k, part in enumerate(parts):
        if (part.index, part.window) in seen:
            continue
        seen.add((part.index, part.window))
        x, denoised = step.x[k : k + 1], step.denoised[k : k + 1]
        decode = partial(_decoded, part.plan, step.decode)
        yield replace(step, x=x, denoised=denoised, window=part.window, decode=decode)


def _decoded(plan: Plan, decode: Callable[[Tensor], Tensor] | None, latents: Tensor) -> Tensor:
    """Pixels of a step, what is kept as it was."""
    if decode is None:
        return plan.image
    height, width = plan.image.shape[-2:]
    return torch.where(plan.strength > 0, decode(latents)[..., :height, :width], plan.image)


def _parts(plan: Plan, model: PipelineModel, index: int, result: Tensor) -> list[Part]:
    """The plan's crops, for each seed; further crops have seeds of their own.

    With one seed for all, crops of one size would be filled alike.
    """
    size = plan.image.shape[-2], plan.image.shape[-1]
    options = {name: value for name, value in plan.options.items() if name not in OURS}
    arguments = read_pictures(options.pop("pipeline_kwargs", {}))
    parts = []
    for number, window in enumerate(_windows(plan, model)):
        given = {**options, "pipeline_kwargs": cut(arguments, size, window)}
        part = replace(cropped(plan, window), options=given)
        _, strength = model.latent_plan(part.strength, part.steps, PipelineSettings(**given))
        into = crop_map(result, window)
        parts += [
            Part(
                replace(part, seeds=(derive_seed(seed, number) if number else seed,)),
                window,
                index,
                into[sample],
                strength,
            )
            for sample, seed in enumerate(plan.seeds)
        ]
    return parts


def _windows(plan: Plan, model: PipelineModel) -> list[Window]:
    height, width = plan.image.shape[-2:]
    if plan.options.get("region", "auto") == "whole":
        return [Window(0, 0, height, width)]
    active = (plan.strength > 0).expand(1, 1, height, width)[0, 0]
    least = plan.options.get("crop_size") or model.native_side
    return crops_over(active, plan.options.get("context", CONTEXT), model.multiple, least)


def _groups(parts: Sequence[Part], size: int) -> list[list[Part]]:
    """The parts in their order, up to `size` that are alike together."""
    groups: list[list[Part]] = []
    for part in parts:
        fitting = (g for g in groups if len(g) < size and _alike(g[0], part))
        group = next(fitting, None)
        if group is None:
            groups.append([part])
        else:
            group.append(part)
    return groups


def _alike(one: Part, other: Part) -> bool:
    """Whether one call of the pipeline can draw both."""
    if one.plan.options is other.plan.options:  # samples of one crop
        return True
    if one.strength != other.strength or one.plan.steps != other.plan.steps:
        return False
    if one.plan.image.shape != other.plan.image.shape:
        return False
    mine, theirs = (
        {k: v for k, v in part.plan.options.items() if k not in PROMPTS} for part in (one, other)
    )
    arguments, others = mine.pop("pipeline_kwargs"), theirs.pop("pipeline_kwargs")
    given = ([part.plan.options.get(name) is not None for name in PROMPTS] for part in (one, other))
    return mine == theirs and next(given) == next(given) and _plainly_equal(arguments, others)


def _plainly_equal(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether arguments are the same, and none belongs to one picture or prompt alone."""
    return one.keys() == other.keys() and all(
        value is other[name]
        and (isinstance(value, bool | int | float | type(None)) or callable(value))
        for name, value in one.items()
    )


def _run(group: Sequence[Part], model: PipelineModel, on_step: OnStep) -> None:
    """One call of the pipeline, and what it made where it belongs."""
    plans = [part.plan for part in group]
    options = dict(plans[0].options)
    texts = {name: [plan.options.get(name) for plan in plans] for name in PROMPTS}
    if any(text != of[0] for of in texts.values() for text in of):
        options |= {name: of for name, of in texts.items() if of[0] is not None}
    size = plans[0].image.shape[-2:]
    made = model.sample(
        torch.cat([plan.image for plan in plans]),
        torch.cat([plan.strength.expand(1, 1, *size) for plan in plans]),
        tuple(seed for plan in plans for seed in plan.seeds),
        plans[0].steps,
        PipelineSettings(**options),
        on_step,
    )
    exact = options.get("exact", True)
    for part, picture in zip(group, made, strict=True):
        part.into.copy_(
            torch.where(part.plan.strength[0] > 0, picture, part.into) if exact else picture
        )
