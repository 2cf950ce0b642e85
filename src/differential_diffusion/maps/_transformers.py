"""Models of the transformers library: loaded once, from safetensors alone, and run on a picture.

This is the one file of the maps that knows the library; the sources see `Loaded` and tensors. A
model comes as the folder that `save_pretrained` wrote, as the Hub's name of one ("organisation/
name"), as a loaded pipeline, as a pair (model, processor), or as a model whose folder holds its
processor. No code that comes with a model is ever run, and nothing is unpickled.
"""

from __future__ import annotations

import functools
import math
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from ..errors import InputError, MissingExtraError
from ._loaded import Kind, Loaded, first_line

__all__ = ["DEPTH", "DETECTION", "SEGMENTATION", "TEXT", "load"]

_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_CACHED = 4  # models kept in memory

DEPTH = Kind(
    "a depth estimation model",
    "Depth Anything or DPT",
    ("MODEL_FOR_DEPTH_ESTIMATION_MAPPING_NAMES",),
)
SEGMENTATION = Kind(
    "a semantic segmentation model",
    "SegFormer or Mask2Former",
    ("MODEL_FOR_SEMANTIC_SEGMENTATION_MAPPING_NAMES",),
    {
        "mask2former": "Mask2FormerForUniversalSegmentation",
        "maskformer": "MaskFormerForInstanceSegmentation",
    },
)
DETECTION = Kind(
    "an object detection model",
    "DETR, RT-DETR or YOLOS",
    ("MODEL_FOR_OBJECT_DETECTION_MAPPING_NAMES",),
)
TEXT = Kind(
    "a model that finds what a text names",
    "CLIPSeg",
    classes={"clipseg": "CLIPSegForImageSegmentation"},
)


def load(kind: Kind, model: Any, device: Any = None) -> Loaded:
    """A model of a kind, from what the user gave; one that was named is loaded once.

    Raises:
        InputError: no such folder, files that are missing or pickled, a model of another kind, or
            a device that is not here.
        MissingExtraError: transformers is not installed.
    """
    if isinstance(model, str | os.PathLike):
        _need_library(kind)
        return _load(kind, _source(os.fspath(model)), _device(device))
    if device is not None:
        raise InputError(
            "device is given beside a loaded model, which has one: move the model there instead."
        )
    loaded = _given(kind, model)
    if loaded.model.training:
        raise InputError(f"the model {loaded.name} is in training mode: call its eval() first.")
    return loaded


def _need_library(kind: Kind) -> None:
    try:
        import transformers  # noqa: F401
    except ModuleNotFoundError as error:
        if error.name != "transformers":
            raise
        raise MissingExtraError(f"making a map with {kind.words}", "maps") from None


def _source(name: str) -> str:
    """The absolute path of a model's folder, or the Hub's name of a model."""
    folder = Path(name).expanduser()
    if not folder.is_dir():
        if folder.exists():
            raise InputError(f"the model '{name}' is a file: name the folder that holds it.")
        if _HUB_NAME.fullmatch(name):
            return name
        raise InputError(
            f"there is no model folder '{name}': name one that save_pretrained wrote, or a model "
            "of the Hub as organisation/name."
        )
    files = {path.name for path in folder.iterdir()}
    if "config.json" not in files:
        raise InputError(
            f"the folder '{name}' holds no config.json: name one that save_pretrained wrote."
        )
    if not any(file.endswith(".safetensors") for file in files):
        pickled = sorted(file for file in files if file.endswith((".bin", ".pt", ".pth", ".ckpt")))
        held = f"only pickled weights ({pickled[0]})" if pickled else "no weights"
        raise InputError(
            f"the folder '{name}' holds {held}: save the model there with "
            "save_pretrained(folder), as safetensors."
        )
    return str(folder.resolve())


def _device(name: Any) -> str:
    """The named device, or the best present."""
    if name is None:
        if torch.cuda.is_available():
            return "cuda"
        return "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        return str(torch.zeros((), device=str(name)).device)
    except (AssertionError, NotImplementedError, RuntimeError):
        raise InputError(
            f"the device '{name}' is not present here: use cpu, or leave it out to choose one."
        ) from None


@functools.lru_cache(maxsize=_CACHED)
def _load(kind: Kind, source: str, device: str) -> Loaded:
    import transformers

    attempt = functools.partial(_attempt, source)
    config = attempt(transformers.AutoConfig.from_pretrained, trust_remote_code=False)
    chosen = _class_of(kind, config, source)
    with _no_bars(os.path.isdir(source)):
        model, told = attempt(
            chosen.from_pretrained, use_safetensors=True, output_loading_info=True
        )
    missing = _unset(model.float(), told["missing_keys"])
    processor, tokenizer = _processors(kind, source)
    model = model.eval().requires_grad_(False).to(device)
    return Loaded(kind, f"'{source}'", model, processor, tokenizer, missing)


def _class_of(kind: Kind, config: Any, source: str) -> Any:
    """The library's class for a configuration, where that is of the kind.

    Loading weights of another head would give one of random numbers.
    """
    import transformers
    from transformers.models.auto import modeling_auto

    names = dict(kind.classes)
    for table in kind.tables:
        names = {**getattr(modeling_auto, table), **names}
    stored = list(getattr(config, "architectures", None) or ())
    name = names.get(config.model_type)
    if name is None or (stored and name not in stored):
        raise InputError(
            f"the model '{source}' is {stored[0] if stored else config.model_type}, not "
            f"{kind.words}: name one such as {kind.such_as}."
        )
    return getattr(transformers, name)


def _unset(model: torch.nn.Module, missing: Any) -> tuple[str, ...]:
    """Fills what the files did not hold with NaN, so that it shows where it is used.

    Some models leave parts out that they do not use, which is no fault; what is tied to a
    parameter that was there is not missing.
    """
    shared: dict[int, list[str]] = {}
    held = {
        **dict(model.named_parameters(remove_duplicate=False)),
        **dict(model.named_buffers(remove_duplicate=False)),
    }
    for name, value in held.items():
        shared.setdefault(id(value), []).append(name)
    unset = [name for name in held if set(shared[id(held[name])]) <= set(missing)]
    with torch.no_grad():
        for name in unset:
            if held[name].is_floating_point():
                held[name].fill_(math.nan)
    return tuple(unset)


def _processors(kind: Kind, source: str) -> tuple[Any, Any]:
    """The image processor that needs no torchvision, and the tokenizer where texts are read."""
    import transformers

    # Newer releases say by `backend` what older ones say by `use_fast`.
    newer = find_spec("transformers.image_processing_backends") is not None
    plain: dict[str, Any] = {"backend": "pil"} if newer else {"use_fast": False}
    attempt = functools.partial(_attempt, source, trust_remote_code=False)
    processor = attempt(transformers.AutoImageProcessor.from_pretrained, **plain)
    return processor, attempt(transformers.AutoTokenizer.from_pretrained) if kind is TEXT else None


def _attempt(source: str, load: Callable[..., Any], **options: Any) -> Any:
    """Loads from a source; whatever the library raises becomes one sentence."""
    try:
        return load(source, **options)
    except Exception as error:
        if os.path.isdir(source):
            where = f"the model in '{source}' cannot be loaded"
            remedy = "save the model and its processor there with save_pretrained"
        else:
            where = f"'{source}' is no folder here, and no model came from the Hub"
            remedy = "check the name, or give the path of a folder that save_pretrained wrote"
        raise InputError(f"{where} ({first_line(error)}): {remedy}.") from error


def _given(kind: Kind, model: Any) -> Loaded:
    """A loaded pipeline, pair (model, processor), or model."""
    processor: Any
    tokenizer = None
    if isinstance(model, tuple | list) and len(model) == 2:
        module, processor = model
    elif hasattr(model, "model") and hasattr(model, "image_processor"):
        module, processor = model.model, model.image_processor
        tokenizer = getattr(model, "tokenizer", None)
    elif isinstance(model, torch.nn.Module):
        module = model
        source = str(getattr(model, "name_or_path", "") or "")
        if not source:
            raise InputError(
                f"the model is a {type(model).__name__} without an image processor: give the "
                "pair (model, processor)."
            )
        processor, tokenizer = _processors(kind, _source(source))
    else:
        module = processor = None
    if not isinstance(module, torch.nn.Module) or not callable(processor):
        raise InputError(
            f"model is of the type {type(model).__name__}: give a folder, a name on the Hub, a "
            "pipeline, or a pair (model, processor)."
        )
    name = f"'{getattr(module, 'name_or_path', '') or type(module).__name__}'"
    tokenizer = tokenizer or getattr(processor, "tokenizer", None)
    return Loaded(kind, name, module, getattr(processor, "image_processor", processor), tokenizer)


@contextmanager
def _no_bars(local: bool) -> Iterator[None]:
    """Without the library's progress bars, where nothing is fetched."""
    from transformers.utils import logging

    silence = (
        local
        and logging.is_progress_bar_enabled()
        and "HF_HUB_DISABLE_PROGRESS_BARS" not in os.environ
    )
    if silence:
        logging.disable_progress_bar()
    try:
        yield
    finally:
        if silence:
            logging.enable_progress_bar()
