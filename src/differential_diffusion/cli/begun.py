"""Folders of pictures that a command goes on with: what decides the pictures is kept with them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from ..errors import InputError


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
