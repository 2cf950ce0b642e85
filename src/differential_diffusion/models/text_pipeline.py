"""Text-to-image pipelines of Diffusers: pictures from a prompt alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from ..core.plan import OnStep
from ..core.types import Step
from ..errors import InputError
from .hold import step_callback_inputs
from .pipeline import PipelineModel, PipelineSettings
from .pipeline_call import QuietBar, carrying, check_unflagged, refused

__all__ = ["TextPipelineModel", "text_to_image"]


def text_to_image(model: PipelineModel) -> TextPipelineModel:
    """The text-to-image twin of a pipeline; its modules are shared.

    Raises:
        InputError: if there is none.
    """
    if isinstance(model, TextPipelineModel):
        return model
    import diffusers

    try:
        twin = diffusers.AutoPipelineForText2Image.from_pipe(model.pipeline)
    except ValueError:
        raise InputError(
            f"{type(model.pipeline).__name__} has no text-to-image twin: use another model"
        ) from None
    return TextPipelineModel(model.name, twin)


class TextPipelineModel(PipelineModel):
    """A text-to-image pipeline that runs plans of strength 1, whose pictures are but sizes."""

    def sample(
        self,
        images: Tensor,
        strength: Tensor,
        seeds: tuple[int, ...],
        steps: int,
        settings: PipelineSettings,
        on_step: OnStep | None = None,
    ) -> Tensor:
        """One call of the pipeline: (B,3,H,W) of the size of `images`; see `PipelineModel`."""
        height, width = images.shape[-2:]
        size = self.size_for(height, width)
        given, callback, asked = settings.call()
        if "control_image" in given and "control_image" not in self.known:
            control = given.pop("control_image")  # ControlNets call it the image here
            self.check_names(given)
            given |= {"image": control}
            settings = replace(settings, pipeline_kwargs={})
        arguments = self._arguments(images, seeds, settings, given)
        if "image" not in given:
            del arguments["image"]
        grid = size[0] // self.cell, size[1] // self.cell

        def pixels(latents: Tensor) -> Tensor:
            return self.decode(latents, grid)

        def after(pipe: Any, i: int, t: Any, tensors: dict[str, Any]) -> dict[str, Any]:
            if callback is not None:
                tensors = {**tensors, **(callback(pipe, i, t, dict(tensors)) or {})}
            if on_step is not None:
                on_step(_step(i, int(pipe.num_timesteps), tensors["latents"], pixels))
            return tensors

        arguments |= {"height": size[0], "width": size[1], "num_inference_steps": steps}
        if "callback_on_step_end" in self.known:
            inputs = step_callback_inputs(self.worker, asked)
            arguments |= {
                "callback_on_step_end": carrying(after),
                "callback_on_step_end_tensor_inputs": inputs,
            }
        with QuietBar(self.pipeline), refused(self.pipeline):
            out = self.pipeline(**arguments)
        check_unflagged(out, seeds)
        made: Tensor = self._pictures(out)
        return (made.float().cpu() * 2 - 1)[..., :height, :width]


def _step(index: int, count: int, latents: Tensor, decode: Callable[[Tensor], Tensor]) -> Step:
    before, after = (torch.full((1, 1, 1, 1), 1 - k / count) for k in (index, index + 1))
    return Step(index, count, latents, latents, before, after, index + 1, decode=decode)
