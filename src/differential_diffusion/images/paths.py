"""Which image files names, folders and patterns stand for."""

from __future__ import annotations

import glob
from collections.abc import Sequence
from pathlib import Path

from ..errors import InputError
from .formats import SUFFIXES

__all__ = ["expand"]


def expand(inputs: Sequence[str | Path]) -> list[Path]:
    """The image files that names of files, folders and glob patterns stand for.

    A folder gives its images by suffix, sorted, without its subfolders' or hidden files; a pattern
    likewise (`**` enters subfolders). A file that is there is taken by name before it is taken as
    a pattern. Files named twice come once, at the first place.

    Raises:
        InputError: No inputs, one that matches nothing, or a folder without images.
    """
    if isinstance(inputs, (str, Path)):
        inputs = [inputs]
    found = [path for item in inputs for path in _matches(str(item))]
    if not found:
        raise InputError("no input was given: name an image file, a folder or a pattern.")
    return list(dict.fromkeys(found))


def _matches(item: str) -> list[Path]:
    path = Path(item).expanduser()
    if path.is_dir():
        images = [entry for entry in sorted(path.iterdir()) if _is_image(entry)]
        if not images:
            raise InputError(
                f"folder '{item}' holds no image files: name one with "
                f"{', '.join(sorted(SUFFIXES))} in it."
            )
        return images
    if path.exists():
        return [path]
    if not glob.has_magic(item):
        raise InputError(f"'{item}' does not exist: name an image file, a folder or a pattern.")
    images = [Path(name) for name in sorted(glob.glob(str(path), recursive=True))]
    images = [entry for entry in images if _is_image(entry)]
    if not images:
        raise InputError(f"pattern '{item}' matches no image files: check it, or name a folder.")
    return images


def _is_image(path: Path) -> bool:
    visible = not path.name.startswith(".")
    return visible and path.suffix.lower() in SUFFIXES and path.is_file()
