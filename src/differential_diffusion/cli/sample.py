"""sample: pictures of a trained model, in a grid or a folder."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import InputError
from .begun import begin, computed_by, file_digest
from .common import Quiet, Reporter, number_or_file, refuse
from .outputs import check_output, is_folder

if TYPE_CHECKING:
    from ..engine.samples import Sample
    from ..models import DenoiserModel, LatentModel

RECORD = "samples.json"
_NAME = re.compile(r"[0-9]{6}\.(png|npy)")
_HOW, _WHAT, _OUT, _MACHINE = "How to sample", "What to sample", "What comes out", "Machine"


def sample(
    model: Annotated[
        str, typer.Argument(help="A checkpoint folder, or 'prior'.", show_default=False)
    ],
    count: Annotated[int, typer.Option("--count", "-n", help="How many.")] = 16,
    label: Annotated[
        list[str] | None,
        typer.Option(
            help="A class by name or number; several in turn; 'each' for all classes in turn.",
            rich_help_panel=_WHAT,
        ),
    ] = None,
    guidance: Annotated[
        float,
        typer.Option(
            help="1 follows what was learnt; above, samples show the class more and differ less.",
            rich_help_panel=_WHAT,
        ),
    ] = 1.0,
    vector: Annotated[
        str | None,
        typer.Option(help="Numbers that the model takes, with commas.", rich_help_panel=_WHAT),
    ] = None,
    picture: Annotated[
        str | None,
        typer.Option(
            metavar="IMAGE",
            help="The picture to tell a model that was trained with data.pictures.",
            rich_help_panel=_WHAT,
        ),
    ] = None,
    sketch: Annotated[
        str | None,
        typer.Option(
            "--from", metavar="IMAGE", help="A picture to begin with.", rich_help_panel=_WHAT
        ),
    ] = None,
    strength: Annotated[
        str | None,
        typer.Option(
            help="How much of that picture may change: a number or a grey picture [default: 0.7].",
            rich_help_panel=_WHAT,
        ),
    ] = None,
    between: Annotated[
        str | None,
        typer.Option(
            metavar="SEED,SEED",
            help="Samples on the way from one seed's to another's.",
            rich_help_panel=_WHAT,
        ),
    ] = None,
    size: Annotated[
        str | None,
        typer.Option(
            metavar="WIDTHxHEIGHT",
            help="In pixels [default: of the pictures given, else what it was trained on].",
            rich_help_panel=_WHAT,
        ),
    ] = None,
    steps: Annotated[
        int, typer.Option(help="Length of the noise ladder.", rich_help_panel=_HOW)
    ] = 30,
    solver: Annotated[
        str,
        typer.Option(help="A solver by name; `diffdiff doctor` lists them.", rich_help_panel=_HOW),
    ] = "heun",
    seed: Annotated[
        int | None, typer.Option(help="Of all samples [default: 0].", rich_help_panel=_HOW)
    ] = None,
    output: Annotated[
        str,
        typer.Option(
            "--output",
            "-o",
            help="A .png for a grid, else a folder, with folders of classes in it.",
            rich_help_panel=_OUT,
        ),
    ] = "samples.png",
    columns: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Of the grid [default: about as many as rows, or one a class].",
            rich_help_panel=_OUT,
        ),
    ] = None,
    force: Annotated[
        bool,
        typer.Option(
            "--force",
            help="Replace a grid that exists, or samples of other settings; never an input.",
            rich_help_panel=_OUT,
        ),
    ] = False,
    json: Annotated[
        bool, typer.Option("--json", help="A JSON object on stdout.", rich_help_panel=_OUT)
    ] = False,
    quiet: Quiet = False,
    batch_size: Annotated[
        int, typer.Option(help="Samples drawn at once.", rich_help_panel=_MACHINE)
    ] = 64,
    device: Annotated[
        str | None,
        typer.Option(help="cpu, cuda, cuda:N or mps [default: best].", rich_help_panel=_MACHINE),
    ] = None,
    precision: Annotated[
        str, typer.Option(help="auto, fp32 or bf16.", rich_help_panel=_MACHINE)
    ] = "auto",
) -> None:
    """Draw samples from a model that was trained: as a grid, or as files in a folder.

    Sample i depends on the seed and i alone. A folder that was begun with the same settings is
    gone on with.
    """
    from ..engine import labels_asked
    from ..models import DenoiserModel, LatentModel, load_model

    report = Reporter(json_lines=json, quiet=quiet)
    target = Path(output).expanduser()
    grid = target.suffix.lower() == ".png"
    sized = sketch is not None or picture is not None
    refuse(
        (
            strength is not None and sketch is None,
            "--strength says how much of --from may change: give that too.",
        ),
        (
            size is not None and sized,
            "samples have the size of --from and --picture: leave --size out.",
        ),
        (seed is not None and between is not None, "--between says the seeds: leave --seed out."),
        (columns is not None and not grid, "--columns is for a grid: name a .png to write."),
    )
    if strength is None and sketch is not None:
        strength = "0.7"
    files = {"from": sketch, "picture": picture, "strength": strength}
    inputs = [Path(file).expanduser() for file in files.values() if file]
    if grid:
        check_output(target, inputs, force=force)
    elif target.suffix and not is_folder(output):
        raise InputError(f"--output '{output}' is neither a .png nor a folder: name one of these.")
    loaded = load_model(model, device=device, precision=precision)
    if not isinstance(loaded, DenoiserModel | LatentModel):
        raise InputError(f"'{model}' makes pictures from prompts: use `diffdiff generate`.")
    asked = labels_asked(loaded, label)
    labels = [loaded.classes[n] for n in loaded.label_numbers(asked)] if asked else None
    kept: dict[str, Any] = {
        "guidance_scale": guidance,
        "steps": steps,
        "solver": solver,
        "size": None if size is None else _size(size),
        "vector": None if vector is None else _numbers("--vector", vector),
    }
    shown = _shown(loaded, sketch, strength, picture)
    named = {"model": model, "seed": seed or 0, "labels": labels, "between": between, **files}
    drawn = _drawn(
        loaded,
        count,
        labels,
        seed or 0,
        None if between is None else _ends(between),
        batch_size,
        None if grid else target,
        kept | shown,
    )
    if not grid:
        decided = named | kept | computed_by(loaded, precision) | _digests(files)
        if between is not None:  # else samples do not depend on how many there are
            decided["count"] = count
        own = labels or []
        replace = (lambda old: _made(target, old, own, inputs)) if force else None
        begin(target, RECORD, decided, replace, "name another folder, or give --force.")
    made = []
    with report.progress() as bar:
        task = bar.add_task("sampling", total=count)
        for one in drawn:
            bar.advance(task)
            if grid:
                made.append(one)
            else:
                _write(one, target)
    if grid:
        _write_grid(made, target, columns or (len(labels) if labels and len(labels) > 1 else None))
    record = {"output": str(target), "count": count, **named, **kept}
    what = "grid" if grid else "folder"
    report.record(record, f"{count} sample{'s' if count > 1 else ''} -> {what} {target}")


def _drawn(
    model: DenoiserModel | LatentModel,
    count: int,
    labels: list[str] | None,
    seed: int,
    ends: tuple[int, int] | None,
    batch_size: int,
    folder: Path | None,
    settings: dict[str, Any],
) -> Iterator[Sample]:
    """The samples that are not in the folder yet."""
    from ..engine.samples import draw_samples, interpolate

    suffix = _suffix(model.channels)

    def there(index: int) -> bool:
        label = labels[index % len(labels)] if labels else None
        return folder is not None and _path(folder, index, label, suffix).is_file()

    given: dict[str, Any] = {"batch_size": batch_size, "skip": there, **settings}
    if ends is None:
        return draw_samples(model, count, labels=labels, seed=seed, **given)
    if labels and len(labels) > 1:
        raise InputError("--between goes with one --label: leave the others out.")
    return interpolate(model, *ends, count, label=labels[0] if labels else None, **given)


def _digests(files: dict[str, str | None]) -> dict[str, dict[str, str]]:
    """What the contents of files are told by; numbers are no files."""
    found = {name: Path(file).expanduser() for name, file in files.items() if file is not None}
    return {"files": {name: file_digest(file) for name, file in found.items() if file.is_file()}}


def _path(folder: Path, index: int, label: str | None, suffix: str) -> Path:
    safe = "" if label is None else label.replace("/", "_").replace("\\", "_")
    return (folder / safe if safe not in ("", ".", "..") else folder) / f"{index:06d}{suffix}"


def _made(folder: Path, known: dict[str, Any], labels: list[str], inputs: list[Path]) -> list[Path]:
    """The samples in a folder and in those of its classes, of these and of a record.

    Raises:
        InputError: one of them is an input.
    """
    old = known.get("labels") or []
    places = {_path(folder, 0, label, "").parent for label in (None, *labels, *old)}
    found = [path for place in places if place.is_dir() for path in place.iterdir()]
    made = sorted(path for path in found if _NAME.fullmatch(path.name) and path.is_file())
    for path in made:
        check_output(path, inputs, force=True)
    return made


def _write(one: Sample, folder: Path) -> None:
    path = _path(folder, one.index, one.label, _suffix(one.pixels.shape[2]))
    path.parent.mkdir(parents=True, exist_ok=True)
    write_picture(one.pixels, path)


def _suffix(channels: int) -> str:
    """Of files of pictures: PNGs have 1 or 3 channels."""
    return ".png" if channels in (1, 3) else ".npy"


def write_picture(pixels: Any, path: Path) -> None:
    """Pixels (H,W,C): a PNG of 1 or 3 channels, of more an .npy beside where it would be."""
    import numpy as np
    from PIL import Image

    from ..files import write_atomically

    file = io.BytesIO()
    suffix = _suffix(pixels.shape[2])
    if suffix == ".npy":
        np.save(file, pixels)
    else:
        squeezed = pixels[..., 0] if pixels.shape[2] == 1 else pixels
        Image.fromarray(np.ascontiguousarray(squeezed)).save(file, "PNG")
    write_atomically(path.with_suffix(suffix), file.getvalue())


def _write_grid(made: list[Sample], path: Path, columns: int | None) -> None:
    from ..engine.samples import sample_grid

    path.parent.mkdir(parents=True, exist_ok=True)
    pictures = [one.pixels for one in made]
    if pictures[0].shape[2] not in (1, 3):
        pictures = [pixels[..., :1] for pixels in pictures]
    write_picture(sample_grid(pictures, columns), path)


def _shown(
    model: DenoiserModel | LatentModel,
    sketch: str | None,
    strength: str | None,
    picture: str | None,
) -> dict[str, Any]:
    """The picture to begin with, how much of it may change, and the picture to tell the model."""
    from ..images import read

    shown: dict[str, Any] = {}
    if picture is not None:
        shown["picture"] = read(picture).tensor(1 if model.picture_channels == 1 else 3)
    if sketch is None or strength is None:
        return shown
    begun = read(sketch)
    much = number_or_file("--strength", strength)
    if isinstance(much, str):
        from ..maps import from_file

        chosen = from_file(much)
        if (chosen.height, chosen.width) != (begun.height, begun.width):
            raise InputError(
                f"the map '{much}' is {chosen.width}x{chosen.height} pixels and '{sketch}' "
                f"{begun.width}x{begun.height}: resize one of them."
            )
        shown["strength"] = chosen.tensor()
    else:
        shown["strength"] = much
    return shown | {"image": begun.tensor(1 if model.channels == 1 else 3)}


def _size(text: str) -> tuple[int, int]:
    """Height and width."""
    width, _, height = text.lower().partition("x")
    if not (width.isdecimal() and height.isdecimal() and int(width) and int(height)):
        raise InputError(f"--size '{text}' is no size: give such as 64x48.")
    return int(height), int(width)


def _ends(text: str) -> tuple[int, int]:
    first, _, second = text.partition(",")
    if not (first.strip().isdecimal() and second.strip().isdecimal()):
        raise InputError(f"--between '{text}' is no pair of seeds: give such as 3,7.")
    return int(first), int(second)


def _numbers(option: str, text: str) -> list[float]:
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise InputError(f"{option} '{text}' is no list of numbers: give such as 0.5,2.") from None
