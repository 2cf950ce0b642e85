"""Video-to-video pipelines of Diffusers: frames in place of a batch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ..core.plan import OnStep, Plan
from ..errors import InputError
from .codec import decoded_video
from .pipeline import PipelineModel, PipelineSettings

__all__ = ["VideoPipelineModel"]


class VideoPipelineModel(PipelineModel):
    """A video-to-video pipeline; `sample` takes frames and one seed.

    Every frame may have a strength map of its own where the pipeline's latents have a frame for
    each of the video's (AnimateDiff); else give one map for all.
    """

    def frames_for(self, count: int) -> int:
        """The number of frames to give the pipeline for a video of this many.

        Autoencoders that shorten videos r times have latents for the first frame and for each r
        that follow; others they drop. CogVideoX's halve an odd number without the first frame and
        an even one with it, so that it takes 2 r k frames, or one more; where its transformer takes
        latent frames by twos (1.5), 2 r k alone.
        """
        ratio = getattr(self.worker, "vae_scale_factor_temporal", 1)
        if not type(self.worker).__name__.startswith("CogVideoX"):
            return -(-(count - 1) // ratio) * ratio + 1
        pair = 2 * ratio
        if count % pair == 1 and self.configured("patch_size_t") is None:
            return count
        return -(-count // pair) * pair

    def check(self, plan: Plan) -> None:
        """Refuses pictures.

        Raises:
            InputError: always.
        """
        raise InputError(
            f"the model '{self.name}' takes videos: give their frames to its sample(), or use an "
            "image-to-image pipeline"
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
        """One call of the pipeline; see `PipelineModel.sample`.

        Args:
            images: the frames, (F,3,H,W) in [-1, 1]; the last is repeated where the pipeline takes
                other numbers of frames.
            strength: (F,1,H,W), (1,1,H,W) for all frames, or (1,1,1,1) for everything.
            seeds: one.
            steps, settings, on_step: as there.

        Returns: (F,3,H,W) float32 on the CPU.

        Raises:
            InputError: for a map for each frame where the latents have other frames.
        """
        if len(strength) > 1 and not hasattr(self.worker, "motion_adapter"):
            raise InputError(
                f"{type(self.pipeline).__name__} has no latents for each frame: give one strength "
                "map for all frames"
            )
        count = len(images)
        repeated = torch.arange(self.frames_for(count)).clamp(max=count - 1)
        return super().sample(images[repeated], strength, seeds, steps, settings, on_step)[:count]

    def decode(self, latents: Tensor, grid: tuple[int, int]) -> Tensor:
        """Frames (F,3,H,W) in [-1, 1] of a step's latents."""
        return decoded_video(self.worker, latents)

    def _arguments(
        self,
        images: Tensor,
        seeds: tuple[int, ...],
        settings: PipelineSettings,
        given: Mapping[str, Any],
    ) -> dict[str, Any]:
        arguments = super()._arguments(images, seeds, settings, given)
        arguments["video"] = arguments.pop("image")  # CogVideoX counts the frames of it
        return arguments

    def _pictures(self, out: Any) -> Tensor:
        frames: Tensor = out.frames[0]
        return frames
