"""augment: labelled variants of labelled pictures, or new ones of each class."""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import InputError
from .common import Quiet, Reporter, key_value
from .sample import write_picture

if TYPE_CHECKING:
    from ..data.images import NamedImage
    from ..models import DenoiserModel


def augment(
    pictures: Annotated[
        str,
        typer.Argument(
            help="A folder with a folder of pictures for each class, or a tar file of them.",
            show_default=False,
        ),
    ],
    output: Annotated[
        str, typer.Option("--output", "-o", help="A folder, for folders of classes.")
    ],
    model: Annotated[
        str, typer.Option(help="'prior' or a checkpoint folder, best one of these classes.")
    ] = "prior",
    variants: Annotated[int, typer.Option("--variants", "-n", help="Of each picture.")] = 4,
    strength: Annotated[
        float, typer.Option(help="How much may change, 0 to 1; 1 draws new pictures.")
    ] = 0.4,
    protect: Annotated[
        str | None,
        typer.Option(
            metavar="SOURCE",
            help="Change the surroundings more than the object that this source of maps finds, "
            "such as saliency or segment; `diffdiff map --list` shows them.",
        ),
    ] = None,
    param: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=VALUE", help="A setting of the source; may be repeated."),
    ] = None,
    guidance: Annotated[
        float, typer.Option(help="Above 1, variants show their class more and differ less.")
    ] = 1.0,
    steps: Annotated[int, typer.Option(help="Length of the noise ladder.")] = 20,
    solver: Annotated[
        str, typer.Option(help="A solver by name; `diffdiff doctor` lists them.")
    ] = "ancestral",
    seed: Annotated[int, typer.Option(help="Of all variants.")] = 0,
    device: Annotated[
        str | None, typer.Option(help="cpu, cuda, cuda:N or mps [default: best].")
    ] = None,
    precision: Annotated[str, typer.Option(help="auto, fp32 or bf16.")] = "auto",
    json: Annotated[bool, typer.Option("--json", help="A JSON object on stdout.")] = False,
    quiet: Quiet = False,
) -> None:
    """Make variants of labelled pictures, to train a classifier on where labels are few.

    Variants go to OUTPUT/CLASS/NAME-1.png and so on; those that are there are left alone.
    """
    from ..data.images import load_images
    from ..models import DenoiserModel, load_model

    report = Reporter(json_lines=json, quiet=quiet)
    if variants < 1:
        raise InputError(f"--variants {variants} makes none: give at least 1.")
    folder = Path(output).expanduser()
    if folder.exists() and not folder.is_dir():
        raise InputError(f"--output '{output}' is a file: name a folder.")
    if Path(pictures).exists() and folder.exists() and folder.samefile(pictures):
        raise InputError(f"'{output}' holds the pictures themselves: name another folder.")
    loaded = load_model(model, device=device, precision=precision)
    if not isinstance(loaded, DenoiserModel):
        raise InputError(f"'{model}' makes pictures from prompts: name a denoiser.")
    channels = loaded.channels if loaded.channels in (1, 3) else 3
    found = load_images(pictures, labels="folders", channels=channels)
    settings: dict[str, Any] = {
        "strength": strength,
        "guidance_scale": guidance,
        "steps": steps,
        "solver": solver,
    }
    shield = (protect, dict(key_value("--param", text) for text in param or []))
    made = 0
    with report.progress() as bar:
        shown = bar.add_task("augmenting", total=len(found.images))
        for number, image in enumerate(sorted(found.images)):
            made += _vary(loaded, image, folder, variants, settings, shield, seed + number)
            bar.advance(shown)
    if found.skipped:
        report.note(f"pictures left out: {len(found.skipped)}, the first is {min(found.skipped)}.")
    record = {"output": str(folder), "pictures": len(found.images), "written": made, **settings}
    report.record(record, f"{made} variants of {len(found.images)} pictures -> {folder}")


def _vary(
    model: DenoiserModel,
    image: NamedImage,
    folder: Path,
    count: int,
    settings: dict[str, Any],
    shield: tuple[str | None, dict[str, Any]],
    seed: int,
) -> int:
    """Write the variants of a picture that are not there yet; how many they are."""
    import numpy as np

    from ..engine import protecting_map, vary

    stem = PurePosixPath(image.name).stem
    paths = [folder / str(image.label) / f"{stem}-{k + 1}.png" for k in range(count)]
    if all(path.is_file() for path in paths):
        return 0
    pixels = image.pixels
    if pixels.dtype != np.uint8:
        pixels = np.rint(pixels / 257).astype(np.uint8)
    source, own = shield
    if source is not None:
        settings = settings | {
            "strength": protecting_map(pixels, source, settings["strength"], own)
        }
    made = vary(model, pixels, count, label=image.label, seed=seed, **settings)
    for path, one in zip(paths, made, strict=True):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_picture(one, path)
    return count
