"""From a model reference to a model."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from importlib import resources
from pathlib import Path
from typing import Literal, overload

import torch

from ..errors import InputError
from .base import Model
from .checkpoint import CONFIG_FILE, CheckpointConfig, load_checkpoint
from .denoiser import DenoiserModel, from_checkpoint
from .device import choose_device
from .diffusers import INDEX_FILE, is_of_diffusers, load_diffusers, wrap_diffusers
from .latent_model import LatentModel, load_own
from .network import Network

Loader = Callable[[str, "Path | None", torch.device, str], Model]


@contextmanager
def prior_files() -> Iterator[tuple[Path, Path]]:
    """The bundled prior's weights and its description, as files while the block lasts."""
    folder = resources.files("differential_diffusion") / "weights"
    with (
        resources.as_file(folder / "prior.safetensors") as weights,
        resources.as_file(folder / "prior.json") as described,
    ):
        yield weights, described


def _load_prior(
    reference: str, config: Path | None, device: torch.device, precision: str
) -> DenoiserModel:
    if reference:
        raise InputError(f"'prior:{reference}' names nothing: the bundled prior is just 'prior'")
    if config is not None:
        raise InputError("the bundled prior takes no config=: leave it out")
    with prior_files() as (weights, described):
        return from_checkpoint(weights, described, name="prior", device=device, precision=precision)


def prior_network() -> tuple[Network, CheckpointConfig]:
    """The network of the bundled prior, for its inner activations; see `load_checkpoint`."""
    with prior_files() as (weights, described):
        return load_checkpoint(weights, described)


def _load_checkpoint(
    reference: str, config: Path | None, device: torch.device, precision: str
) -> DenoiserModel | LatentModel:
    path = Path(reference)
    return load_own(path, config, name=reference, device=device, precision=precision)


_HUB_ID = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*")

MODELS: dict[str, Loader] = {
    "prior": _load_prior,
    "checkpoint": _load_checkpoint,
    "diffusers": load_diffusers,
}
"""Backends by name; a reference `name:rest` chooses one explicitly."""


@overload
def load_model(
    reference: Literal["prior"] | DenoiserModel = "prior",
    *,
    config: str | Path | None = None,
    device: str | None = None,
    precision: str = "auto",
) -> DenoiserModel: ...


@overload
def load_model(
    reference: object,
    *,
    config: str | Path | None = None,
    device: str | None = None,
    precision: str = "auto",
) -> Model: ...


def load_model(
    reference: object = "prior",
    *,
    config: str | Path | None = None,
    device: str | None = None,
    precision: str = "auto",
) -> Model:
    """Load a model; loading the same reference again gives the same object.

    Args:
        reference: "prior" (bundled); a folder holding config.json and model.safetensors; a
            .safetensors file (its description beside it as .json, or named by `config`; a pipeline
            in one file needs it); a folder of Diffusers, holding model_index.json; an explicit
            "checkpoint:PATH" or "diffusers:PATH"; a loaded model, returned as it is; or a loaded
            pipeline or U-Net of Diffusers.
        config: the description that belongs to a .safetensors file; for a pipeline in one file,
            a local folder of the same architecture with its model_index.json; for a bare U-Net of
            Diffusers, the folder of its scheduler.
        device: "cpu", "cuda", "cuda:N", "mps"; by default the best present.
        precision: "auto" (bfloat16 where the device has units for it), "fp32" or "bf16".

    Raises:
        InputError: for a reference that names nothing loadable, damaged files, or a loaded model
            with settings that would change it.
        MissingExtraError: for a model of Diffusers, without Diffusers.
    """
    if is_of_diffusers(reference):
        reference, config = wrap_diffusers(reference, config), None
    if not isinstance(reference, str | Path):
        if isinstance(reference, Model):
            _refuse_settings(reference, config, device, precision)
            return reference
        raise InputError(
            f"a {type(reference).__name__} is no model: give 'prior', a path, or a loaded model"
        )
    described = Path(config).expanduser().resolve() if config is not None else None
    backend, rest = _resolve(str(reference), described)
    path = Path(rest).expanduser()
    here = bool(rest) and path.exists()  # else a name that only the backend understands
    where, written = (str(path.resolve()), _written(path)) if here else (rest, 0)
    return _load(backend, where, described, str(choose_device(device)), precision, written)


def _refuse_settings(
    model: Model, config: str | Path | None, device: str | None, precision: str
) -> None:
    """Settings that take part in loading say nothing about a model that is loaded."""
    where = getattr(model, "device", None)
    given = {
        "config": config is not None,
        "device": device is not None and choose_device(device) != where,
        "precision": precision != "auto",
    }
    for name, is_given in given.items():
        if is_given:
            raise InputError(
                f"{name} was given with a model that is loaded already: give it to load_model"
            )


@lru_cache(maxsize=4)
def _load(
    backend: str, reference: str, config: Path | None, device: str, precision: str, written: int
) -> Model:
    return MODELS[backend](reference, config, torch.device(device), precision)


def _written(path: Path) -> int:
    """When the weights were last written, so that a file written anew is loaded anew."""
    files = path.rglob("*.safetensors") if path.is_dir() else [path]
    return max((file.stat().st_mtime_ns for file in files if file.exists()), default=0)


def _resolve(reference: str, config: Path | None) -> tuple[str, str]:
    """The backend's name and what is left of the reference."""
    prefix, colon, rest = reference.partition(":")
    if reference == "prior":
        return reference, ""
    if colon and prefix in MODELS:
        return prefix, rest
    path = Path(reference).expanduser()
    if path.is_dir():
        if (path / INDEX_FILE).is_file():
            return "diffusers", reference
        if (path / CONFIG_FILE).is_file():
            return "checkpoint", reference
        raise InputError(
            f"the folder '{reference}' holds no {CONFIG_FILE}: point to a saved checkpoint"
        )
    if path.suffix == ".safetensors":
        of_diffusers = config is not None and (config / INDEX_FILE).is_file()
        return "diffusers" if of_diffusers else "checkpoint", reference
    if _HUB_ID.fullmatch(reference):
        return "diffusers", reference
    raise InputError(
        f"the model '{reference}' is not known: use 'prior', a checkpoint or Diffusers folder, a "
        ".safetensors file with config=, or an id on the hub such as 'org/name'"
    )
