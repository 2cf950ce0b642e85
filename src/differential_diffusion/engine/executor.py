"""From a request to a result: read, plan, run, put the kept pixels back."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ..core.plan import OnStep, Plan
from ..errors import InputError
from ..images import Picture, read
from ..models import DenoiserModel, Model, PipelineModel, load_model
from ..models.text_pipeline import TextPipelineModel, text_to_image
from ..schema import GenerateRequest, InpaintRequest, PromptedRequest, Request
from ..tasks import TASKS, TaskInput, TaskOutput
from .prefill import prefilled
from .result import Result
from .run import Counter, run_plan


@dataclass(frozen=True)
class Progress:
    """How far a request is.

    Attributes:
        run: number of the run of the model, from 1; a task may take several.
        fraction: share of that run that is done, in [0, 1], never falling.
    """

    run: int
    fraction: float


OnProgress = Callable[[Progress], None]


def execute(
    request: Request,
    *,
    on_step: OnStep | None = None,
    on_progress: OnProgress | None = None,
) -> Result:
    """Carry a request out.

    Args:
        request: any of the requests in `schema`.
        on_step: called with every `Step` of every run; raise in it to stop.
        on_progress: called as often as something is done.

    Raises:
        InputError: for anything wrong with the picture, the maps or the settings.
    """
    picture = _picture(request)
    model = averaged(model_of(request), request.views)
    if isinstance(model, PipelineModel) and not isinstance(request, PromptedRequest):
        raise InputError(
            f"the model '{model.name}' is a pipeline, which edits, inpaints and generates: for "
            f"{request.task} use the bundled prior, or another model of pixels"
        )
    if isinstance(request, GenerateRequest) and isinstance(model, PipelineModel):
        model = text_to_image(model)
    started = time.perf_counter()
    counter, runs = Counter(), 0

    def report(fraction: float) -> None:
        if on_progress is not None:
            on_progress(Progress(runs, fraction))

    def run(plan: Plan) -> Tensor:
        nonlocal runs
        runs += 1
        return run_plan(
            with_holes_filled(plan, model),
            model,
            tile=request.tile,
            on_step=on_step,
            on_fraction=report,
            counter=counter,
        )

    task = TASKS[request.task]
    with torch.no_grad():
        output = task.perform(request, source_of(picture, model), run)
    evaluations = counter.evaluations * request.views
    return as_result(request, picture, output, time.perf_counter() - started, evaluations)


def source_of(picture: Picture, model: Model) -> TaskInput:
    """What a task is given of a picture and the model that it will run."""
    return TaskInput(
        picture.tensor(),
        picture.is_grey,
        model.channels,
        picture.jpeg,
        picture.coefficients,
        isinstance(model, DenoiserModel),
    )


def averaged(model: Model, views: int) -> Model:
    """The model, its estimates the mean over views of the picture.

    Raises:
        InputError: for several views with a pipeline.
    """
    if views == 1:
        return model
    if not isinstance(model, DenoiserModel):
        raise InputError(
            f"views is {views}, and the model '{model.name}' has a loop of its own: leave it out"
        )
    return model.averaged(views)


def model_of(request: Request) -> Model:
    """The request's model, loaded.

    Raises:
        InputError: as `load_model`, and for one that can do nothing but generate.
    """
    model: Model = load_model(
        request.model, config=request.config, device=request.device, precision=request.precision
    )
    if isinstance(model, TextPipelineModel) and not isinstance(request, GenerateRequest):
        raise InputError(
            f"the model '{model.name}' makes pictures of prompts alone: use an image-to-image "
            "pipeline"
        )
    return model


def as_loaded(model: Model) -> dict[str, Any]:
    """The fields of a request whose model is loaded already."""
    return {"model": model, "config": None, "device": None, "precision": "auto"}


def with_holes_filled(plan: Plan, model: Model) -> Plan:
    """The plan with its holes filled beforehand, if it is for a pipeline and says so."""
    how = plan.options.get("prefill", "none")
    if how == "none" or not isinstance(model, PipelineModel):
        return plan
    return replace(plan, image=prefilled(plan.image, plan.strength, how, plan.seeds[0], _mended))


def _mended(request: InpaintRequest) -> Tensor:
    """The bundled prior's filling."""
    return execute(request).picture.tensor()


def _picture(request: Request) -> Picture:
    """The request's picture; to generate one, a blank of its size."""
    if not isinstance(request, GenerateRequest):
        return read(request.image)
    size = request.width, request.height
    if request.image is not None:
        like = read(request.image)
        size = like.width, like.height
    return read(Image.new("RGB", size, (128, 128, 128)))


def as_result(
    request: Request, picture: Picture, output: TaskOutput, seconds: float, evaluations: int
) -> Result:
    """What a task made, with the kept pixels put back, as the picture it was made from."""
    keep = output.keep[0, 0].numpy()
    if output.coloured:
        picture = picture.coloured()
    if keep.shape != (picture.height, picture.width):
        picture = picture.enlarged(keep.shape[0] // picture.height)
    pictures = tuple(picture.replaced(sample, keep) for sample in output.samples)
    several = len(pictures) > 1
    mean = output.samples.mean(0, keepdim=True) if output.mean is None else output.mean
    averaged = request.estimate == "mean" and (several or output.mean is not None)
    chosen = picture.replaced(mean[0], keep) if averaged else pictures[0]
    std, notes = None, list(output.notes)
    if several and not output.spread:
        notes.append(
            "no deviation between samples: where the picture was noisy they agree more than they "
            "should; denoise it with samples, or inpaint with the solver dpmpp_2m_sde"
        )
    elif several:
        values = output.samples.mean(1, keepdim=True) if picture.is_grey else output.samples
        std = (values.clamp(-1, 1).std(dim=0).mean(dim=0) * 127.5).numpy()
        std[keep] = 0.0
    height, width = picture.height, picture.width
    noise = None
    if output.noise is not None:
        level = output.noise.expand(1, 1, height, width)[0, 0] * 127.5
        noise = np.ascontiguousarray(level.numpy())
    return Result(
        request=request,
        picture=chosen,
        pictures=pictures,
        map=np.ascontiguousarray(output.map[0, 0].numpy()),
        seed=request.seed,
        seconds=seconds,
        evaluations=evaluations,
        std=std,
        noise_level_8bit=noise,
        damage=None if output.damage is None else output.damage[0, 0].numpy(),
        notes=(*notes, *chosen.notes),
    )
