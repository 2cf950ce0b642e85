"""Where training pictures lie: folders, tar archives and their shards, sets of Hugging Face."""

from __future__ import annotations

import lzma
import tarfile
import zlib
from collections.abc import Callable, Container, Iterator
from contextlib import contextmanager
from functools import partial
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


class _Place(NamedTuple):
    """A picture as it is found; `read` gives its file while the walk has not gone on."""

    name: str
    read: Callable[[], bytes]
    label: str | None = None


def find_pictures(
    source: str | Path, split: str = "train", names: Container[str] | None = None
) -> Iterator[Found]:
    """Every picture of a source, in an order that stays.

    Args:
        source: a folder, searched recursively; a tar file; a folder of tar files ("shards", with
            the class of `key.jpg` in `key.cls` if there are any); a folder that `datasets` saved;
            or "hub:organisation/name" for a set on the hub.
        split: of a set that has several.
        names: read these alone; by default all.

    Raises:
        InputError: if the source does not exist, is no whole archive, or is a set without pictures.
        MissingExtraError: a set of Hugging Face without `datasets`.
    """
    for place in _places(source, split):
        if names is None or place.name in names:
            data, unread = b"", ""
            try:
                data = place.read()
            except OSError as error:
                unread = error.strerror or str(error)
            yield Found(place.name, data, place.label, unread)


def picture_names(source: str | Path, split: str = "train") -> Iterator[str]:
    """The names of a source's pictures, of which none is read; see `find_pictures`."""
    for place in _places(source, split):
        yield place.name


def is_set(source: str | Path) -> bool:
    """Whether a source is a set of Hugging Face, on the hub or in a folder."""
    files = (Path(source) / f"dataset_{what}.json" for what in ("info", "dict"))
    return str(source).startswith(HUB) or any(file.is_file() for file in files)


def _places(source: str | Path, split: str) -> Iterator[_Place]:
    if is_set(source):
        yield from _of_set(str(source), split)
        return
    source = Path(source)
    if source.is_dir():
        shards = sorted(p for p in source.iterdir() if is_archive(p.name) and p.is_file())
        for path in sorted(source.rglob("*")):
            if path.suffix.lower() in SUFFIXES and path.is_file():
                if shards:
                    raise InputError(
                        f"'{source}' holds both archives, such as '{shards[0].name}', and "
                        f"pictures, such as '{path.name}': give a folder of one kind"
                    )
                yield _Place(path.relative_to(source).as_posix(), path.read_bytes)
        for shard in shards:
            for place in _of_tar(shard):
                yield place._replace(name=f"{shard.name}/{place.name}")
        return
    if not source.exists():
        raise InputError(f"'{source}' does not exist: give a folder or a tar file of pictures")
    yield from _of_tar(source)


def is_archive(name: str) -> bool:
    """Whether a file of this name is a shard."""
    return name.endswith(_TARS)


def _of_tar(path: Path) -> Iterator[_Place]:
    """The pictures of an archive, each with its class, wherever in the archive that stands."""
    with _whole(path), tarfile.open(path) as archive:
        members = [member for member in archive if member.isfile()]
        read = partial(_read, archive, path)
        labels = {
            member.name[: -len(_LABEL)]: read(member).decode("utf-8", "replace").strip()
            for member in members
            if member.name.lower().endswith(_LABEL)
        }
        for member in members:
            name = PurePosixPath(member.name)
            if name.suffix.lower() in SUFFIXES:
                label = labels.get(member.name[: -len(name.suffix)])
                yield _Place(member.name, partial(read, member), label)


@contextmanager
def _whole(path: Path) -> Iterator[None]:
    try:
        yield
    except (tarfile.TarError, EOFError, OSError, zlib.error, lzma.LZMAError):
        raise InputError(
            f"'{path}' is neither a folder nor a whole tar file: give one of these"
        ) from None


def _read(archive: tarfile.TarFile, path: Path, member: tarfile.TarInfo) -> bytes:
    with _whole(path):
        handle = archive.extractfile(member)
        return b"" if handle is None else handle.read()


def _of_set(source: str, split: str) -> Iterator[_Place]:
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
    numbers = list(loaded[labels[0]]) if labels else [None] * len(loaded)
    loaded = loaded.select_columns(pictures[0])
    loaded = loaded.cast_column(pictures[0], datasets.Image(decode=False))
    for index, number in enumerate(numbers):
        label = None if number is None else names[number]
        yield _Place(f"{index:08d}", partial(_of_row, loaded, pictures[0], index), label)


def _of_row(loaded: Any, column: str, index: int) -> bytes:
    file = loaded[index][column] or {}
    data, path = file.get("bytes"), file.get("path")
    if data is None:
        data = Path(path).read_bytes() if path else b""
    return bytes(data)
