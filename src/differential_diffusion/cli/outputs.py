"""Where results go: names chosen and checked before any work is done."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import InputError

if TYPE_CHECKING:
    from ..images import Picture

# Of these, a result has the format of its input; of the others, it is a PNG, which loses nothing.
_KEPT_SUFFIXES = {".png", ".tif", ".tiff", ".webp", ".bmp", ".npy"}


@dataclass(frozen=True)
class Target:
    """The files of one picture."""

    source: Path
    output: Path
    preview: Path | None
    map_out: Path | None
    film: Path | None = None

    def check_holds(self, picture: Picture) -> None:
        """Refuse a format that the result will not fit, before the result is made.

        Raises:
            InputError: The picture has alpha and the format of its output has not.
        """
        from ..images.formats import FORMATS, format_of

        name = format_of(self.output)
        if picture.alpha is not None and not FORMATS[name].alpha:
            raise InputError(
                f"{name} cannot hold alpha: name an output that ends in .png, .tif or .webp."
            )

    def outputs(self, count: int) -> list[Path]:
        """Names for `count` results: the name itself, or numbered from 1."""
        if count == 1:
            return [self.output]
        return [
            self.output.with_name(f"{self.output.stem}-{k}{self.output.suffix}")
            for k in range(1, count + 1)
        ]


@dataclass
class Targets:
    """Chooses the files of each picture, and refuses those that would destroy something.

    Args:
        sources: all the pictures of this run; none is ever written to.
        task: names results that no `output` names.
        output, preview, map_out, film: the user's; files for one picture, else folders.
        force: whether existing outputs may be replaced.
        suffix: of the outputs; by default the picture's own where that format loses nothing.
    """

    sources: list[Path]
    task: str
    output: str | None = None
    preview: str | None = None
    map_out: str | None = None
    force: bool = False
    suffix: str | None = None
    film: str | None = None
    _claimed: dict[Path, Path] = field(default_factory=dict)

    def __post_init__(self) -> None:
        given = {
            "--output": self.output,
            "--preview": self.preview,
            "--map-out": self.map_out,
            "--save-steps": self.film,
        }
        for option, value in given.items():
            if value is None or len(self.sources) == 1:
                continue
            if Path(value).suffix and not is_folder(value):
                raise InputError(
                    f"{option} '{value}' is one file for {len(self.sources)} pictures: "
                    "name a folder, ending in /."
                )

    def of(self, source: Path, count: int = 1) -> Target:
        """The files of one picture with `count` results.

        Raises:
            InputError: A file exists and `force` was not given, is an input, belongs to another
                picture of this run, has a suffix of no format, or cannot be written.
        """
        from ..images.formats import format_of

        kept = source.suffix if source.suffix.lower() in _KEPT_SUFFIXES else ".png"
        suffix = self.suffix or kept
        beside = source.with_name(f"{source.stem}-{self.task}{suffix}")
        target = Target(
            source,
            self._place(self.output, source.stem + suffix) or beside,
            self._place(self.preview, f"{source.stem}.png"),
            self._place(self.map_out, f"{source.stem}.png"),
            self._place(self.film, f"{source.stem}.gif"),
        )
        format_of(target.output)
        for path in target.outputs(count):
            self._claim(path, source)
        for option, extra in (("--preview", target.preview), ("--map-out", target.map_out)):
            if extra is not None:
                check_png(option, extra)
                self._claim(extra, source)
        if target.film is not None:
            check_film("--save-steps", target.film)
            self._claim(target.film, source)
        return target

    def _place(self, value: str | None, name: str) -> Path | None:
        if value is None:
            return None
        path = Path(value).expanduser()
        folder = len(self.sources) > 1 or is_folder(value) or not path.suffix
        return path / name if folder else path

    def _claim(self, path: Path, source: Path) -> None:
        real = path.resolve()
        if real in self._claimed:
            raise InputError(
                f"'{path}' would be written twice, for '{self._claimed[real]}' and '{source}': "
                "give other names, or run them apart."
            )
        check_output(path, self.sources, force=self.force)
        self._claimed[real] = source


def check_output(path: Path, inputs: list[Path], *, force: bool = False) -> None:
    """Raise InputError unless a file may be written at `path`.

    It must be none of the inputs, nor exist unless `force`, and its folder must allow it, or
    the nearest folder that exists if it has to be made.
    """
    real = path.resolve()
    if real in {source.resolve() for source in inputs}:
        raise InputError(f"the output '{path}' is an input: choose another name.")
    if path.is_dir():
        raise InputError(f"'{path}' is a folder: give the name of a file to write.")
    if path.exists() and not force:
        raise InputError(f"'{path}' exists: choose another name, or allow it with --force.")
    folder = real.parent
    while not folder.exists():
        folder = folder.parent
    if not folder.is_dir():
        raise InputError(f"'{path}' cannot be written: '{folder}' is a file, not a folder.")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise InputError(f"'{path}' cannot be written: the folder '{folder}' does not allow it.")


def check_png(option: str, path: Path) -> None:
    """Raise InputError unless the name ends in .png."""
    if path.suffix.lower() != ".png":
        raise InputError(f"{option} '{path}' is no PNG: end its name in .png.")


def check_film(option: str, path: Path) -> None:
    """Raise InputError unless the name ends in .gif or .png."""
    if path.suffix.lower() not in (".gif", ".png"):
        raise InputError(f"{option} '{path}' is no GIF or PNG: end its name in .gif or .png.")


def is_folder(value: str) -> bool:
    """Whether a name stands for a folder: it is one, or ends as only those do."""
    return value.endswith(("/", os.sep)) or Path(value).expanduser().is_dir()
