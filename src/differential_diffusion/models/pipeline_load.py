"""From a folder, a hub id, a single file or an object of Diffusers to a `PipelineModel`."""

from __future__ import annotations

import inspect
import math
import re
from pathlib import Path
from typing import Any

import torch

from ..errors import InputError, MissingExtraError, on_one_line
from .base import Model
from .device import uses_bf16
from .diffusers import INDEX_FILE, UNCONDITIONAL, kind_of
from .pipeline import PipelineModel
from .text_pipeline import TextPipelineModel
from .unet import from_unet
from .video_pipeline import VideoPipelineModel

__all__ = ["load_pipeline", "wrap_pipeline"]

INPAINTING_CHANNELS = 9
_NEEDED = ("image", "strength", "num_inference_steps", "callback_on_step_end")


def load_pipeline(
    reference: str, config: Path | None, device: torch.device, precision: str
) -> Model:
    """Load a pipeline; weights from safetensors only.

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
            if path.is_dir():
                _check_class(path)
            place = str(path) if path.is_dir() else reference
            pipeline = diffusers.DiffusionPipeline.from_pretrained(
                place, use_safetensors=True, **options
            )
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        if isinstance(error, InputError):
            raise
        reason = on_one_line(str(error))[:300]
        raise InputError(
            f"'{reference}' cannot be loaded as a pipeline of Diffusers {diffusers.__version__} "
            f"({reason}): check the folder, and that its weights are .safetensors"
        ) from None
    _check_tokenizers(pipeline, config or reference)
    pipeline = pipeline.to(device)
    if type(pipeline).__name__ in UNCONDITIONAL:  # an id on the hub does not tell before
        unet = pipeline.unet.float()  # autocast computes in half precision
        return from_unet(unet, pipeline.scheduler, name=reference, bf16=half)
    return wrap_pipeline(pipeline, name=reference)


def wrap_pipeline(pipeline: Any, name: str | None = None) -> PipelineModel:
    """A loaded pipeline as a model; its modules are shared, not copied.

    A text-to-image or inpainting pipeline is turned into its image-to-image twin; text-to-image
    pipelines that have none can do no more than generate.

    Raises:
        InputError: a pipeline that takes no strength, and has no twin that does.
    """
    named = name or type(pipeline).__name__
    given = pipeline
    is_inpainting = _input_channels(pipeline) == INPAINTING_CHANNELS
    if not _takes(pipeline, "video") and (
        _missing(pipeline) or _takes(pipeline, "mask_image") != is_inpainting
    ):
        pipeline = _twin(pipeline, inpainting=is_inpainting)
    if _draws_from_text(pipeline):
        return TextPipelineModel(named, pipeline)
    if reason := _obstacle(pipeline, is_inpainting=is_inpainting):
        raise InputError(f"{type(given).__name__} {reason}")
    is_of_videos = _takes(pipeline, "video")
    return (VideoPipelineModel if is_of_videos else PipelineModel)(named, pipeline)


def _draws_from_text(pipeline: Any) -> bool:
    """Whether it makes pictures of a prompt, and cannot start from one: such as PixArt's."""
    known = inspect.signature(pipeline.__call__).parameters
    alone = all(
        p.default is not p.empty or p.kind in (p.VAR_KEYWORD, p.VAR_POSITIONAL)
        for p in known.values()
    )
    makes = {"prompt", "num_inference_steps", "height"} <= known.keys() and alone
    return makes and not {"strength", "num_frames", "video", "image"} & known.keys()


def _obstacle(pipeline: Any, *, is_inpainting: bool) -> str:
    """Why a pipeline cannot change each pixel by its own strength; nothing if it can."""
    is_of_videos = _takes(pipeline, "video")
    missing = [n for n in _missing(pipeline) if not (is_of_videos and n == "image")]
    if missing:
        return (
            f"does not take {' and '.join(missing)}, so that it cannot change each pixel by its "
            "own strength: use an image-to-image pipeline"
        )
    if _takes(pipeline, "denoise_strength"):
        return "means by strength how much its conditions count: use another pipeline"
    if _takes(pipeline, "mask_video") or (_takes(pipeline, "mask_image") and not is_inpainting):
        return "goes by masks of 0 and 1, and has no twin without: use another pipeline"
    if hasattr(pipeline, "motion_adapter") and not is_of_videos:
        return "makes a video of a picture: use a video-to-video pipeline"
    return ""


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
        from transformers.utils import logging
    except ImportError:
        raise MissingExtraError("Diffusers pipelines", "diffusers") from None
    if not logging.is_progress_bar_enabled():  # Diffusers does not ask the hub's setting
        diffusers.utils.logging.disable_progress_bar()
    return diffusers


def _version(module: Any) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", module.__version__)[:2])


def _missing(pipeline: Any) -> list[str]:
    """What a pipeline's call must take, and does not."""
    known = inspect.signature(pipeline.__call__).parameters
    return [name for name in _NEEDED if name not in known]


def _check_class(folder: Path) -> None:
    """That the class a folder names is there, with what it needs."""
    diffusers, named = _diffusers(), kind_of(folder)
    kind = getattr(diffusers, named, None)
    if kind is None:
        raise InputError(f"'{folder}' is a {named}, which Diffusers {diffusers.__version__} lacks")
    if needed := getattr(kind, "_backends", None):  # a stand-in for what could not be imported
        raise InputError(
            f"{named} needs the packages {', '.join(needed)}: install those that are missing"
        )


def _from_single_file(path: Path, config: Path | None, options: dict[str, Any]) -> Any:
    if not path.is_file():
        raise InputError(f"'{path}' does not exist: check the path")
    if config is None or not (config / INDEX_FILE).is_file():
        raise InputError(
            f"'{path}' is a single file: give config= a local folder of the same architecture "
            f"with its {INDEX_FILE}, so that nothing has to be fetched"
        )
    diffusers = _diffusers()
    named = kind_of(config)
    kind: Any = getattr(diffusers, named, None)
    if not hasattr(kind, "from_single_file"):
        raise InputError(
            f"'{config}' is a {named}, which Diffusers {diffusers.__version__} does not load from "
            "a single file: use a folder that holds its weights too"
        )
    try:
        pipeline = kind.from_single_file(
            str(path), config=str(config), local_files_only=True, **options
        )
        misfit = _misfit(pipeline, path)
    except (OSError, MemoryError):  # not a matter of what fits
        raise
    except Exception as error:  # of every kind, one of them Diffusers' own
        misfit = _reason(error)
    if misfit:
        raise InputError(
            f"'{path}' does not fit the {named} that '{config}' describes ({misfit}): give the "
            "same model's folder, and a file with all its weights"
        )
    return pipeline


def _check_tokenizers(pipeline: Any, folder: str | Path) -> None:
    """Without their files, Transformers makes tokenizers to which every word is unknown."""
    for name, part in pipeline.components.items():
        if hasattr(part, "all_special_tokens") and len(part) <= len(part.all_special_tokens):
            raise InputError(
                f"the {name} in '{folder}' has no vocabulary: copy that folder of the model whole"
            )


def _misfit(pipeline: Any, path: Path) -> str:
    """What Diffusers passes over in a single file: weights that are missing, or are too many."""
    from safetensors import safe_open

    for name, part in pipeline.components.items():
        if isinstance(part, torch.nn.Module) and any(p.is_meta for p in part.parameters()):
            return f"weights of the {name} are missing"
    if unet := getattr(pipeline, "unet", None):
        with safe_open(path, "pt") as file:
            names = file.keys()
            held = [name for name in names if name.startswith("model.diffusion_model.")]
            count = sum(math.prod(file.get_slice(name).get_shape()) for name in held)
        if count > sum(parameter.numel() for parameter in unet.parameters()):
            return "it holds more weights of the unet"
    return ""


def _reason(error: Exception) -> str:
    if isinstance(error, NotImplementedError):  # of PyTorch, on moving what was not filled
        return "weights are missing"
    if isinstance(error, KeyError):
        return f"{error} is missing"
    return re.split(r"\.\s", str(error))[0][:300]
