"""augment: labelled variants of labelled pictures, or new ones of each class."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import InputError
from ..keyvalue import key_value
from .begun import begin, computed_by
from .common import Quiet, Reporter, refuse
from .sample import write_picture

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from ..data.images import NamedImage
    from ..models import DenoiserModel, LatentModel

RECORD = "variants.json"


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
            "such as saliency or segmentation; `diffdiff map --list` shows them.",
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

    Variants go to OUTPUT/CLASS/NAME-1.png and so on. A folder that was begun with the same
    settings is gone on with: variants that are there are left alone.
    """
    from ..data.images import load_images
    from ..models import DenoiserModel, LatentModel, load_model

    report = Reporter(json_lines=json, quiet=quiet)
    folder = Path(output).expanduser()
    refuse(
        (variants < 1, f"--variants {variants} makes none: give at least 1."),
        (bool(param) and protect is None, "--param is of a source of maps: name it by --protect."),
        (
            folder.resolve().is_relative_to(Path(pictures).resolve()),
            f"'{output}' lies with the pictures themselves: name another folder.",
        ),
    )
    own = dict(key_value("--param", text) for text in param or [])
    loaded = load_model(model, device=device, precision=precision)
    if not isinstance(loaded, DenoiserModel | LatentModel):
        raise InputError(f"'{model}' makes pictures from prompts: name a denoiser.")
    channels = loaded.channels if loaded.channels in (1, 3) else 3
    found = load_images(pictures, labels="folders", channels=channels)
    unknown = sorted({str(image.label) for image in found.images} - {*loaded.classes})
    if guidance != 1 and unknown:
        raise InputError(
            f"--guidance is towards a class, and the model '{model}' knows no '{unknown[0]}': "
            "leave it out, or name a model of these classes."
        )
    settings: dict[str, Any] = {
        "strength": strength,
        "guidance_scale": guidance,
        "steps": steps,
        "solver": solver,
    }
    places = _places(found.images)

    def drawn(place: PurePosixPath) -> Iterator[NDArray[np.uint8]]:
        return _variants(
            loaded, places[place], variants, settings, protect, own, _seed(seed, place)
        )

    drawn(next(iter(places)))  # checks the settings, before there is a folder
    decided = {"model": model, "pictures": str(Path(pictures)), "seed": seed, **settings}
    shield = {"protect": protect, "param": param or []}
    begin(folder, RECORD, decided | shield | computed_by(loaded, precision))
    made = 0
    with report.progress() as bar:
        shown = bar.add_task("augmenting", total=len(places))
        for place in places:
            paths = [folder / f"{place}-{k + 1}.png" for k in range(variants)]
            wanted = {path for path in paths if not path.is_file()}
            for path, one in zip(paths, drawn(place) if wanted else (), strict=False):
                if path in wanted:
                    path.parent.mkdir(parents=True, exist_ok=True)
                    write_picture(one, path)
            made += len(wanted)
            bar.advance(shown)
    if found.skipped:
        report.note(f"pictures left out: {len(found.skipped)}, the first is {min(found.skipped)}.")
    record = {"output": str(folder), "pictures": len(found.images), "written": made, **settings}
    plural = "s" if made != 1 else ""
    report.record(record, f"{made} variant{plural} of {len(found.images)} pictures -> {folder}")


def _places(images: list[NamedImage]) -> dict[PurePosixPath, NamedImage]:
    """Pictures by class and name, as their variants are called before the number.

    Raises:
        InputError: two pictures have the same.
    """
    places: dict[PurePosixPath, NamedImage] = {}
    for image in sorted(images, key=lambda image: image.name):
        place = PurePosixPath(str(image.label), PurePosixPath(image.name).stem)
        if place in places:
            raise InputError(
                f"'{place}-1.png' would be written twice, for '{places[place].name}' and "
                f"'{image.name}': rename one of them."
            )
        places[place] = image
    return places


def _seed(seed: int, place: PurePosixPath) -> int:
    """A seed for a picture, whichever others there are."""
    from ..core.noise import derive_seed

    name = hashlib.blake2b(str(place).encode(), digest_size=8).digest()
    return derive_seed(seed, int.from_bytes(name, "little"))


def _variants(
    model: DenoiserModel | LatentModel,
    image: NamedImage,
    count: int,
    settings: dict[str, Any],
    protect: str | None,
    own: dict[str, Any],
    seed: int,
) -> Iterator[NDArray[np.uint8]]:
    """Variants of a picture, drawn when they are asked for; the settings are checked at once."""
    import numpy as np

    from ..engine import protecting_map, vary
    from ..images.convert import requantised

    pixels = requantised(image.pixels, np.dtype(np.uint8))
    if protect is not None:
        much = protecting_map(pixels, protect, settings["strength"], own)
        settings = settings | {"strength": much}
    return vary(model, pixels, count, label=image.label, seed=seed, **settings)
