"""From a trained model, wherever it lies, to a folder for others: a checkpoint or a pipeline."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from importlib import resources
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch

from ..core.types import Denoiser
from ..errors import InputError
from ..files import write_atomically
from .checkpoint import CONFIG_FILE, CheckpointConfig, load_checkpoint, save_checkpoint
from .denoiser import as_model
from .interchange import Sampler, is_pipeline, read_pipeline, write_pipeline
from .latent_model import CODEC_FOLDER, codec_of
from .load import prior_files
from .network import Network
from .publish import Form

__all__ = ["Source", "Target", "read_source", "write_model"]

Target = Literal["checkpoint", "diffusers"]

METRICS_FILE, NOTICE_FILE = "metrics.jsonl", "NOTICE"


class Source(NamedTuple):
    """A trained model and what is known of it.

    Attributes:
        name: what to call it.
        folder: where it lies, if that is a folder of its own.
        network, described: itself, in float32 and eval mode.
        figures: the last validation of its run up to it, if there was a run.
        notice: what must go with the weights.
        notes: sentences about what was not taken over.
    """

    name: str
    folder: Path | None
    network: Network
    described: CheckpointConfig
    figures: dict[str, Any] | None = None
    notice: str | None = None
    notes: tuple[str, ...] = ()

    def denoiser(self, network: Network) -> Denoiser:
        """Another network in the place of its own, as a denoiser."""
        return as_model(network, self.described, name=self.name).denoiser


def read_source(reference: str) -> Source:
    """Read the model of a training run, of a checkpoint, or of a pipeline of Diffusers.

    Args:
        reference: the output folder of a run, of which the finished model is taken, or the newest
            checkpoint if the run has gone on since; a checkpoint; a DDPM or DDIM pipeline's
            folder; or "prior".

    Raises:
        InputError: if there is no such model.
    """
    if reference == "prior":
        with prior_files() as files:
            network, described = load_checkpoint(*files)
        told = resources.files("differential_diffusion") / "weights" / NOTICE_FILE
        return Source("prior", None, network, described, notice=told.read_text("utf-8"))
    path = Path(reference).expanduser()
    if path.is_dir() and is_pipeline(path):
        made = read_pipeline(path)
        name, notice = path.resolve().name, _notice(path)
        return Source(name, path, made.network, made.described, None, notice, made.notes)
    found = _of_run(path) if path.is_dir() and not (path / CONFIG_FILE).is_file() else path
    network, described = load_checkpoint(found)
    run = next((p for p in found.resolve().parents[:2] if (p / METRICS_FILE).is_file()), None)
    figures = None if run is None else _figures(run / METRICS_FILE, described.card.get("step"))
    name = (run or found.resolve()).name.removesuffix(".safetensors")
    folder = found if found.is_dir() else None
    notice = _notice(folder or found.parent)
    return Source(name, folder, network, described, figures, notice)


def _notice(folder: Path) -> str | None:
    """What a folder says must go with its weights."""
    file = folder / NOTICE_FILE
    return file.read_text(encoding="utf-8", errors="replace") if file.is_file() else None


def _of_run(folder: Path) -> Path:
    """The finished model of a training run, or its newest checkpoint if that was written later."""
    kept = [path.parent for path in sorted(folder.glob(f"checkpoints/step-*/{CONFIG_FILE}"))]
    final = [folder / "final"] if (folder / "final" / CONFIG_FILE).is_file() else []
    if found := [*final, *kept[-1:]]:
        return max(found, key=_trained)  # the first of equals
    raise InputError(
        f"the folder '{folder}' holds no model: name the output of a training run, a checkpoint "
        f"with its {CONFIG_FILE}, or a pipeline of Diffusers"
    )


def _trained(folder: Path) -> int:
    """The steps of a run when a model was written, of which it may hold an earlier one."""
    file = folder / CONFIG_FILE
    card = CheckpointConfig.from_json(file.read_text(encoding="utf-8"), file).card
    steps = card.get("trained_steps", card.get("step"))
    return steps if isinstance(steps, int) else 0


def _figures(file: Path, step: object) -> dict[str, Any] | None:
    """The last record of a run that is not beyond the step of its model."""
    last = None
    for line in file.read_text(encoding="utf-8").splitlines():
        try:
            record = json.loads(line)
        except ValueError:
            continue  # cut off as the run was killed
        if isinstance(record, dict) and (
            not isinstance(step, int) or record.get("step", 0) <= step
        ):
            last = record
    return last


def write_model(
    source: Source,
    network: Network,
    folder: Path,
    *,
    to: Target = "checkpoint",
    sampler: Sampler = "ddim",
    dtype: torch.dtype = torch.float32,
    pruned: float = 0.0,
) -> tuple[Form, tuple[str, ...]]:
    """Write a network, made of the source's, into a folder that exists.

    Args:
        source: where it comes from.
        network: in float32.
        folder: filled.
        to: a checkpoint of ours, or a pipeline of Diffusers.
        sampler: of a pipeline, see `export_pipeline`.
        dtype: of the weights.
        pruned: the share of zeros among its weights, for the card.

    Returns: what the folder holds, and sentences about what it does not.

    Raises:
        InputError: for networks that are no pipeline of Diffusers, see `export_pipeline`.
    """
    described = source.described
    changed: dict[str, Any] = {}
    if dtype != torch.float32:
        changed["dtype"] = str(dtype).removeprefix("torch.")
    if pruned > 0:
        changed["zeros"] = round(pruned, 4)
    described = replace(described, card=described.card | changed)
    if source.notice is not None:
        write_atomically(folder / NOTICE_FILE, source.notice.encode())
    if to == "checkpoint":
        if described.latent is not None:
            codec = codec_of(source.folder or Path(source.name))
            shutil.copytree(codec, folder / CODEC_FOLDER)
        save_checkpoint(folder, network, described, dtype)
        return "checkpoint", ()
    notes = write_pipeline(
        network, described, folder, name=source.name, sampler=sampler, dtype=dtype
    )
    return ("parts" if notes else "diffusers"), notes
