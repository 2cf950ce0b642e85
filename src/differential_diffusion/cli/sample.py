"""sample: pictures of a trained model, in a grid or a folder."""

from __future__ import annotations

import io
import json as json_text
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import InputError
from .common import Quiet, Reporter
from .outputs import check_output

if TYPE_CHECKING:
    from ..engine.samples import Sample
    from ..models import DenoiserModel, LatentModel

RECORD = "samples.json"
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
    sketch: Annotated[
        str | None,
        typer.Option(
            "--from", metavar="IMAGE", help="A picture to begin with.", rich_help_panel=_WHAT
        ),
    ] = None,
    strength: Annotated[
        str,
        typer.Option(
            help="How much of the picture may change: a number or a grey picture.",
            rich_help_panel=_WHAT,
        ),
    ] = "0.7",
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
            help="In pixels [default: what it was trained on].",
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
    seed: Annotated[int, typer.Option(help="Of all samples.", rich_help_panel=_HOW)] = 0,
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
            help="Of the grid [default: about as many as rows, or one a class].",
            rich_help_panel=_OUT,
        ),
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Replace outputs that exist.", rich_help_panel=_OUT)
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
    if grid:
        check_output(target, [Path(sketch)] if sketch else [], force=force)
    elif target.suffix:
        raise InputError(f"--output '{output}' is neither a .png nor a folder: name one of these.")
    loaded = load_model(model, device=device, precision=precision)
    if not isinstance(loaded, DenoiserModel | LatentModel):
        raise InputError(f"'{model}' makes pictures from prompts: use `diffdiff generate`.")
    asked = labels_asked(loaded, label)
    labels = None if asked is None else [str(name) for name in asked]
    settings: dict[str, Any] = {
        "guidance_scale": guidance,
        "steps": steps,
        "solver": solver,
        "size": _size(size),
        "vector": _numbers("--vector", vector) if vector else None,
    }
    named = {"model": model, "seed": seed, "labels": labels, "between": between, "from": sketch}
    if sketch is not None:
        settings |= _sketched(sketch, strength, loaded)
        named["strength"] = strength
    ends = _ends(between) if between else None
    kept = {key: value for key, value in settings.items() if key not in ("image", "strength")}
    folder = None if grid else _folder(target, named | kept, force)
    with report.progress() as bar:
        shown = bar.add_task("sampling", total=count)
        drawn = _drawn(loaded, count, labels, seed, ends, batch_size, folder, settings)
        made = []
        for one in drawn:
            bar.advance(shown)
            if folder is not None:
                _write(one, folder)
            else:
                made.append(one)
    if grid:
        _write_grid(made, target, columns or (len(labels) if labels else None))
    files = count if folder is None else len(made) or count
    record = {"output": str(target), "count": files, **named, **kept}
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
    from ..engine.samples import draw_samples, interpolate

    if ends is not None:
        if labels and len(labels) > 1:
            raise InputError("--between goes with one --label: leave the others out.")
        label = labels[0] if labels else None
        return interpolate(model, *ends, count, label=label, batch_size=batch_size, **settings)

    names = [model.classes[n] for n in model.label_numbers(labels)] if labels else [None]

    def there(index: int) -> bool:
        return folder is not None and _path(folder, index, names[index % len(names)]).is_file()

    return draw_samples(
        model, count, labels=labels, seed=seed, batch_size=batch_size, skip=there, **settings
    )


def _path(folder: Path, index: int, label: str | None) -> Path:
    safe = "" if label is None else label.replace("/", "_").replace("\\", "_")
    return (folder / safe if safe not in ("", ".", "..") else folder) / f"{index:06d}.png"


def _write(one: Sample, folder: Path) -> None:
    path = _path(folder, one.index, one.label)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_picture(one.pixels, path)


def write_picture(pixels: Any, path: Path) -> None:
    """Pixels (H,W,C): a PNG of 1 or 3 channels, of more an .npy beside where it would be."""
    import numpy as np
    from PIL import Image

    from ..files import write_atomically

    file = io.BytesIO()
    if pixels.shape[2] not in (1, 3):
        np.save(file, pixels)
        path = path.with_suffix(".npy")
    else:
        squeezed = pixels[..., 0] if pixels.shape[2] == 1 else pixels
        Image.fromarray(np.ascontiguousarray(squeezed)).save(file, "PNG")
    write_atomically(path, file.getvalue())


def _write_grid(made: list[Sample], path: Path, columns: int | None) -> None:
    from ..engine.samples import sample_grid

    path.parent.mkdir(parents=True, exist_ok=True)
    pictures = [one.pixels for one in made]
    if pictures[0].shape[2] not in (1, 3):
        pictures = [pixels[..., :1] for pixels in pictures]
    write_picture(sample_grid(pictures, columns), path)


def _folder(folder: Path, settings: dict[str, Any], force: bool) -> Path:
    """The folder, new or begun with the same settings."""
    from ..files import write_atomically

    record = folder / RECORD
    text = json_text.dumps(settings, indent=2, ensure_ascii=False) + "\n"
    if folder.exists() and not folder.is_dir():
        raise InputError(f"--output '{folder}' is a file: name a folder.")
    if folder.is_dir() and any(folder.iterdir()) and not force:
        known = record.read_text("utf-8") if record.is_file() else None
        if known != text:
            what = "samples of other settings" if known is not None else "other files"
            raise InputError(f"'{folder}' holds {what}: name another folder, or give --force.")
    if force and record.is_file() and record.read_text("utf-8") != text:
        for path in sorted(folder.glob("**/[0-9]*.png")):
            path.unlink()
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(record, text.encode())
    return folder


def _sketched(sketch: str, strength: str, model: DenoiserModel | LatentModel) -> dict[str, Any]:
    """The picture to begin with and how much of it may change."""
    from ..images import read
    from .common import number_or_file

    picture = read(sketch)
    image = picture.tensor()
    if model.channels == 1:
        image = image.mean(1, keepdim=True)
    much = number_or_file("--strength", strength)
    if isinstance(much, str):
        from ..maps import from_file

        chosen = from_file(much)
        if (chosen.height, chosen.width) != (picture.height, picture.width):
            raise InputError(
                f"the map '{much}' is {chosen.width}x{chosen.height} pixels and '{sketch}' "
                f"{picture.width}x{picture.height}: resize one of them."
            )
        return {"image": image, "strength": chosen.tensor()}
    if not 0 <= much <= 1:
        raise InputError(f"--strength {strength} is outside [0, 1]: give such as 0.6.")
    return {"image": image, "strength": much}


def _size(text: str | None) -> tuple[int, int] | None:
    """Height and width."""
    if text is None:
        return None
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
