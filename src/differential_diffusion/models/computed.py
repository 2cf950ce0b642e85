"""What tells one computation from another: digests of weights and files, and the precision."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from .base import Model
from .denoiser import DenoiserModel
from .device import uses_bf16
from .latent_model import LatentModel

__all__ = ["computed_by", "digest", "file_digest", "weights_digest"]


def digest(*parts: str | bytes) -> str:
    """16 hexadecimal digits of the SHA-256 of texts and bytes."""
    total = hashlib.sha256()
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        total.update(len(data).to_bytes(8, "little") + data)
    return total.hexdigest()[:16]


def weights_digest(tensors: Mapping[str, Any]) -> str:
    """The digest of a state dictionary: of names, types, shapes and values."""
    parts: list[str | bytes] = []
    for name in sorted(tensors):
        value = tensors[name]
        if isinstance(value, Tensor):
            flat = value.detach().cpu().contiguous().reshape(-1)
            parts += [f"{name} {flat.dtype} {tuple(value.shape)}"]
            parts += [flat.view(torch.uint8).numpy().tobytes()]
    return digest(*parts)


def file_digest(path: Path) -> str:
    """The digest of a file's content."""
    return digest(path.read_bytes())


def computed_by(model: Model, precision: str, *, with_device: bool = False) -> dict[str, str]:
    """The weights of a model by their digest, if it tells them, and the precision it computes in.

    Args:
        model: as `load_model` gave it, a pipeline named after its files if it has some.
        precision: that it was loaded with.
        with_device: name the device as well.
    """
    told: dict[str, str] = {}
    if (device := getattr(model, "device", None)) is not None:
        told |= {"device": str(device)} if with_device else {}
        told["precision"] = "bf16" if uses_bf16(precision, device) else "fp32"
    parts: list[nn.Module | None] = []
    if isinstance(model, LatentModel):
        parts = [model.inner.network, model.codec.vae]
    elif isinstance(model, DenoiserModel):
        parts = [model.network]
    weights = [weights_digest(part.state_dict()) for part in parts if part is not None]
    if not weights:
        path = Path(model.name)
        files = [path] if path.is_file() else sorted(path.glob("**/*.safetensors"))
        weights = [file_digest(file) for file in files]
    return told | ({"weights": digest(*weights)} if weights else {})
