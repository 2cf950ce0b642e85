"""Hold cells of a Diffusers pipeline's latents at the original until their step comes.

The pipeline runs its own loop; a callback after each step sets the cells that do not move yet to
the noised original of the level that comes next, with the noise that the pipeline itself drew:

    latents_p ← noised(clean_p, noise_p, t_next)    where first_p >= next step
    latents_p ← clean_p                             in the end, where pinned
"""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Any

import torch
from torch import Tensor

from ..errors import InputError
from .codec import encoded, pack
from .latent_plan import LatentPlan
from .noising import noising_of

__all__ = ["Hold", "as_pixels", "step_callback_inputs"]

CONDITIONS = ("mask", "masked_image_latents")
"""What a U-Net with nine input channels sees beside the latents."""

Callback = Callable[[Any, int, Any, dict[str, Any]], "dict[str, Any] | None"]
OnLatents = Callable[[int, int, int, Tensor], None]


def as_pixels(cells: Tensor, image: Tensor) -> Tensor:
    """A mask of latent cells (B,1,h,w) at the pixels of an image (B,3,H,W)."""
    rows, columns = (a // b for a, b in zip(image.shape[-2:], cells.shape[-2:], strict=True))
    return cells.repeat_interleave(rows, -2).repeat_interleave(columns, -1)


def step_callback_inputs(pipeline: Any, wanted: list[str]) -> list[str]:
    """The tensors to ask for in the step callback: the latents, what else holds, and the user's."""
    offered = getattr(pipeline, "_callback_tensor_inputs", ["latents"])
    ours = [name for name in ("latents", "denoised", *CONDITIONS) if name in offered]
    return list(dict.fromkeys([*ours, *wanted]))


class Hold:
    """A pipeline's `callback_on_step_end`, and a context around its call.

    Inside the context the pipeline is listened to, to learn the clean latents and the noise.

    Args:
        pipeline: with a `scheduler`.
        plan: of the cells.
        image: (B,3,H,W) in [-1, 1], for a U-Net that is shown what is known of it.
        callback: the user's own, called first.
        on_latents: called after each step with its index, how many there are, the calls of the
            network so far, and the latents.
    """

    def __init__(
        self,
        pipeline: Any,
        plan: LatentPlan,
        image: Tensor | None = None,
        callback: Callback | None = None,
        on_latents: OnLatents | None = None,
    ) -> None:
        self.pipeline, self.plan, self.image = pipeline, plan, image
        self.scheduler = pipeline.scheduler
        self.callback, self.on_latents = callback, on_latents
        self.noising = noising_of(pipeline)
        self._corrector: Any = None

    def __enter__(self) -> Hold:
        self.noising.__enter__()
        # UniPC's corrector builds on the sample before an intervention and would half undo it.
        self._corrector = getattr(self.scheduler, "disable_corrector", None)
        if self._corrector is not None:
            self.scheduler.disable_corrector = list(self._corrector)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.noising.__exit__(kind, error, traceback)
        if self._corrector is not None:
            self.scheduler.disable_corrector = self._corrector

    def __call__(self, pipeline: Any, i: int, t: Any, tensors: dict[str, Any]) -> dict[str, Any]:
        """Called by the pipeline after its i-th call of the network."""
        if self.callback is not None:
            tensors = {**tensors, **(self.callback(pipeline, i, t, dict(tensors)) or {})}
        count, order = int(pipeline.num_timesteps), int(getattr(self.scheduler, "order", 1))
        last = i == count - 1
        if last or (i + 1) % order == 0:  # a Heun step is two calls: between them all is moving
            if last:
                self._pin(tensors)
            elif self.plan.holds:
                self._hold(tensors, i + 1 - count)
            if self.on_latents is not None:
                steps = -(-count // order)
                self.on_latents(-(-(i + 1) // order) - 1, steps, i + 1, tensors["latents"])
        return tensors

    def _hold(self, tensors: dict[str, Any], index: int) -> None:
        """Set what is held before a step to the original, noised to the level of that step.

        Args:
            tensors: of the callback.
            index: of the scheduler's timestep that comes next, from the end.
        """
        timesteps = self.noising.timesteps
        step = _step(timesteps, int(getattr(self.scheduler, "order", 1)), self.plan.steps, index)
        self._condition(tensors, step)
        held = self.plan.held(step)
        if not bool(held.any()):
            return
        noised = self.noising.at(timesteps[index])
        tensors["latents"] = self._where(held, noised, tensors["latents"])
        if self._corrector is not None and self.scheduler.step_index is not None:
            self.scheduler.disable_corrector.append(self.scheduler.step_index - 1)

    def _condition(self, tensors: dict[str, Any], step: int) -> None:
        """Show an inpainting U-Net as known, in this step, what does not move yet."""
        if self.image is None or "mask" not in tensors:
            return
        moving = self.plan.moving(step)
        if not bool((moving != self.plan.moving(step - 1)).any()):
            return
        known = self.image * ~as_pixels(moving, self.image)
        shown = {"mask": moving, "masked_image_latents": encoded(self.pipeline, known)}
        for name, value in shown.items():  # twice the batch with guidance
            before = tensors[name]
            tensors[name] = value.to(before).repeat(len(before) // len(value), 1, 1, 1)

    def _pin(self, tensors: dict[str, Any]) -> None:
        """End what is pinned at the original."""
        if not bool(self.plan.pinned.any()):
            return
        for name in ("latents", "denoised"):  # LCM and SANA-Sprint decode the second
            if isinstance(ended := tensors.get(name), Tensor):
                # SANA-Sprint does not look at what is returned.
                ended.copy_(self._where(self.plan.pinned, self.noising.clean, ended))

    def _where(self, mask: Tensor, value: Tensor, latents: Tensor) -> Tensor:
        """`value` in the cells of the mask (B,1,h,w), in whichever layout the latents have."""
        mask = mask.to(latents.device)
        if latents.ndim == 3:
            if value.ndim > 3:
                value = pack(value.reshape(len(value), -1, *value.shape[-2:]))
            mask = pack(mask.expand(-1, latents.shape[-1] // 4, -1, -1))
        elif latents.ndim == 5:
            if hasattr(self.pipeline, "motion_adapter"):  # AnimateDiff noises (B,F,C,h,w)
                value = value.transpose(1, 2)
            # One mask for each frame, (1,1,F,h,w), or one for all.
            mask = mask.transpose(0, 1)[None] if len(mask) > 1 else mask[None]
        return torch.where(mask, value.to(latents), latents)


def _step(timesteps: Tensor, order: int, steps: int, index: int) -> int:
    """The step of the ladder, 0 to `steps`, that a timestep given from the end belongs to."""
    at = len(timesteps) + index
    if len(timesteps) == steps:  # flow schedules cut to whole numbers may have one twice
        return at
    if len(timesteps) == order * (steps - 1) + 1:  # Heun's are doubled, but for the first
        return -(-at // order)
    ladder = list(dict.fromkeys(timesteps.tolist()))  # PNDM repeats those of its warm-up
    if len(ladder) > steps:
        raise InputError(
            f"the scheduler takes {len(ladder)} levels for {steps} steps, so that no step is one "
            "pixel's own: give it skip_prk_steps=True if it is PNDM's, or use another"
        )
    return ladder.index(timesteps[at].item())
