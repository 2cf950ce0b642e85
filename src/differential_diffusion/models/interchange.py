"""Checkpoints of ours as stock pipelines of Diffusers, and such pipelines as checkpoints.

A `UNet2DModel` that was trained on the timesteps of a table is, with that table in a scheduler,
a pipeline:

    prediction   noise      clean     velocity
    Diffusers    epsilon    sample    v_prediction

Our x is x0 + σ ε and theirs x_t = √ᾱ_t x; at N steps of "trailing" spacing, N a divisor of the
table's length, both walk the ladder `core.ladder.vp(N, betas, "trailing")`.
"""

from __future__ import annotations

import copy
import inspect
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from ..core.parametrization import BETAS, Parametrization, Prediction, Schedule, table_of_sigmas
from ..errors import InputError
from ..files import new_folder, write_atomically
from .checkpoint import CheckpointConfig, load_checkpoint, save_checkpoint
from .diffusers import INDEX_FILE, kind_of, read_unet
from .network import OF_DATA, Network, UNet2D, UNet2DConfig, build_network
from .optional import diffusers_for

__all__ = [
    "CLASSES_FILE",
    "ImportedPipeline",
    "export_pipeline",
    "exportable",
    "import_pipeline",
    "is_pipeline",
    "read_pipeline",
    "write_pipeline",
]

Sampler = Literal["ddim", "ddpm"]

CLASSES_FILE = "classes.json"
"""Names of the classes, beside the parts of a pipeline that take labels."""

PREDICTIONS: Mapping[Prediction, str] = {
    "noise": "epsilon",
    "clean": "sample",
    "velocity": "v_prediction",
}
SCHEDULES: Mapping[Schedule, str] = {"linear": "linear", "cosine": "squaredcos_cap_v2"}

IMPORTED = ("DDPMPipeline", "DDIMPipeline", "PNDMPipeline")
"""Pipelines that are no more than a `UNet2DModel` of pixels and a scheduler with betas."""

SIGMA_MAX = 150.0
"""The largest σ that an imported model is sampled from, where its table goes beyond."""


class ImportedPipeline(NamedTuple):
    """A pipeline as a network of ours.

    Attributes:
        network: in eval mode.
        described: what a checkpoint of it says.
        notes: sentences about what a checkpoint does not hold of the pipeline.
    """

    network: UNet2D
    described: CheckpointConfig
    notes: tuple[str, ...]


def export_pipeline(
    model: Path | str,
    output: Path | str,
    *,
    sampler: Sampler = "ddim",
    dtype: torch.dtype = torch.float32,
) -> tuple[str, ...]:
    """Write a checkpoint of ours as a folder that `DDIMPipeline.from_pretrained` loads.

    Args:
        model: folder of a checkpoint whose network is a `UNet2DModel` told timesteps, as training
            with `network.diffusers` and the objective ddpm, x0 or v gives it.
        output: a new folder.
        sampler: "ddim" writes a DDIMPipeline, "ddpm" a DDPMPipeline.
        dtype: of the weights.

    Returns: sentences about what the folder does not hold.

    Raises:
        InputError: for other networks and objectives, saying what to do, or an output that exists.
        MissingExtraError: without Diffusers.
    """
    network, described = load_checkpoint(Path(model))
    with new_folder(Path(output)) as folder:
        return write_pipeline(
            network, described, folder, name=str(model), sampler=sampler, dtype=dtype
        )


def write_pipeline(
    network: Network,
    described: CheckpointConfig,
    folder: Path,
    *,
    name: str,
    sampler: Sampler = "ddim",
    dtype: torch.dtype = torch.float32,
) -> tuple[str, ...]:
    """Write a network into a folder that exists, see `export_pipeline`.

    A network with classes gives `unet/`, `scheduler/` and `classes.json`, and no model_index.json:
    no stock pipeline passes labels.
    """
    unet = exportable(network, described, name)
    diffusers = diffusers_for("a pipeline of Diffusers")
    scheduler = _scheduler(described.form, sampler)
    unet = copy.deepcopy(unet)
    for parameter in unet.parameters():
        parameter.data = parameter.data.to(dtype)
    if described.network.classes:
        unet.save_pretrained(folder / "unet", safe_serialization=True)
        scheduler.save_pretrained(folder / "scheduler")
        names = list(described.classes)
        write_atomically(folder / CLASSES_FILE, (json.dumps(names, indent=2) + "\n").encode())
        note = (
            f"the model '{name}' takes one of {len(names)} classes, and no stock pipeline passes "
            "one: unet/ and scheduler/ were written without model_index.json, to be called in a "
            "loop of your own"
        )
        return (note,)
    kind = diffusers.DDIMPipeline if sampler == "ddim" else diffusers.DDPMPipeline
    kind(unet=unet, scheduler=scheduler).save_pretrained(folder, safe_serialization=True)
    return ()


def exportable(network: Network, described: CheckpointConfig, name: str) -> Any:
    """The `UNet2DModel` of a checkpoint that a scheduler with betas can be written for.

    Raises:
        InputError: for any other.
    """
    if described.latent is not None:
        raise InputError(
            f"the model '{name}' works on latents, for which no stock pipeline without a prompt "
            "is told their normalisation: export it as a checkpoint"
        )
    if not isinstance(network, UNet2D):
        raise InputError(
            f"the model '{name}' is a U-Net of ours, told the noise of every pixel, for which "
            "Diffusers has no class: export it as a checkpoint, or train with network.diffusers"
        )
    form = described.form
    if form.told != "timestep" or form.prediction not in PREDICTIONS:
        raise InputError(
            f"the model '{name}' predicts '{form.prediction}' and is told a {form.told}, which no "
            "DDIM or DDPM scheduler describes: train with the objective ddpm, x0 or v to export it"
        )
    return network.unet


def _scheduler(form: Parametrization, sampler: Sampler) -> Any:
    """A scheduler with our table to the bit of float32, in which Diffusers computes."""
    diffusers = diffusers_for("a pipeline of Diffusers")
    kinds = {"ddim": diffusers.DDIMScheduler, "ddpm": diffusers.DDPMScheduler}
    if sampler not in kinds:
        raise InputError(f"the sampler is {sampler!r}: it must be one of {', '.join(kinds)}")
    betas = BETAS[form.schedule](form.timesteps)
    settings = {
        "num_train_timesteps": form.timesteps,
        "beta_schedule": SCHEDULES[form.schedule],
        "prediction_type": PREDICTIONS[form.prediction],
        "clip_sample": False,
        "timestep_spacing": "trailing",
    }
    made = kinds[sampler](**settings)
    if not torch.equal(made.betas, betas.float()):
        made = kinds[sampler](**settings, trained_betas=betas.tolist())
    return made


def is_pipeline(folder: Path) -> bool:
    """Whether a folder holds a pipeline of Diffusers."""
    return (folder / INDEX_FILE).is_file()


def import_pipeline(pipeline: Path | str, output: Path | str) -> tuple[str, ...]:
    """Write a DDPM, DDIM or PNDM pipeline of Diffusers as a checkpoint of ours.

    Args:
        pipeline: its folder.
        output: a new folder, for config.json and model.safetensors.

    Returns: sentences about what the checkpoint does not hold of the pipeline.

    Raises:
        InputError: see `read_pipeline`; or an output that exists.
        MissingExtraError: without Diffusers.
    """
    made = read_pipeline(Path(pipeline))
    with new_folder(Path(output)) as folder:
        save_checkpoint(folder, made.network, made.described, torch.float32)
    return made.notes


def read_pipeline(folder: Path) -> ImportedPipeline:
    """A DDPM, DDIM or PNDM pipeline of Diffusers as a network of ours.

    Args:
        folder: of the pipeline, or of its U-Net with its scheduler's configuration.

    Raises:
        InputError: for other pipelines, folders that are incomplete or damaged, U-Nets that take
            classes or predict a variance, and for schedulers whose betas are neither DDPM's linear
            ones nor cosine: `load_model` runs more of them.
        MissingExtraError: without Diffusers.
    """
    if not folder.is_dir():
        raise InputError(f"'{folder}' is no folder: give that of a pipeline of Diffusers")
    if (kind := kind_of(folder)) not in (*IMPORTED, "UNet2DModel"):
        raise InputError(
            f"'{folder}' holds a {kind}, which does more than a checkpoint can say: give one of "
            f"{', '.join(IMPORTED)}"
        )
    unet, scheduler = read_unet(folder)
    config = UNet2DConfig(
        _options(unet),
        unet.config.in_channels,
        sample_size=_side(unet) or UNet2DConfig.sample_size,
    )
    form = _form(unet, scheduler, folder)
    network = build_network(config, timesteps=True)
    assert isinstance(network, UNet2D)
    network.unet.load_state_dict({k: v.float() for k, v in unet.state_dict().items()})
    levels = table_of_sigmas(form.schedule, form.timesteps)
    side = _side(unet)
    described = CheckpointConfig(
        config,
        form,
        float(levels[0]),
        min(float(levels[-1]), SIGMA_MAX),
        maps=False,
        size=None if side is None else (side, side),
        card={"imported": type(scheduler).__name__},
    )
    notes = []
    if scheduler.config.get("clip_sample") or scheduler.config.get("thresholding"):
        notes.append(
            f"the scheduler of '{folder}' limits its estimates, which a checkpoint does not, so "
            "that samples may differ a little"
        )
    return ImportedPipeline(network.eval(), described, tuple(notes))


def _form(unet: Any, scheduler: Any, folder: Path) -> Parametrization:
    """What the U-Net is given and predicts."""
    config = unet.config
    if config.class_embed_type is not None or config.num_class_embeds is not None:
        raise InputError(f"the U-Net of '{folder}' takes classes: import an unconditional one")
    if config.out_channels != config.in_channels:
        raise InputError(
            f"the U-Net of '{folder}' makes {config.out_channels} channels of "
            f"{config.in_channels}, a variance too: load_model runs it as it is"
        )
    predictions = {theirs: ours for ours, theirs in PREDICTIONS.items()}
    kind = scheduler.config.get("prediction_type", "epsilon")
    schedule = _schedule(getattr(scheduler, "betas", None))
    if kind not in predictions or schedule is None:
        what = "neither DDPM's linear betas nor cosine ones" if kind in predictions else kind
        raise InputError(
            f"the scheduler of '{folder}' has {what}, which a checkpoint cannot say: load_model "
            "runs the folder as it is"
        )
    return Parametrization(
        predictions[kind],
        "preserving",
        told="timestep",
        schedule=schedule,
        timesteps=len(scheduler.betas),
    )


def _schedule(betas: Any) -> Schedule | None:
    """The name of a table, known to the rounding of float32."""
    if not isinstance(betas, Tensor):
        return None
    for name, table in BETAS.items():
        if torch.allclose(betas.double(), table(len(betas)), rtol=1e-5, atol=0):
            return name
    return None


def _options(unet: Any) -> dict[str, Any]:
    """The arguments of a U-Net that differ from their defaults, as JSON holds them."""
    signature = inspect.signature(type(unet).__init__).parameters
    options = {}
    for name, parameter in signature.items():
        if name == "self" or name in OF_DATA:
            continue
        value = unet.config[name]
        value = list(value) if isinstance(value, tuple) else value
        default = parameter.default
        if value != (list(default) if isinstance(default, tuple) else default):
            options[name] = value
    return options


def _side(unet: Any) -> int | None:
    """The side of the square pictures that it was trained on, where it says so."""
    size = unet.config.sample_size
    sides = set(size) if isinstance(size, list | tuple) else {size}
    side = sides.pop()
    return int(side) if not sides and isinstance(side, int) else None
