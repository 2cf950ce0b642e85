"""Diffusers' image-to-image pipelines as models: their own loop, our strength for each pixel.

Nothing of a pipeline is copied. It is called as its users call it, and a step callback (`hold`)
holds what must not move yet. So schedulers, LoRA, ControlNet, IP-Adapter and offloading keep
working.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..core.grid import mirrored
from ..core.noise import PositionalNoise
from ..core.plan import OnStep, Plan
from ..core.types import Step
from ..errors import InputError
from .blend import blended
from .codec import decoded
from .hold import Hold, as_pixels, step_callback_inputs
from .latent_plan import LatentPlan, WholeSteps, cell_maximum
from .pipeline_call import QuietBar, carrying, check_unflagged, refused
from .pipeline_settings import OURS, PipelineSettings

__all__ = ["PipelineModel", "PipelineSettings"]


@dataclass(frozen=True)
class PipelineModel:
    """An image-to-image pipeline of Diffusers that runs plans.

    Attributes:
        name: what it was loaded as.
        pipeline: the pipeline.
    """

    name: str
    pipeline: Any
    channels: int = 3

    @property
    def worker(self) -> Any:
        """The part that denoises: a combined pipeline's decoder, else the pipeline itself."""
        return getattr(self.pipeline, "decoder_pipe", self.pipeline)

    @property
    def known(self) -> frozenset[str]:
        """The arguments that the pipeline's call takes."""
        return frozenset(inspect.signature(self.pipeline.__call__).parameters)

    @property
    def cell(self) -> int:
        """Pixels a side of a latent cell."""
        for name in ("vae_scale_factor", "vae_scale_factor_spatial", "movq_scale_factor"):
            if isinstance(factor := getattr(self.worker, name, None), int):
                return factor
        return 8

    @property
    def multiple(self) -> int:
        """What the sides of a picture must be multiples of, in pixels."""
        if self.is_kandinsky:
            return self.cell << (len(self.worker.unet.config.block_out_channels) - 1)
        processor = getattr(self.worker, "image_processor", None)
        factor = getattr(getattr(processor, "config", None), "vae_scale_factor", self.cell)
        patch = self.configured("patch_size") or 1  # a transformer's tokens
        return max(self.cell * (patch if isinstance(patch, int) else patch[-1]), int(factor))

    def size_for(self, height: int, width: int) -> tuple[int, int]:
        """The size (H, W) of picture to give the pipeline for one of this size."""
        multiple = self.multiple
        height, width = (-(-side // multiple) * multiple for side in (height, width))
        if self.is_kandinsky and "height" in self.known:  # Kandinsky 2.2 takes it for the width
            height = width = max(height, width)
        return height, width

    @property
    def native_side(self) -> int:
        """Pixels a side of the pictures that it was trained on, 1024 if it does not say."""
        size = getattr(self.worker, "default_sample_size", None)
        size = size or self.configured("sample_size")
        if size is None:
            return 1024
        return self.cell * (size if isinstance(size, int) else min(size))

    def configured(self, name: str) -> Any:
        """A setting of the network that denoises, None where it has none."""
        network = getattr(self.worker, "unet", None) or getattr(self.worker, "transformer", None)
        return getattr(getattr(network, "config", None), name, None)

    @property
    def is_kandinsky(self) -> bool:
        """Whether it is Kandinsky 2.2 or 3, which have ways of their own with their picture."""
        return hasattr(self.worker, "movq")

    @property
    def stretches(self) -> bool:
        """Whether its steps, all of them, go from its strength to 0: latent consistency models."""
        return type(self.worker).__name__.startswith("LatentConsistencyModel")

    @property
    def is_inpainting(self) -> bool:
        """Whether it is told by a mask what is known of the picture."""
        return "mask_image" in self.known

    def run(self, plan: Plan, noise: PositionalNoise, on_step: OnStep | None = None) -> Tensor:
        """Samples of the plan, (n,3,H,W) float32 on the CPU; see `Model`.

        The noise is drawn by the pipeline, from one generator for each seed, as its users know it.

        Raises:
            InputError: for what the pipeline does not take.
        """
        self.check(plan)
        return self.sample(
            plan.image.expand(len(plan.seeds), -1, -1, -1),
            plan.strength.expand(len(plan.seeds), -1, -1, -1),
            plan.seeds,
            plan.steps,
            PipelineSettings(**plan.options),
            on_step,
        )

    def check(self, plan: Plan) -> None:
        """Refuse what only our own sampler can do.

        Raises:
            InputError: the plan tells of noise, or names a solver or path of ours.
        """
        if bool((plan.noise > 0).any()) or bool((plan.target > 0).any()):
            raise InputError(
                f"the model '{self.name}' cannot be told of noise that is in the picture: denoise "
                "it first, with the bundled prior, or leave noise_level_8bit out"
            )
        if plan.guide is not None:
            raise InputError(
                f"the model '{self.name}' cannot be held to a measurement: use the bundled prior, "
                "or another model of pixels"
            )
        for name, default in (("solver", "ddim"), ("path", "wait")):
            if (value := getattr(plan, name)) != default:
                raise InputError(
                    f"{name} is '{value}', and the model '{self.name}' has a scheduler of its own: "
                    "leave it out, or give the pipeline another scheduler"
                )

    def sample(
        self,
        images: Tensor,
        strength: Tensor,
        seeds: tuple[int, ...],
        steps: int,
        settings: PipelineSettings,
        on_step: OnStep | None = None,
    ) -> Tensor:
        """One call of the pipeline.

        Args:
            images: (B,3,H,W) in [-1, 1].
            strength: (B,1,H,W), or (B,1,1,1) for the same everywhere.
            seeds: B of them.
            steps: of the whole ladder.
            settings: of the request.
            on_step: called after each step; raise in it to stop.

        Returns: (B,3,H,W) float32 on the CPU; if `exact`, `images` where strength is 0.

        Raises:
            InputError: for what the pipeline does not take.
        """
        height, width = images.shape[-2:]
        size = self.size_for(height, width)
        whole, settings = mirrored(images, *size), settings.mirrored((height, width), size)
        rows, columns = (side // self.cell for side in whole.shape[-2:])
        everywhere = strength.shape[-2:] == (1, 1)
        covered = strength if everywhere else mirrored(strength, *size)
        plan, given = self.latent_plan(cell_maximum(covered, rows, columns), steps, settings)
        if plan.calls == 0:
            return images.float().cpu()
        made = self._call(whole, seeds, plan, given, settings, on_step)[..., :height, :width]
        if everywhere or not settings.exact:  # the result is the pipeline's own, bit for bit
            return made
        return blended(made, images, strength, settings.fade_below, settings.border)

    def latent_plan(
        self, cells: Tensor, steps: int, settings: PipelineSettings
    ) -> tuple[LatentPlan, float]:
        """When cells of these strengths (B,1,h,w) move, and the strength to give the pipeline.

        Raises:
            InputError: a latent consistency model with more steps than it has levels.
        """
        largest = float(cells.max())
        steps = self._own_steps(settings.pipeline_kwargs) or steps
        if self.stretches and largest > 0:
            self._check_levels(largest, steps, settings)
            cells = cells / largest
        plan = LatentPlan.of(
            cells,
            steps,
            published=settings.compat == "published",
            skip_idle=settings.skip_idle,
            warmup_steps=settings.warmup_steps,
            pin=settings.exact,
        )
        return plan, largest if self.stretches else plan.strength

    def _own_steps(self, arguments: Mapping[str, Any]) -> int | None:
        """The length of a ladder given by its levels, which then counts as steps."""
        scheduler = type(self.worker.scheduler).__name__
        for name, with_end in (("timesteps", "SCMScheduler"), ("sigmas", "EulerDiscreteScheduler")):
            if (ladder := arguments.get(name)) is not None:
                return len(ladder) - (scheduler == with_end)  # the 0 that is reached is no step
        return None

    def _check_levels(self, strength: float, steps: int, settings: PipelineSettings) -> None:
        """Latent consistency models jump between the levels of a longer schedule."""
        levels = settings.pipeline_kwargs.get("original_inference_steps")
        levels = levels or self.worker.scheduler.config.original_inference_steps
        if steps > (most := int(levels * strength)):
            remedy = f"give steps of at most {most}" if most else "raise the strength"
            raise InputError(
                f"steps is {steps}, and at strength {strength:g} {type(self.pipeline).__name__} "
                f"has {most} levels to go to: {remedy}"
            )

    def _call(
        self,
        images: Tensor,
        seeds: tuple[int, ...],
        plan: LatentPlan,
        strength: float,
        settings: PipelineSettings,
        on_step: OnStep | None,
    ) -> Tensor:
        given, callback, asked = settings.call()
        report = _reported(plan, on_step, self.decode)
        hold = Hold(self.worker, plan, images, callback, report)
        arguments = self._arguments(images, seeds, settings, given)
        if self.is_inpainting:
            arguments["mask_image"] = as_pixels(plan.moving(plan.begin), images).float()
            if strength == 1 and plan.holds:  # at 1 it would start from noise alone
                strength = WholeSteps(1 - 1e-9)
        arguments |= {
            "strength": strength,
            "num_inference_steps": plan.steps,
            "callback_on_step_end": carrying(hold),
        }
        with hold, QuietBar(self.pipeline), refused(self.pipeline):
            arguments["callback_on_step_end_tensor_inputs"] = step_callback_inputs(
                self.worker, asked
            )
            out = self.pipeline(**arguments)
        check_unflagged(out, seeds)
        return self._pictures(out).float().cpu() * 2 - 1

    def _pictures(self, out: Any) -> Tensor:
        """The pictures (B,3,H,W) in [0, 1] of what the pipeline returned."""
        made: Tensor = out.images if hasattr(out, "images") else out[0]
        return made

    def decode(self, latents: Tensor, grid: tuple[int, int]) -> Tensor:
        """Pixels (B,3,H,W) in [-1, 1] of a step's latents on a grid of (h, w) cells."""
        return decoded(self.worker, latents, grid)

    def check_names(self, names: Iterable[str]) -> None:
        """Refuse arguments that the request sets, and those that the pipeline does not take.

        Raises:
            InputError: for the first of them.
        """
        for name in names:
            if name in OURS:
                raise InputError(
                    f"pipeline_kwargs sets '{name}', which the request sets: {OURS[name]}"
                )
            if name not in self.known:
                raise InputError(
                    f"pipeline_kwargs sets '{name}', which {type(self.pipeline).__name__} does not "
                    "take: check its name"
                )

    def _arguments(
        self,
        images: Tensor,
        seeds: tuple[int, ...],
        settings: PipelineSettings,
        given: Mapping[str, Any],
    ) -> dict[str, Any]:
        """The request in the pipeline's words, as far as it knows them, and what else is given."""
        known = self.known
        self.check_names(settings.pipeline_kwargs)
        arguments: dict[str, Any] = {
            "image": ((images + 1) / 2).clamp(0, 1),  # below 0 it would be taken as it is
            "generator": [torch.Generator("cpu").manual_seed(seed) for seed in seeds],
            "output_type": "pt",
        }
        if "use_resolution_binning" in known:  # it would resize the picture
            arguments["use_resolution_binning"] = False
        for name, side in (("height", images.shape[-2]), ("width", images.shape[-1])):
            if name in known:
                arguments[name] = side
        for name in ("prompt", "negative_prompt", "guidance_scale"):
            value = getattr(settings, name)
            if value is None:
                continue
            if isinstance(settings.prompt, list) and isinstance(value, str):
                value = [value] * len(seeds)
            if name not in known:
                raise InputError(
                    f"{name} was given, and {type(self.pipeline).__name__} takes none: leave it out"
                )
            arguments[name] = value
        if getattr(self.worker, "depth_estimator", None) and "depth_map" not in given:
            arguments["depth_map"] = self._depth(images)
        arguments |= given
        if len(seeds) > 1 and not isinstance(settings.prompt, list):
            arguments |= self._repeated(arguments, len(seeds))
        return arguments

    def _repeated(self, arguments: Mapping[str, Any], count: int) -> dict[str, Any]:
        """What makes of one prompt that of several pictures."""
        told = {
            name: value
            for name, value in arguments.items()
            if value is not None
            and name.endswith(("prompt", "embeds", "mask"))
            and "ip_adapter" not in name
        }
        # Kandinsky would repeat the pictures too, and most do not repeat embeddings.
        by_hand = self.is_kandinsky and self.worker is self.pipeline
        if not by_hand and not any(name.endswith("embeds") for name in told):
            return {"num_images_per_prompt": count}
        return {
            name: value.repeat_interleave(count, 0)
            if isinstance(value, Tensor)
            else (value if isinstance(value, list) else [value]) * count
            for name, value in told.items()
        }

    @torch.no_grad()
    def _depth(self, images: Tensor) -> Tensor:
        """What the pipeline's estimator sees, which would take values in [0, 1] for black."""
        bytes_ = ((images + 1) * 127.5).round().clamp(0, 255).to("cpu", torch.uint8)
        shown = self.worker.feature_extractor(images=list(bytes_), return_tensors="pt")
        estimator = self.worker.depth_estimator
        pixels = shown.pixel_values.to(self.worker._execution_device, estimator.dtype)
        depth: Tensor = estimator(pixels).predicted_depth
        return depth


def _reported(
    plan: LatentPlan, on_step: OnStep | None, decode: Callable[[Tensor, tuple[int, int]], Tensor]
) -> Any:
    """A listener for `Hold` that reports steps as our own sampler does."""
    if on_step is None:
        return None

    def report(index: int, count: int, calls: int, latents: Tensor) -> None:
        level, after = (
            torch.full((1, 1, 1, 1), max(0.0, 1 - (plan.begin + at) / plan.steps))
            for at in (index * plan.calls / count, (index + 1) * plan.calls / count)
        )
        rows, columns = plan.first.shape[-2:]

        def pixels(latents: Tensor) -> Tensor:
            return decode(latents, (rows, columns))

        on_step(Step(index, count, latents, latents, level, after, calls, decode=pixels))

    return report
