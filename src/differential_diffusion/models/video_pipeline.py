"""Video-to-video pipelines of Diffusers: frames in place of a batch."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from ..core.plan import OnStep, Plan
from ..errors import InputError
from .pipeline import PipelineModel, PipelineSettings

__all__ = ["VideoPipelineModel"]


class VideoPipelineModel(PipelineModel):
    """A video-to-video pipeline; `sample` takes frames and one seed.

    Every frame may have a strength map of its own where the pipeline's latents have a frame for
    each of the video's (AnimateDiff); else give one map for all.
    """

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
            images: the frames, (F,3,H,W) in [-1, 1].
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
        return super().sample(images, strength, seeds, steps, settings, on_step)

    def _arguments(
        self, images: Tensor, seeds: tuple[int, ...], settings: PipelineSettings
    ) -> dict[str, Any]:
        arguments = super()._arguments(images, seeds, settings)
        arguments["video"] = arguments.pop("image")[None]
        return arguments

    def _pictures(self, out: Any) -> Tensor:
        frames: Tensor = out.frames[0]
        return frames
