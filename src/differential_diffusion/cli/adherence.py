"""adherence: how well edits followed their map, in figures and as heat-maps."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import InputError
from .batch import run_each
from .common import Invert, Reporter
from .outputs import check_output, check_png, is_folder

if TYPE_CHECKING:
    from torch import Tensor

    from ..evaluation import Adherence
    from ..images import Picture
    from ..maps import StrengthMap


@dataclass(frozen=True)
class Pair:
    """A picture and what an edit made of it; by the batch's lights, its input."""

    input: Path
    output: Path

    @property
    def name(self) -> str:
        """The output's file name."""
        return self.output.name

    def __str__(self) -> str:
        return str(self.input)


def adherence(
    pictures: Annotated[
        list[str],
        typer.Argument(
            metavar="INPUT OUTPUT",
            help="A picture and its edit; several such pairs; two folders, whose files NAME and "
            "NAME or NAME-edit are pairs; or a picture and a folder of edits of it.",
            show_default=False,
        ),
    ],
    strength: Annotated[
        str,
        typer.Option(
            "--strength",
            "--map",
            "-s",
            help="The map that the pictures were edited with, a grey picture (black 0, white 1).",
            show_default=False,
        ),
    ],
    invert: Invert = False,
    full: Annotated[
        str | None,
        typer.Option(
            metavar="OUTPUT",
            help="Edits of the same inputs with strength 1, a file or a folder like OUTPUT: their "
            "mean change is taken off the other.",
            show_default=False,
        ),
    ] = None,
    measure: Annotated[
        str,
        typer.Option(
            help="What counts as change: 'local' contrast and colour, or 'lpips', which needs the "
            "extra 'evaluation'."
        ),
    ] = "local",
    preview: Annotated[
        str | None,
        typer.Option(
            help="Write a PNG of the map beside the change, of several pairs their mean; a "
            "folder for one of each pair, and mean.png.",
            show_default=False,
        ),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace previews that exist.")] = False,
    json: Annotated[
        bool, typer.Option("--json", help="One JSON object a pair, and one for all, on stdout.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Say nothing but errors.")] = False,
) -> None:
    """Measure whether edits changed each pixel as much as the map said.

    CAM is the correlation of strength and change, 1 at best. DAM is what the best fit of the
    change leaves of the map; its RMS a pixel is in units of strength, 0 at best.
    """
    from ..evaluation import MEASURES, AdherenceTally, mean_change

    if measure not in MEASURES:
        raise InputError(f"--measure '{measure}' is not known: use {' or '.join(MEASURES)}.")
    pairs = paired(pictures)
    made_full = [] if full is None else _full_pairs(pictures, full)
    inputs = [path for pair in pairs + made_full for path in (pair.input, pair.output)]
    place = _places(pairs, preview, [*inputs, Path(strength)], force)
    strength_map = _map(strength, invert)
    chosen = MEASURES[measure]()
    bias = None
    if made_full:
        read = (_read(pair, strength, strength_map) for pair in made_full)
        bias = mean_change(((a.tensor(), b.tensor()) for a, b in read), measure=chosen)
    tally = AdherenceTally(strength_map.tensor(), bias=bias, measure=chosen)
    report = Reporter(json_lines=json, quiet=quiet)
    rows: list[Adherence] = []

    def work(pair: Pair, show: Any) -> tuple[dict[str, Any], str]:
        before, after = _read(pair, strength, strength_map)
        change = tally.add(before.tensor(), after.tensor())
        made = tally.report()
        rows.append(made.rows[-1])
        files = {"input": str(pair.input), "output": str(pair.output), "map": strength}
        record: dict[str, Any] = files | _figures(rows[-1])
        if (path := place(pair)) is not None:
            _write(_sheet(made.strength, change, before, after), path, force)
            record["preview"] = str(path)
        return record, f"{pair.input} -> {pair.output}: {_sentence(rows[-1])}"

    try:
        run_each(pairs, work, report)
    finally:
        if rows and (len(pairs) > 1 or bias is not None):
            made = tally.report()
            record = {"pairs": len(rows), "map": strength, **_figures(made.overall)}
            whole = place(None)
            if whole is not None:
                _write(_sheet(made.strength, made.change), whole, force)
                record["preview"] = str(whole)
            less = "" if bias is None else ", less that with strength 1"
            report.record(record, f"mean of {len(rows)}{less}: {_sentence(made.overall)}")


def paired(pictures: list[str]) -> list[Pair]:
    """The pairs that the arguments stand for.

    Raises:
        InputError: an odd number of pictures, a folder in the wrong place, an input without an
            output or with two that could be it.
    """
    if len(pictures) % 2:
        count = f"{len(pictures)} picture{'s' if len(pictures) > 1 else ''}"
        raise InputError(f"{count} cannot be paired: name each input and after it its output.")
    paths = [Path(name).expanduser() for name in pictures]
    if len(paths) == 2 and any(path.is_dir() for path in paths):
        return _from_folders(*paths)
    return [Pair(*two) for two in zip(paths[::2], paths[1::2], strict=True)]


def _from_folders(before: Path, after: Path) -> list[Pair]:
    from ..images import expand

    if not after.is_dir():
        raise InputError(f"'{before}' is a folder and '{after}' is none: name two folders.")
    if not before.is_dir():
        return [Pair(before, path) for path in expand([after]) if not _same(path, before)]
    if _same(before, after):
        raise InputError(f"'{before}' is named as inputs and outputs: name two folders.")
    outputs: dict[str, list[Path]] = {}
    for path in expand([after]):
        outputs.setdefault(path.stem, []).append(path)
    return [Pair(path, _output_of(path, outputs, after)) for path in expand([before])]


def _output_of(path: Path, outputs: dict[str, list[Path]], folder: Path) -> Path:
    found = outputs.get(path.stem) or outputs.get(f"{path.stem}-edit") or []
    if len(found) == 1:
        return found[0]
    if found:
        raise InputError(f"'{found[0]}' and '{found[1]}' could both be of '{path}': remove one.")
    raise InputError(
        f"'{path}' has no output in '{folder}': call it {path.stem} or {path.stem}-edit."
    )


def _same(one: Path, other: Path) -> bool:
    return one.resolve() == other.resolve()


def _full_pairs(pictures: list[str], full: str) -> list[Pair]:
    if len(pictures) != 2:
        raise InputError("--full goes with one INPUT and one OUTPUT: give files, or two folders.")
    return paired([pictures[0], full])


def _map(strength: str, invert: bool) -> StrengthMap:
    from ..maps import from_file

    try:
        float(strength)
    except ValueError:
        return from_file(strength, invert=invert)
    raise InputError(
        f"--strength {strength} is the same everywhere, which no change can follow: name a map."
    )


def _read(pair: Pair, name: str, strength: StrengthMap) -> tuple[Picture, Picture]:
    """Both pictures, of the map's size."""
    from ..images import read

    before, after = read(pair.input), read(pair.output)
    sizes = [f"{x.width}x{x.height}" for x in (after, before, strength)]
    if sizes[0] != sizes[1]:
        raise InputError(
            f"'{pair.output}' is {sizes[0]} pixels and its input '{pair.input}' {sizes[1]}: "
            "name the picture that it was made from."
        )
    if sizes[0] != sizes[2]:
        raise InputError(
            f"'{pair.output}' is {sizes[0]} pixels and its map '{name}' {sizes[2]}: "
            "name the map that it was made with."
        )
    return before, after


def _places(
    pairs: list[Pair], preview: str | None, inputs: list[Path], force: bool
) -> Callable[[Pair | None], Path | None]:
    """What names the preview of a pair, or of all (None), after refusing to destroy."""
    names: dict[Pair | None, Path] = {}
    if preview is not None:
        base = Path(preview).expanduser()
        if is_folder(preview) or not base.suffix:
            names = {pair: base / f"{pair.output.stem}.png" for pair in pairs}
            names |= {None: base / "mean.png"} if len(pairs) > 1 else {}
        else:
            names = {pairs[0] if len(pairs) == 1 else None: base}
    for path in names.values():
        check_png("--preview", path)
        check_output(path, inputs, force=force)
        if list(names.values()).count(path) > 1:
            raise InputError(f"'{path}' would be written twice: use names that differ, or a file.")
    return names.get


def _figures(found: Adherence) -> dict[str, float | None]:
    figures = found.as_dict()
    return {key: None if value is None else round(value, 6) for key, value in figures.items()}


def _sentence(found: Adherence) -> str:
    defined = _figures(found)["cam"] is not None
    cam = f"CAM {found.cam:.3f}" if defined else "CAM undefined (map or change is constant)"
    return f"{cam}, DAM {found.dam:.4g} (RMS {found.dam_rms:.3f}), mean change {found.change:.3f}"


def _sheet(
    strength: Tensor, change: Tensor, before: Picture | None = None, after: Picture | None = None
) -> Any:
    from ..evaluation import heat_maps
    from .preview import Panel, rgb, sheet

    left, right = heat_maps(strength, change)
    panels = [
        Panel("strength 0 to 1", left),
        Panel(f"change 0 to {float(change.max()):.3g}", right),
    ]
    if before is not None and after is not None:
        panels = [Panel("input", rgb(before)), Panel("output", rgb(after)), *panels]
    return sheet(panels)


def _write(pixels: Any, path: Path, force: bool) -> None:
    from ..images import read

    path.parent.mkdir(parents=True, exist_ok=True)
    read(pixels).save(path, overwrite=force)
