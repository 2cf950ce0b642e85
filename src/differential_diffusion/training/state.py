"""Training checkpoints: safetensors and JSON in a folder that appears whole or not at all."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from ..core.parametrization import Parametrization
from ..errors import InputError
from ..files import write_atomically
from ..models.checkpoint import load_checkpoint
from ..models.interchange import is_pipeline, read_pipeline
from ..models.network import Network, UNet2D
from ..nn import SigmaMapUNet, UNetConfig
from .records import remove_drafts, written

STATE_FILE, INFO_FILE = "training_state.safetensors", "training_state.json"
BEST_FILE = "best.safetensors"
_PREFIX = "step-"
_UNFIT = "the checkpoint '{}' does not fit this run ({}): remove it or choose another output folder"


def checkpoint_folder(output: Path, step: int) -> Path:
    """Where the checkpoint of a step lies."""
    return output / "checkpoints" / f"{_PREFIX}{step:08d}"


def list_checkpoints(output: Path) -> list[Path]:
    """Complete checkpoints of a run, oldest first."""
    return sorted(
        folder
        for folder in (output / "checkpoints").glob(_PREFIX + "*")
        if (folder / INFO_FILE).is_file()
    )


def existing_checkpoints(output: Path, resume: bool) -> list[Path]:
    """Checkpoints to go on from; makes the output folder, so that a run can save later.

    Raises:
        InputError: if it cannot be made or written, or holds checkpoints not to go on from.
    """
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"the output folder '{output}' cannot be made ({error.strerror}): choose another"
        ) from None
    if not os.access(output, os.W_OK):
        raise InputError(f"the output folder '{output}' is not writable: choose another")
    existing = list_checkpoints(output)
    if existing and not resume:
        raise InputError(f"'{output}' already holds checkpoints: resume, or choose another output")
    return existing


@contextmanager
def whole_folder(folder: Path) -> Iterator[Path]:
    """A temporary folder to write in, renamed to `folder` (replacing it) when all is written.

    Raises:
        InputError: if it cannot be written, such as on a full disk; nothing of it stays.
    """
    temporary = folder.with_name(f".{folder.name}.{os.getpid()}")
    try:
        with written(f"the checkpoint '{folder}'"):
            folder.parent.mkdir(parents=True, exist_ok=True)
            shutil.rmtree(temporary, ignore_errors=True)
            temporary.mkdir()
            yield temporary
            _remove(folder)
            os.replace(temporary, folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _remove(folder: Path) -> None:
    """Remove a checkpoint, which is there whole or, from then on, not at all."""
    if folder.exists():
        doomed = folder.with_name(f".{folder.name}.removed")
        shutil.rmtree(doomed, ignore_errors=True)
        os.replace(folder, doomed)
        shutil.rmtree(doomed, ignore_errors=True)


def save_state(
    folder: Path,
    network: nn.Module,
    ema: nn.Module,
    optimizers: Sequence[torch.optim.Optimizer],
    info: dict[str, Any],
) -> None:
    """Write the training state into `folder`."""
    tensors = {f"network.{k}": v for k, v in network.state_dict().items()}
    tensors |= {f"ema.{k}": v for k, v in ema.state_dict().items()}
    for number, optimizer in enumerate(optimizers):
        for index, state in optimizer.state_dict()["state"].items():
            prefix = f"optimizer.{number}.{index}"
            tensors |= {f"{prefix}.{k}": torch.as_tensor(v) for k, v in state.items()}
    content = save({k: v.detach().cpu().contiguous() for k, v in tensors.items()})
    write_atomically(folder / STATE_FILE, content)
    write_atomically(folder / INFO_FILE, (json.dumps(info, indent=2) + "\n").encode())


def load_info(folder: Path) -> dict[str, Any]:
    """The info that `save_state` was given.

    Raises:
        InputError: if it cannot be read.
    """
    try:
        info = json.loads((folder / INFO_FILE).read_text(encoding="utf-8"))
        result: dict[str, Any] = info | {
            "step": int(info["step"]),
            "seconds": float(info["seconds"]),
        }
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise InputError(_UNFIT.format(folder, f"{INFO_FILE}: {error}")) from None
    return result


def load_state(
    folder: Path,
    network: nn.Module,
    ema: nn.Module,
    optimizers: Sequence[torch.optim.Optimizer],
) -> None:
    """Restore what `save_state` wrote, in place.

    Raises:
        InputError: if the files are damaged or belong to another network.
    """
    parts: dict[str, dict[str, Tensor]] = {"network": {}, "ema": {}, "optimizer": {}}
    try:
        with safe_open(folder / STATE_FILE, framework="pt") as file:
            for name in file.keys():  # noqa: SIM118 (not a mapping)
                part, key = name.split(".", 1)
                parts[part][key] = file.get_tensor(name)
        network.load_state_dict(parts["network"])
        ema.load_state_dict(parts["ema"])
        states = [optimizer.state_dict() for optimizer in optimizers]
        for state in states:
            state["state"] = {}
        for key, value in parts["optimizer"].items():
            number, index, name = key.split(".", 2)
            states[int(number)]["state"].setdefault(int(index), {})[name] = value
        for optimizer, state in zip(optimizers, states, strict=True):
            state["param_groups"] = optimizer.state_dict()["param_groups"]
            optimizer.load_state_dict(state)
            _match_layout(optimizer)
    except (OSError, ValueError, LookupError, SafetensorError, RuntimeError) as error:
        raise InputError(_UNFIT.format(folder, _reason(error))) from None


def save_best(output: Path, network: nn.Module, step: int) -> None:
    """Keep the weights that did best so far, and the step that they are of."""
    tensors = {k: v.detach().cpu().contiguous() for k, v in network.state_dict().items()}
    write_atomically(output / BEST_FILE, save(tensors, {"step": str(step)}))


def load_best(output: Path, network: nn.Module) -> int | None:
    """Restore what `save_best` wrote, in place; the step, or None if it wrote nothing.

    Raises:
        InputError: if the file is damaged or belongs to another network.
    """
    path = output / BEST_FILE
    if not path.is_file():
        return None
    try:
        with safe_open(path, framework="pt") as file:
            step = int(file.metadata()["step"])
            network.load_state_dict({k: file.get_tensor(k) for k in file.keys()})  # noqa: SIM118
    except (OSError, ValueError, LookupError, TypeError, SafetensorError, RuntimeError) as error:
        raise InputError(_UNFIT.format(path, _reason(error))) from None
    return step


def _reason(error: Exception) -> str:
    """The last line of what an error says."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[-1].strip().rstrip(".")


def _match_layout(optimizer: torch.optim.Optimizer) -> None:
    """Give moments their parameters' memory layout: fused kernels walk both in storage order."""
    for parameter, state in optimizer.state.items():
        for name, value in state.items():
            if isinstance(value, Tensor) and value.shape == parameter.shape:
                state[name] = torch.empty_like(parameter).copy_(value)


def warm_start(network: Network, source: Path, form: Parametrization | None = None) -> None:
    """Take over weights; what the source lacks begins without effect.

    That may be blocks, attention, context, and conditions on classes, numbers or augmentation; of
    a `UNet2DModel`, classes. Dropout has no weights and may differ.

    Args:
        network: what will be trained, changed in place.
        source: a checkpoint of ours, or a DDPM or DDIM pipeline of Diffusers.
        form: what the network will be given and predict; the source must have learnt that.

    Raises:
        InputError: if the source cannot be read, or differs in more than that.
    """
    loaded, described = (
        read_pipeline(source)[:2] if is_pipeline(source) else load_checkpoint(source)
    )
    if form is not None:
        _check_form(described.form, form, source)
    if isinstance(loaded, UNet2D) and isinstance(network, UNet2D):
        _check_alike(loaded, network, source)
        weights = loaded.state_dict()
        if loaded.config.classes != network.config.classes:
            table = network.unet.class_embedding.weight
            weights["unet.class_embedding.weight"] = torch.zeros_like(table)
        network.load_state_dict(weights)
        return
    missing: list[str] | None = None
    ours = isinstance(loaded, SigmaMapUNet) and isinstance(network, SigmaMapUNet)
    if ours and _grown(loaded.config, network.config):  # type: ignore[arg-type]
        found = network.load_state_dict(loaded.state_dict(), strict=False)
        missing = None if found.unexpected_keys else found.missing_keys
    if missing is None:
        raise InputError(
            f"init_from '{source}' has another shape than the network of this configuration: "
            "only blocks, attention, context and conditions may be added"
        )
    heads = [name for name in missing if name.startswith("given.project")]
    inner = [name for name in missing if re.match(r"given\.(label|number|augmentation)", name)]
    for name in heads or inner:
        nn.init.zeros_(network.get_parameter(name))


def _grown(shape: UNetConfig, wanted: UNetConfig) -> bool:
    """Whether a shape is another with parts added that may begin without effect."""
    if len(shape.channels) != len(wanted.channels):
        return False
    added = {
        name: getattr(shape, name)
        for name in ("classes", "vector", "augmented", "context")
        if not getattr(shape, name)
    }
    kept = replace(
        wanted, blocks=shape.blocks, attention=shape.attention, dropout=shape.dropout, **added
    )
    return (
        kept == shape
        and all(a <= b for a, b in zip(shape.blocks, wanted.blocks, strict=True))
        and set(shape.attention) <= set(wanted.attention)
    )


_FREE_OPTIONS = {"sample_size", "dropout"}


def _check_alike(loaded: UNet2D, network: UNet2D, source: Path) -> None:
    """That two U-Nets of Diffusers differ in no more than classes that the first lacks."""
    theirs, ours = dict(loaded.unet.config), dict(network.unet.config)
    for name in sorted(ours.keys() - _FREE_OPTIONS):
        one, other = theirs.get(name), ours[name]
        one, other = (list(v) if isinstance(v, tuple) else v for v in (one, other))
        begins = name == "num_class_embeds" and one is None
        if one != other and not name.startswith("_") and not begins:
            raise InputError(
                f"init_from '{source}' is a UNet2DModel with {name} {one!r}, and this "
                f"configuration makes one with {other!r}: set them alike"
            )


def _check_form(learnt: Parametrization, form: Parametrization, source: Path) -> None:
    """That the weights were trained to predict what they shall."""
    same = replace(learnt, sigma_data=form.sigma_data)
    if form.told == "level":  # then no table of timesteps is heeded
        same = replace(same, schedule=form.schedule, timesteps=form.timesteps)
    if same != form:
        raise InputError(
            f"init_from '{source}' has learnt to predict {_said(learnt)}, and this configuration "
            f"wants {_said(form)}: choose the objective that it was trained with"
        )


def _said(form: Parametrization) -> str:
    table = f"{form.timesteps} {form.schedule} timesteps"
    told = table if form.told == "timestep" else "noise levels"
    return f"'{form.prediction}' in the scaling '{form.scaling}' at {told}"


def prune_checkpoints(output: Path, keep: int, keep_steps: tuple[int, ...]) -> None:
    """Remove all but the newest `keep` checkpoints and those at `keep_steps`."""
    remove_stale(output)
    pinned = {checkpoint_folder(output, step) for step in keep_steps}
    for folder in list_checkpoints(output)[:-keep]:
        if folder not in pinned:
            _remove(folder)


def remove_stale(output: Path) -> None:
    """Remove what runs that were killed had not finished writing, or removing."""
    for folder, begun in ((output / "checkpoints", _PREFIX), (output / "final", "codec.")):
        for stale in folder.glob(f".{begun}*"):
            shutil.rmtree(stale, ignore_errors=True)
    remove_drafts(output)
