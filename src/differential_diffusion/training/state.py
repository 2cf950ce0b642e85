"""Training checkpoints: safetensors and JSON in a folder that appears whole or not at all."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from ..errors import InputError
from ..files import write_atomically
from ..models.checkpoint import load_checkpoint
from ..models.network import Network
from ..nn import SigmaMapUNet

STATE_FILE, INFO_FILE = "training_state.safetensors", "training_state.json"
METRICS_FILE = "metrics.jsonl"
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


@contextmanager
def whole_folder(folder: Path) -> Iterator[Path]:
    """A temporary folder to write in, renamed to `folder` (replacing it) when all is written."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = folder.with_name(f".{folder.name}.{os.getpid()}")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir()
    yield temporary
    shutil.rmtree(folder, ignore_errors=True)
    os.replace(temporary, folder)


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
    save_file({k: v.detach().cpu().contiguous() for k, v in tensors.items()}, folder / STATE_FILE)
    (folder / INFO_FILE).write_text(json.dumps(info, indent=2) + "\n", encoding="utf-8")


def load_info(folder: Path) -> dict[str, Any]:
    """The info that `save_state` was given.

    Raises:
        InputError: if it cannot be read.
    """
    try:
        info: dict[str, Any] = json.loads((folder / INFO_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(_UNFIT.format(folder, error)) from None
    return info


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
        raise InputError(_UNFIT.format(folder, str(error).splitlines()[0])) from None


def _match_layout(optimizer: torch.optim.Optimizer) -> None:
    """Give moments their parameters' memory layout: fused kernels walk both in storage order."""
    for parameter, state in optimizer.state.items():
        for name, value in state.items():
            if isinstance(value, Tensor) and value.shape == parameter.shape:
                state[name] = torch.empty_like(parameter).copy_(value)


def warm_start(network: Network, source: Path) -> None:
    """Take over weights; blocks that the source lacks stay as they begin, as identities."""
    loaded, _ = load_checkpoint(source)
    alike = type(loaded) is type(network) and loaded.config == network.config
    if isinstance(loaded, SigmaMapUNet) and isinstance(network, SigmaMapUNet):
        shape, wanted = loaded.config, network.config
        alike = shape.channels == wanted.channels and replace(wanted, blocks=shape.blocks) == shape
        alike &= all(a <= b for a, b in zip(shape.blocks, wanted.blocks, strict=False))
    if not alike:
        raise InputError(
            f"init_from '{source}' has another shape than the network of this configuration: "
            "only the numbers of blocks may grow"
        )
    network.load_state_dict(loaded.state_dict(), strict=False)


def forget_later(path: Path, step: int) -> None:
    """Drop the metrics of steps that are about to be run again, and of lines cut short."""
    if path.is_file():
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
        whole = [line for line in lines if line.endswith("\n")]
        kept = [line for line in whole if json.loads(line)["step"] <= step]
        write_atomically(path, "".join(kept).encode())


def prune_checkpoints(output: Path, keep: int, keep_steps: tuple[int, ...]) -> None:
    """Remove all but the newest `keep` checkpoints and those at `keep_steps`."""
    for stale in (output / "checkpoints").glob(f".{_PREFIX}*"):  # of runs that were killed
        shutil.rmtree(stale, ignore_errors=True)
    pinned = {checkpoint_folder(output, step) for step in keep_steps}
    for folder in list_checkpoints(output)[:-keep]:
        if folder not in pinned:
            shutil.rmtree(folder, ignore_errors=True)
