"""From a folder, a hub id, a single file or an object of Diffusers to a `PipelineModel`."""

from __future__ import annotations

import inspect
import re
from pathlib import Path
from typing import Any

import torch

from ..errors import InputError, MissingExtraError
from .device import uses_bf16
from .diffusers import INDEX_FILE, kind_of
from .pipeline import PipelineModel
from .video_pipeline import VideoPipelineModel

__all__ = ["load_pipeline", "wrap_pipeline"]

INPAINTING_CHANNELS = 9
_NEEDED = ("image", "strength", "num_inference_steps", "callback_on_step_end")


def load_pipeline(
    reference: str, config: Path | None, device: torch.device, precision: str
) -> PipelineModel:
    """Load an image-to-image pipeline; weights from safetensors only.

    Args:
        reference: a folder with model_index.json, an id on the hub such as "org/name", or a
            .safetensors file, which needs `config`.
        config: for a single file, a local folder of the same architecture with its
            model_index.json, so that nothing is fetched.
        device: where to put it.
        precision: "fp32", "bf16", or "auto" (bf16 where the device has units for it).

    Raises:
        InputError: if it cannot be loaded, or can take no strength.
        MissingExtraError: Diffusers is not installed.
    """
    diffusers = _diffusers()
    half = uses_bf16(precision, device)
    # Known as dtype from 0.42 on at the latest, where the old name warns.
    name = "dtype" if _version(diffusers) >= (0, 42) else "torch_dtype"
    options = {name: torch.bfloat16 if half else torch.float32}
    path = Path(reference).expanduser()
    try:
        if path.suffix == ".safetensors":
            pipeline = _from_single_file(path, config, options)
        elif config is not None:
            raise InputError(f"'{reference}' is no single file, and takes no config=: leave it out")
        else:
            place = str(path) if path.is_dir() else reference
            pipeline = _class_for(place)(place, use_safetensors=True, **options)
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        if isinstance(error, InputError):
            raise
        reason = " ".join(str(error).split())[:300]
        raise InputError(
            f"'{reference}' cannot be loaded as a pipeline of Diffusers {diffusers.__version__} "
            f"({reason}): check the folder, and that its weights are .safetensors"
        ) from None
    return wrap_pipeline(pipeline.to(device), name=reference)


def wrap_pipeline(pipeline: Any, name: str | None = None) -> PipelineModel:
    """A loaded pipeline as a model; its modules are shared, not copied.

    A text-to-image or inpainting pipeline is turned into its image-to-image twin.

    Raises:
        InputError: a pipeline that takes no strength, and has no twin that does.
    """
    named = name or type(pipeline).__name__
    if _takes(pipeline, "video") and _missing(pipeline) == ["image"]:
        return VideoPipelineModel(named, pipeline)
    if _takes(pipeline, "mask_image") != (_input_channels(pipeline) == INPAINTING_CHANNELS):
        # Other inpainting pipelines cut masks to 0 and 1, and put the original back themselves.
        pipeline = _twin(pipeline, inpainting=_input_channels(pipeline) == INPAINTING_CHANNELS)
    elif _missing(pipeline):
        pipeline = _twin(pipeline)
    if missing := _missing(pipeline):
        raise InputError(
            f"{type(pipeline).__name__} does not take {' and '.join(missing)}, so that it cannot "
            "change each pixel by its own strength: use an image-to-image pipeline"
        )
    return PipelineModel(named, pipeline)


def _twin(pipeline: Any, *, inpainting: bool = False) -> Any:
    """The image-to-image or inpainting pipeline of the same parts; itself where there is none."""
    diffusers = _diffusers()
    automatic = (
        diffusers.AutoPipelineForInpainting if inpainting else diffusers.AutoPipelineForImage2Image
    )
    try:
        return automatic.from_pipe(pipeline)
    except (ValueError, AttributeError):
        return pipeline


def _input_channels(pipeline: Any) -> int | None:
    unet = getattr(pipeline, "unet", None)
    return None if unet is None else int(unet.config.in_channels)


def _takes(pipeline: Any, name: str) -> bool:
    return name in inspect.signature(pipeline.__call__).parameters


def _diffusers() -> Any:
    try:
        import diffusers
    except ImportError:
        raise MissingExtraError("Diffusers pipelines", "diffusers") from None
    return diffusers


def _version(module: Any) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", module.__version__)[:2])


def _missing(pipeline: Any) -> list[str]:
    """What a pipeline's call must take, and does not."""
    known = inspect.signature(pipeline.__call__).parameters
    return [name for name in _NEEDED if name not in known]


def _class_for(place: str) -> Any:
    """What loads the pipeline there: the image-to-image twin of its class, or the class itself."""
    diffusers = _diffusers()
    automatic = diffusers.AutoPipelineForImage2Image
    if not (Path(place) / INDEX_FILE).is_file():
        return automatic.from_pretrained
    named = kind_of(Path(place))
    kind = getattr(diffusers, named, None)
    if kind is None:
        raise InputError(f"'{place}' is a {named}, which Diffusers {diffusers.__version__} lacks")
    known = inspect.signature(kind.__call__).parameters
    return kind.from_pretrained if all(n in known for n in _NEEDED) else automatic.from_pretrained


def _from_single_file(path: Path, config: Path | None, options: dict[str, Any]) -> Any:
    if not path.is_file():
        raise InputError(f"'{path}' does not exist: check the path")
    if config is None or not (config / INDEX_FILE).is_file():
        raise InputError(
            f"'{path}' is a single file: give config= a local folder of the same architecture "
            f"with its {INDEX_FILE}, so that nothing has to be fetched"
        )
    diffusers = _diffusers()
    kind = getattr(diffusers, kind_of(config))
    return kind.from_single_file(str(path), config=str(config), local_files_only=True, **options)
