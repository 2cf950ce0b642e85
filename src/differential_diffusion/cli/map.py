"""map: strength maps made from a size, a picture or parameters, as grey PNG files."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import BAD_INPUT, InputError, on_one_line
from ..keyvalue import key_value
from .batch import expanded, run_each
from .common import Quiet, Reporter
from .outputs import Targets, check_output, check_png, is_folder

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from ..images import Picture
    from ..maps import StrengthMap

# What a source asks for by the name of a parameter and the command line says elsewhere.
_SIZE, _PICTURE, _FILE = {"height", "width"}, "image", "path"
_ANOMALY = "anomaly"

_Param = Annotated[
    list[str] | None,
    typer.Option(
        "--param",
        "-p",
        metavar="KEY=VALUE",
        help="A parameter of the source, its value in YAML; may be given several times.",
    ),
]
_Size = Annotated[
    str | None,
    typer.Option(metavar="WIDTHxHEIGHT", help="Size of the map where there is no picture."),
]
_Preview = Annotated[
    str | None,
    typer.Option(
        help="Write a PNG of the map as a heat-map, beside the picture; a folder for several."
    ),
]


def make(
    source: Annotated[
        str | None, typer.Argument(help="A source of maps, see --list.", show_default=False)
    ] = None,
    images: Annotated[
        list[str] | None,
        typer.Argument(
            help="The pictures that the maps are for or made from: files, folders or patterns.",
            show_default=False,
        ),
    ] = None,
    output: Annotated[
        str | None,
        typer.Option(
            "--output", "-o", help="The PNG file to write; a folder for several pictures."
        ),
    ] = None,
    param: _Param = None,
    size: _Size = None,
    feather: Annotated[float, typer.Option(help="Soften edges over so many pixels.")] = 0.0,
    inside: Annotated[
        bool, typer.Option("--inside", help="Soften inwards alone: what is kept stays kept.")
    ] = False,
    invert: Annotated[bool, typer.Option("--invert", help="Swap what is kept and free.")] = False,
    bits: Annotated[int, typer.Option(help="Depth of the PNG, 8 or 16.")] = 16,
    preview: _Preview = None,
    force: Annotated[bool, typer.Option("--force", help="Replace outputs that exist.")] = False,
    json: Annotated[bool, typer.Option("--json", help="One JSON object a map on stdout.")] = False,
    quiet: Quiet = False,
    list_sources: Annotated[
        bool, typer.Option("--list", help="List the sources and their parameters.")
    ] = False,
) -> None:
    """Make a strength map: black (0) keeps a pixel, white (1) lets it change completely."""
    known = sources()
    if list_sources:
        typer.echo("\n".join(line for name in known for line in described(name, known[name])))
        return
    if source is None or source not in known:
        named = "no source was named" if source is None else f"'{source}' is no source of maps"
        raise InputError(f"{named}: use {', '.join(known)}; --list describes them.")
    if output is None:
        raise InputError("no output was named: add -o map.png.")
    if bits not in (8, 16):
        raise InputError(f"--bits {bits} is no depth of a map: use 8 or 16.")
    report = Reporter(json_lines=json, quiet=quiet)
    pictures, unmatched = expanded(images or [], report)
    if images and not pictures:
        raise typer.Exit(BAD_INPUT)
    settings = dict(key_value("--param", text) for text in param or [])
    place = _places(pictures, output, preview, force)

    def work(image: Path | None, show: Any = None) -> tuple[dict[str, Any], str]:
        files = place(image)
        made, picture = build(source, None if image is None else str(image), size, settings)
        made = _finished(made, feather, inside, invert)
        _write(as_grey(made.array, bits), files[0], force)
        if len(files) > 1:
            _write(_sheet(made, picture), files[1], force)
        return _record(source, image, made, files)

    if pictures:
        run_each(pictures, work, report, unmatched=unmatched)
    else:
        report.record(*work(None))


def sources() -> dict[str, Callable[..., Any]]:
    """The sources of maps by name: those of `maps.MAPS`, and what needs a model of ours."""
    from ..engine import anomaly_map
    from ..maps import MAPS

    return {**MAPS, _ANOMALY: anomaly_map}


def build(
    name: str, image: str | None, size: str | None, settings: Mapping[str, Any]
) -> tuple[StrengthMap, Picture | None]:
    """The map that a source makes for a picture or a size, and the picture.

    Raises:
        InputError: Something that the source needs is missing, or it takes no such setting.
    """
    import numpy as np

    from ..images import read
    from ..maps import make_map

    source = sources()[name]
    wanted, settings = inspect.signature(source).parameters, dict(settings)
    if _FILE in wanted:  # a map that is a file is its own picture
        image = image or settings.get(_FILE)
        settings = {_FILE: image} | settings
    picture = None if image is None else read(image)
    if picture is None and _PICTURE in wanted:
        raise InputError(f"the source '{name}' looks at a picture: name one after it.")
    pixels = (
        np.zeros((*_height_width(size), 1), np.float32) if picture is None else _pixels(picture)
    )
    try:
        if name == _ANOMALY:
            _check_settings(name, settings, wanted)
            return source(image, **settings).map, picture
        return make_map(name, pixels, settings), picture
    except (TypeError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"the source '{name}' cannot use its settings ({error}).") from error


def _check_settings(name: str, settings: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    for key in settings:
        if key not in wanted or key == _PICTURE:
            known = ", ".join(other for other in wanted if other != _PICTURE)
            raise InputError(f"'{key}' is no setting of '{name}': use {known}.")


def as_grey(strength: NDArray[np.float32], bits: int) -> NDArray[Any]:
    """Strengths (H,W) as grey levels, 0 black and 1 white, in 8 or 16 bits."""
    import numpy as np

    dtype = np.uint8 if bits == 8 else np.uint16
    levels: NDArray[Any] = np.rint(strength * np.float64(np.iinfo(dtype).max)).astype(dtype)
    return levels


def described(name: str, source: Callable[..., StrengthMap]) -> list[str]:
    """A source's line for --list, and one for each setting, in its docstring's words."""
    doc = inspect.getdoc(source) or ""
    wanted = inspect.signature(source).parameters
    looks = " IMAGE" if {_PICTURE, _FILE} & set(wanted) else ""
    summary = doc.split("\n\n")[0]
    lines = [f"{name}{looks}: {on_one_line(summary)}"]
    section = re.search(r"^Args:\n(.*?)(?=^\S|\Z)", doc, re.MULTILINE | re.DOTALL)
    words = re.findall(
        r"^    (\w+): (.*?)(?=^    \S|\Z)", section[1] if section else "", re.MULTILINE | re.DOTALL
    )
    meanings = {key: on_one_line(text) for key, text in words}
    for key, parameter in wanted.items():
        if key not in {*_SIZE, _PICTURE, _FILE}:
            default = parameter.default
            value = " (needed)" if default is parameter.empty else f" = {default!r}"
            lines.append(f"    {key}{value}: {meanings.get(key, '')}".rstrip(": "))
    return lines


def _height_width(size: str | None) -> tuple[int, int]:
    from ..images import MAX_PIXELS

    if size is None:
        raise InputError(
            "no size was given: name a picture after the source, or add --size 640x480."
        )
    sides = [int(side) for side in size.lower().split("x") if side.isascii() and side.isdigit()]
    if len(sides) != 2 or not 0 < sides[0] * sides[1] <= MAX_PIXELS:
        raise InputError(f"--size '{size}' is not WIDTHxHEIGHT in pixels, such as 640x480.")
    return sides[1], sides[0]


def _pixels(picture: Picture) -> NDArray[np.float32]:
    """(H,W,C) float32 in [-1,1], one channel for grey pictures."""
    pixels: NDArray[np.float32] = picture.tensor()[0].permute(1, 2, 0).contiguous().numpy()
    return pixels[..., :1] if picture.is_grey else pixels


def _finished(made: StrengthMap, feather: float, inside: bool, invert: bool) -> StrengthMap:
    from .. import maps

    made = maps.feather(made, feather, inside=inside)
    return made.invert() if invert else made


def _record(
    source: str, image: Path | None, made: StrengthMap, files: list[Path]
) -> tuple[dict[str, Any], str]:
    share = float(made.active.mean())
    record = {
        "input": None if image is None else str(image),
        "output": str(files[0]),
        "source": source,
        "width": made.width,
        "height": made.height,
        "active": round(share, 6),
    }
    if len(files) > 1:
        record["preview"] = str(files[1])
    size = f"{made.width}x{made.height}"
    return record, f"{files[0]}: {size}, {100 * share:.1f} % of the pixels may change"


def _places(
    pictures: list[Path], output: str, preview: str | None, force: bool
) -> Callable[[Path | None], list[Path]]:
    """What names the map and the preview of a picture, or of none, refusing to destroy."""
    if len(pictures) < 2 and Path(output).suffix and not is_folder(output):
        files = _checked(pictures, output, preview, force)
        return lambda picture: files
    targets = Targets(pictures, "map", output, preview, force=force, suffix=".png")

    def place(picture: Path | None) -> list[Path]:
        if picture is None:
            raise InputError(f"--output '{output}' is a folder: name a file such as map.png.")
        target = targets.of(picture)
        return [target.output] if target.preview is None else [target.output, target.preview]

    return place


def _checked(inputs: list[Path], output: str, preview: str | None, force: bool) -> list[Path]:
    """The paths to write, after refusing those that would destroy something."""
    files: list[Path] = []
    for option, name in (("--output", output), ("--preview", preview)):
        if name is not None:
            path = Path(name).expanduser()
            check_png(option, path)
            check_output(path, inputs, force=force)
            if path.resolve() in [file.resolve() for file in files]:
                raise InputError(f"--preview '{name}' is the map's own name: choose another.")
            files.append(path)
    return files


def _write(pixels: Any, path: Path, force: bool) -> None:
    from ..images import read

    path.parent.mkdir(parents=True, exist_ok=True)
    read(pixels).save(path, overwrite=force)


def _sheet(made: StrengthMap, picture: Picture | None) -> Any:
    from ..maps import heat_map
    from .preview import Panel, heat, rgb, sheet

    panels = [Panel("strength 0 to 1", heat(made.array))]
    if picture is not None:
        pixels = rgb(picture)
        panels = [Panel("input", pixels), *panels, Panel("both", heat_map(made, pixels))]
    return sheet(panels)
