"""What a request says to a pipeline, and the pictures among its arguments."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from PIL import Image

from ..errors import InputError
from .aligned import mirrored_to
from .hold import Callback

__all__ = ["OURS", "PipelineSettings", "read_pictures"]

_LEAVE_OUT = "leave it out"
_SIZE = "leave it out, and give a picture of the size you want"
_WHERE = "leave it out; strength says how many steps a pixel takes"

OURS = {
    "image": _LEAVE_OUT,
    "video": _LEAVE_OUT,
    "mask_image": "leave it out; the map says where and how much",
    "strength": "leave it out; the map says how much",
    "num_inference_steps": "give steps instead",
    "generator": "give seed instead",
    "output_type": _LEAVE_OUT,
    "return_dict": _LEAVE_OUT,
    "height": _SIZE,
    "width": _SIZE,
    "num_images_per_prompt": "give samples and batch_size instead",
    "num_videos_per_prompt": _LEAVE_OUT,
    "latents": _LEAVE_OUT,
    "padding_mask_crop": "give region and context instead",
    "denoising_start": _WHERE,
    "denoising_end": _WHERE,
    "use_resolution_binning": _LEAVE_OUT,
}
"""Arguments of a pipeline that the request sets, and what to do instead."""


@dataclass(frozen=True)
class PipelineSettings:
    """What a request may say to a pipeline.

    Attributes:
        prompt, negative_prompt: as the pipeline takes them; a list has one for each picture.
        guidance_scale: as the pipeline takes it; its own default if None.
        pipeline_kwargs: any other argument of the pipeline's call.
        fade_below: strength below which the result fades into the original.
        border: pixels over which it fades into what is kept, see `blend.fade_weight`.
        compat: "published" for the published loop, in which a pixel moves one step more.
        skip_idle: leave out the steps in which no pixel moves.
        warmup_steps: idle steps to do all the same, for schedulers that remember their history.
        exact: end latent cells of strength 0 at the original's, and put its pixels back.
    """

    prompt: str | list[str] | None = None
    negative_prompt: str | list[str] | None = None
    guidance_scale: float | None = None
    pipeline_kwargs: Mapping[str, Any] = field(default_factory=dict)
    fade_below: float = 0.1
    border: int = 4
    compat: str | None = None
    skip_idle: bool = True
    warmup_steps: int = 0
    exact: bool = True

    def call(self) -> tuple[dict[str, Any], Callback | None, list[str]]:
        """`pipeline_kwargs`, files read, and apart the user's step callback and its inputs."""
        given = read_pictures(self.pipeline_kwargs)
        callback = given.pop("callback_on_step_end", None)
        return given, callback, list(given.pop("callback_on_step_end_tensor_inputs", ["latents"]))

    def mirrored(self, size: tuple[int, int], larger: tuple[int, int]) -> PipelineSettings:
        """These settings for a picture (H, W) that is mirrored to a larger size."""
        if size == larger:
            return self
        given = mirrored_to(read_pictures(self.pipeline_kwargs), size, larger)
        return replace(self, pipeline_kwargs=given)


def read_pictures(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments, with pictures in place of the files' names where images are wanted.

    Raises:
        InputError: for files that hold no picture.
    """
    return {name: _read(name, value) for name, value in arguments.items()}


def _read(name: str, value: Any) -> Any:
    if isinstance(value, list):
        return [_read(name, one) for one in value]
    if not (isinstance(value, str | Path) and "image" in name):
        return value
    try:
        with Image.open(Path(value).expanduser()) as file:
            return file.convert("RGB")
    except OSError as error:
        raise InputError(
            f"pipeline_kwargs sets {name} to '{value}', which cannot be read as a picture "
            f"({type(error).__name__}): check the file"
        ) from None
