"""Where training pictures lie: folders, tar archives and their shards, sets of Hugging Face."""

from __future__ import annotations

import tarfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError, MissingExtraError

ARRAYS = frozenset({".npy"})
SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff"}) | ARRAYS
HUB = "hub:"
_LABEL = ".cls"
_TARS = (".tar", ".tar.gz", ".tgz")


class Found(NamedTuple):
    """A picture as it was found.

    Attributes:
        name: its path in the source.
        data: an encoded file, or an array (H,W) or (H,W,C).
        label: its class where the source tells one beside it, as shards and sets do.
    """

    name: str
    data: bytes | NDArray[Any]
    label: str | None = None


def find_pictures(source: str | Path, split: str = "train") -> Iterator[Found]:
    """Every picture of a source, in an order that stays.

    Args:
        source: a folder, searched recursively; a tar file; a folder of tar files ("shards", with
            the class of `key.jpg` in `key.cls` if there are any); a folder that `datasets` saved;
            or "hub:organisation/name" for a set on the hub.
        split: of a set that has several.

    Raises:
        InputError: if the source does not exist, is no whole archive, or is a set without pictures.
        MissingExtraError: a set of Hugging Face without `datasets`.
    """
    if str(source).startswith(HUB):
        yield from _of_set(str(source), split)
        return
    source = Path(source)
    if source.is_dir():
        if (source / "dataset_info.json").is_file() or (source / "dataset_dict.json").is_file():
            yield from _of_set(str(source), split)
            return
        shards = sorted(p for p in source.iterdir() if p.name.endswith(_TARS) and p.is_file())
        for path in [] if shards else sorted(source.rglob("*")):
            if path.suffix.lower() in SUFFIXES and path.is_file():
                yield Found(path.relative_to(source).as_posix(), path.read_bytes())
        for shard in shards:
            for found in _of_tar(shard):
                yield found._replace(name=f"{shard.name}/{found.name}")
        return
    if not source.exists():
        raise InputError(f"'{source}' does not exist: give a folder or a tar file of pictures")
    yield from _of_tar(source)


def _of_tar(path: Path) -> Iterator[Found]:
    """The pictures of an archive; a class follows or precedes its picture."""
    waiting: Found | None = None
    label: tuple[str, str] | None = None
    try:
        with tarfile.open(path) as archive:
            for member in archive:
                suffix = PurePosixPath(member.name).suffix.lower()
                if not member.isfile() or suffix not in SUFFIXES | {_LABEL}:
                    continue
                handle = archive.extractfile(member)
                data = b"" if handle is None else handle.read()
                key = member.name[: -len(suffix)]
                if suffix == _LABEL:
                    label = key, data.decode("utf-8", "replace").strip()
                else:
                    if waiting is not None:
                        yield waiting
                    waiting = Found(member.name, data)
                if waiting and label and waiting.name.rpartition(".")[0] == label[0]:
                    yield waiting._replace(label=label[1])
                    waiting = label = None
            if waiting is not None:
                yield waiting
    except (tarfile.TarError, EOFError, OSError, zlib.error):
        raise InputError(
            f"'{path}' is neither a folder nor a whole tar file: give one of these"
        ) from None


def _of_set(source: str, split: str) -> Iterator[Found]:
    try:
        import datasets
    except ModuleNotFoundError as error:
        if error.name != "datasets":
            raise
        raise MissingExtraError(f"the set '{source}'", "datasets") from None
    try:
        if source.startswith(HUB):
            loaded: Any = datasets.load_dataset(source.removeprefix(HUB), split=split)
        else:
            loaded = datasets.load_from_disk(source)
    except Exception as error:  # its errors are of a dozen kinds
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise InputError(
            f"the set '{source}' cannot be loaded ({reason}): check its name"
        ) from None
    if isinstance(loaded, datasets.DatasetDict):
        if split not in loaded:
            raise InputError(
                f"the set '{source}' has no split '{split}': choose one of {', '.join(loaded)}"
            )
        loaded = loaded[split]
    pictures = [n for n, f in loaded.features.items() if isinstance(f, datasets.Image)]
    labels = [n for n, f in loaded.features.items() if isinstance(f, datasets.ClassLabel)]
    if not pictures:
        raise InputError(f"the set '{source}' has no column of pictures: cast one to Image")
    names = loaded.features[labels[0]].names if labels else []
    for index, row in enumerate(loaded):
        label = names[row[labels[0]]] if labels and row[labels[0]] is not None else None
        yield Found(f"{index:08d}", np.asarray(row[pictures[0]]), label)
