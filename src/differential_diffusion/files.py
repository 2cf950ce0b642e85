"""Writing files and folders so that no reader ever sees half of them."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path

from .errors import InputError

__all__ = ["check_new", "new_folder", "write_atomically"]


def write_atomically(path: Path, content: bytes) -> None:
    """Put the content at `path`, whole or not at all; links are followed, permissions kept.

    The content goes to a new file in the same folder, to the disk, and then to its name.

    Raises:
        InputError: The folder does not exist or cannot be written, or the disk is full.
    """
    target = path.resolve()
    draft = target.with_name(f".{target.name[:100]}.{secrets.token_hex(4)}.part")
    try:
        if target.is_dir():
            raise InputError(f"'{path}' is a folder: give the name of a file to write.")
        if not target.parent.is_dir():
            wrong = "is not a folder" if path.parent.exists() else "does not exist"
            raise InputError(f"folder '{path.parent}' {wrong}: create it before saving.")
        with draft.open("xb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        if target.exists():
            shutil.copymode(target, draft)
        os.replace(draft, target)
    except OSError as error:
        raise InputError(
            f"'{path}' cannot be written ({error.strerror or error}): choose another place."
        ) from error
    finally:
        with contextlib.suppress(OSError):
            draft.unlink(missing_ok=True)


def check_new(folder: Path) -> Path:
    """The absolute name of a folder that `new_folder` can make.

    Raises:
        InputError: There is something already, other than an empty folder.
    """
    target = folder.expanduser().resolve()
    if target.exists() and not (target.is_dir() and not any(target.iterdir())):
        raise InputError(f"'{folder}' exists already: name a new folder, or an empty one.")
    return target


@contextlib.contextmanager
def new_folder(folder: Path) -> Iterator[Path]:
    """A folder to fill that takes its name when all is written, and is removed if that fails.

    Raises:
        InputError: see `check_new`; or it cannot be made.
    """
    target = check_new(folder)
    draft = target.with_name(f".{target.name[:100]}.{secrets.token_hex(4)}.part")
    try:
        with _explained(folder):
            draft.mkdir(parents=True)
        yield draft
        with _explained(folder):
            if target.exists():
                target.rmdir()
            os.replace(draft, target)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


@contextlib.contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise InputError(
            f"'{path}' cannot be written ({error.strerror or error}): choose another place."
        ) from error
