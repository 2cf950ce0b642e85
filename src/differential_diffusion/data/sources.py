"""Where training pictures lie: folders, tar archives and their shards, sets of Hugging Face."""

from __future__ import annotations

import lzma
import tarfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from ..errors import InputError, MissingExtraError

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".npy"})
HUB = "hub:"
_LABEL = ".cls"
_TARS = (".tar", ".tar.gz", ".tgz")


class Found(NamedTuple):
    """A picture as it was found.

    Attributes:
        name: its path in the source; its number in a set.
        data: an encoded file.
        label: its class where the source tells one beside it, as shards and sets do.
        unread: why its file cannot be read, if it cannot.
    """

    name: str
    data: bytes
    label: str | None = None
    unread: str = ""


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
        shards = sorted(p for p in source.iterdir() if is_archive(p.name) and p.is_file())
        for path in sorted(source.rglob("*")):
            if path.suffix.lower() in SUFFIXES and path.is_file():
                if shards:
                    raise InputError(
                        f"'{source}' holds both archives, such as '{shards[0].name}', and "
                        f"pictures, such as '{path.name}': give a folder of one kind"
                    )
                yield _of_file(path, path.relative_to(source).as_posix())
        for shard in shards:
            for found in _of_tar(shard):
                yield found._replace(name=f"{shard.name}/{found.name}")
        return
    if not source.exists():
        raise InputError(f"'{source}' does not exist: give a folder or a tar file of pictures")
    yield from _of_tar(source)


def _of_file(path: Path, name: str, label: str | None = None) -> Found:
    try:
        return Found(name, path.read_bytes(), label)
    except OSError as error:
        return Found(name, b"", label, error.strerror or str(error))


def is_archive(name: str) -> bool:
    """Whether a file of this name is a shard."""
    return name.endswith(_TARS)


def _of_tar(path: Path) -> Iterator[Found]:
    """The pictures of an archive, each with its class, wherever in the archive that stands."""
    try:
        with tarfile.open(path) as archive:
            members = [member for member in archive if member.isfile()]
            labels = {
                member.name[: -len(_LABEL)]: _read(archive, member)
                .decode("utf-8", "replace")
                .strip()
                for member in members
                if member.name.lower().endswith(_LABEL)
            }
            for member in members:
                name = PurePosixPath(member.name)
                if name.suffix.lower() in SUFFIXES:
                    label = labels.get(member.name[: -len(name.suffix)])
                    yield Found(member.name, _read(archive, member), label)
    except (tarfile.TarError, EOFError, OSError, zlib.error, lzma.LZMAError):
        raise InputError(
            f"'{path}' is neither a folder nor a whole tar file: give one of these"
        ) from None


def _read(archive: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    handle = archive.extractfile(member)
    return b"" if handle is None else handle.read()


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
    # Files as they are: they are decoded where those of folders are, and damaged ones are counted.
    loaded = loaded.cast_column(pictures[0], datasets.Image(decode=False))
    for index, row in enumerate(loaded):
        label = names[row[labels[0]]] if labels and row[labels[0]] is not None else None
        file = row[pictures[0]] or {}
        data, path = file.get("bytes"), file.get("path")
        found = Found(f"{index:08d}", data or b"", label)
        yield _of_file(Path(path), found.name, label) if data is None and path else found
