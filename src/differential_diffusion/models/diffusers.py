"""Models of Diffusers: of which kind a folder or an object is, and loading the unconditional ones.

Weights are read from safetensors alone; nothing unpickles and no code of a folder runs.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from ..errors import InputError, MissingExtraError
from .base import Model
from .device import uses_bf16
from .unet import UNetModel, from_unet

__all__ = [
    "INDEX_FILE",
    "check_weights",
    "is_of_diffusers",
    "kind_of",
    "load_diffusers",
    "read_unet",
    "wrap_diffusers",
]

INDEX_FILE, CONFIG_FILE, SCHEDULER_FILE = (
    "model_index.json",
    "config.json",
    "scheduler_config.json",
)
UNCONDITIONAL = (
    "DDPMPipeline",
    "DDIMPipeline",
    "PNDMPipeline",
    "ScoreSdeVePipeline",
    "KarrasVePipeline",
)
"""Pipelines that are a `UNet2DModel` and a scheduler."""

_FAILURES = (OSError, ValueError, TypeError, KeyError, IndexError, AttributeError, RuntimeError)


def load_diffusers(
    reference: str, config: Path | None, device: torch.device, precision: str
) -> Model:
    """Load a Diffusers model.

    Args:
        reference: a folder with model_index.json; the folder of a `UNet2DModel`; or what a
            pipeline with a loop of its own is known by.
        config: the scheduler that belongs to the folder of a bare U-Net, unless that holds it.
        device, precision: see `load_model`.

    Raises:
        InputError: for folders that are incomplete, damaged or of an unknown kind.
        MissingExtraError: without Diffusers.
    """
    folder = Path(reference).expanduser()
    if reference and folder.is_dir():
        kind = kind_of(folder)
        if kind in UNCONDITIONAL and config is not None:
            raise InputError(f"'{reference}' holds its own scheduler: leave config= out")
        if kind in UNCONDITIONAL or kind == "UNet2DModel":
            return _load_unet(folder, config, reference, device, precision)
    from .pipeline_load import load_pipeline

    return load_pipeline(reference, config, device, precision)


def is_of_diffusers(thing: object) -> bool:
    """Whether an object's class is one of Diffusers, or made from one."""
    return any(cls.__module__.partition(".")[0] == "diffusers" for cls in type(thing).__mro__)


def wrap_diffusers(thing: Any, config: str | Path | None) -> Model:
    """A loaded pipeline, or a `UNet2DModel` with the folder of its scheduler, as a model.

    Raises:
        InputError: for objects of other kinds.
    """
    name, kinds = type(thing).__name__, {cls.__name__ for cls in type(thing).__mro__}
    if "DiffusionPipeline" in kinds and config is not None:
        raise InputError(f"the {name} has its own scheduler: leave config= out")
    if kinds & set(UNCONDITIONAL):
        return from_unet(thing.unet, thing.scheduler, name=name)
    if "DiffusionPipeline" in kinds:
        from .pipeline_load import wrap_pipeline

        return wrap_pipeline(thing)
    if "UNet2DModel" not in kinds:
        raise InputError(f"a {name} is no model: give a pipeline, or a UNet2DModel with config=")
    if config is None:
        raise InputError(f"the {name} has no scheduler: name its folder with config=")
    return from_unet(thing, _scheduler(Path(config)), name=name)


def kind_of(folder: Path) -> str:
    """The class that a folder of Diffusers was saved from."""
    for file in (INDEX_FILE, CONFIG_FILE):
        if (folder / file).is_file():
            return _class_in(_read(folder / file), folder / file)
    raise InputError(
        f"the folder '{folder}' holds no {INDEX_FILE}: point to one that save_pretrained wrote"
    )


def _load_unet(
    folder: Path, scheduler: Path | None, name: str, device: torch.device, precision: str
) -> UNetModel:
    bf16 = uses_bf16(precision, device)
    unet, made = read_unet(folder, scheduler)
    return from_unet(unet.to(device).requires_grad_(False), made, name=name, bf16=bf16)


def read_unet(folder: Path, scheduler: Path | None = None) -> tuple[Any, Any]:
    """The `UNet2DModel` in a folder, in eval mode, and its scheduler.

    Args:
        folder: of a pipeline, or of the U-Net alone.
        scheduler: its folder, unless `folder` holds it.

    Raises:
        InputError: for folders that are incomplete, damaged or of another kind.
        MissingExtraError: without Diffusers.
    """
    try:
        from diffusers import UNet2DModel
    except ImportError:
        raise MissingExtraError(f"the model '{folder}'", "diffusers") from None
    made = _scheduler(scheduler or _scheduler_in(folder))
    part = folder / "unet" if (folder / "unet").is_dir() else folder
    kind = _class_in(_read(part / CONFIG_FILE), part / CONFIG_FILE)
    if kind != "UNet2DModel":
        raise InputError(f"'{part}' holds a {kind}: only a UNet2DModel is known")
    check_weights(part)
    try:
        unet, found = UNet2DModel.from_pretrained(
            part, use_safetensors=True, local_files_only=True, output_loading_info=True
        )
    except _FAILURES as error:
        raise InputError(f"the U-Net '{part}' cannot be loaded ({_first_line(error)})") from None
    wrong = [*found["missing_keys"], *found["unexpected_keys"]]
    if wrong:
        raise InputError(
            f"the weights in '{part}' do not fit its {CONFIG_FILE} ('{wrong[0]}' is missing or not "
            "known): save the U-Net again"
        )
    return unet, made


def check_weights(folder: Path) -> None:
    """That there are weights which need no unpickling.

    Raises:
        InputError: if not.
    """
    if any(folder.glob("*.safetensors")):
        return
    pickled = sorted(file.name for file in folder.glob("*.bin"))
    held = f"its weights as a pickle ({pickled[0]}), which is not read" if pickled else "no weights"
    raise InputError(
        f"'{folder}' holds {held}: save the model with save_pretrained(safe_serialization=True)"
    )


def _scheduler_in(folder: Path) -> Path:
    """Where a model's folder holds its scheduler."""
    for path in (folder / "scheduler", folder):
        if (path / SCHEDULER_FILE).is_file():
            return path
    raise InputError(
        f"'{folder}' holds no {SCHEDULER_FILE}: name the folder of its scheduler with config="
    )


def _scheduler(path: Path) -> Any:
    """The scheduler that a file, or the one in a folder, describes; of Diffusers' own classes."""
    try:
        import diffusers
    except ImportError:
        raise MissingExtraError(f"the scheduler '{path}'", "diffusers") from None
    file = path / SCHEDULER_FILE if path.is_dir() else path
    described = _read(file)
    name = _class_in(described, file)
    cls: Any = getattr(diffusers, name, None)
    known = isinstance(cls, type) and issubclass(cls, diffusers.SchedulerMixin)
    if not known:
        raise InputError(f"'{file}' names {name}, which is no scheduler of Diffusers: check it")
    try:
        return cls.from_config(described)
    except _FAILURES as error:
        raise InputError(
            f"the scheduler '{file}' cannot be built ({_first_line(error)}): check its values"
        ) from None


def _read(file: Path) -> dict[str, Any]:
    try:
        described = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"'{file}' cannot be read ({error}): save the model again") from None
    if not isinstance(described, dict):
        raise InputError(f"'{file}' holds no description of a model: save the model again")
    return described


def _class_in(described: dict[str, Any], file: Path) -> str:
    name = described.get("_class_name")
    if not isinstance(name, str):
        raise InputError(f"'{file}' names no _class_name of Diffusers: save the model with it")
    return name


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
