"""Folders of pictures that a command goes on with: what decides the pictures is kept with them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import InputError

if TYPE_CHECKING:
    from ..models import DenoiserModel, LatentModel


def begin(
    folder: Path,
    record: str,
    settings: Mapping[str, Any],
    replace: Callable[[dict[str, Any]], Iterable[Path]] | None = None,
    remedy: str = "name another folder.",
) -> None:
    """Make a folder for pictures, or go on with one that was begun with the same settings.

    Args:
        folder: where the pictures go.
        record: name of the file in it that keeps the settings.
        settings: all that decides the pictures.
        replace: gives the pictures to remove of a folder that was begun with other settings, which
            it is given, or with none; without it such a folder is refused.
        remedy: what to do then, in words.

    Raises:
        InputError: the folder is a file, or holds something else and is not to be replaced.
    """
    from ..files import write_atomically

    if folder.exists() and not folder.is_dir():
        raise InputError(f"--output '{folder}' is a file: name a folder.")
    text = json.dumps(settings, indent=2, ensure_ascii=False) + "\n"
    if folder.is_dir() and any(folder.iterdir()):
        known, own = _read(folder / record), json.loads(text)
        if known == own:
            return
        if replace is None:
            names = sorted(own.keys() | known.keys())
            differing = [name for name in names if known.get(name) != own.get(name)]
            what = (
                f"pictures of other settings ({', '.join(differing)})" if known else "other files"
            )
            raise InputError(f"'{folder}' holds {what}: {remedy}")
        for path in replace(known):
            path.unlink()
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(folder / record, text.encode())


def _read(record: Path) -> dict[str, Any]:
    """The settings in a record, none where it is missing or damaged."""
    try:
        known = json.loads(record.read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return known if isinstance(known, dict) else {}


def computed_by(model: DenoiserModel | LatentModel, precision: str) -> dict[str, str]:
    """The weights of a model by their digest, and the precision that it computes in."""
    from ..evaluation.extractors import digest, weights_digest
    from ..models import LatentModel
    from ..models.device import uses_bf16

    parts = (
        [model.inner.network, model.codec.vae]
        if isinstance(model, LatentModel)
        else [model.network]
    )
    weights = [weights_digest(part.state_dict()) for part in parts if part is not None]
    half = uses_bf16(precision, model.device)
    return {"weights": digest(*weights), "precision": "bf16" if half else "fp32"}


def file_digest(path: Path) -> str:
    """What tells the content of a file from that of others."""
    from ..evaluation.extractors import digest

    return digest(path.read_bytes())
