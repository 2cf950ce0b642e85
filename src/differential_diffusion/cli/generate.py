"""generate: a picture from a prompt, or from nothing; fan: one picture at several strengths."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import BAD_INPUT, InputError
from .batch import expanded, run_each
from .common import Images, Invert, PromptedSettings, Reporter, number_or_file, with_settings
from .outputs import Target, Targets
from .run import chosen_targets, film_for, with_model, written

if TYPE_CHECKING:
    from ..schema import EditRequest, GenerateRequest

STRENGTHS = (0.2, 0.4, 0.6, 0.8, 1.0)


@with_settings
def generate(
    width: Annotated[int, typer.Option(help="In pixels.")] = 512,
    height: Annotated[int, typer.Option(help="In pixels.")] = 512,
    *,
    settings: PromptedSettings,
) -> None:
    """Make a picture: from a prompt with a pipeline of Diffusers, else from nothing.

    The bundled prior makes textures; it knows no objects.
    """
    from ..schema import GenerateRequest, build

    report = Reporter(json_lines=settings.json, quiet=settings.quiet)
    request = build(GenerateRequest, width=width, height=height, **settings.request_fields())
    sources = [Path("picture.png")]
    targets = chosen_targets(sources, "generate", settings)
    run_each(sources, partial(_one, with_model(request), targets), report)


def _one(
    request: GenerateRequest, targets: Targets, source: Path, on_progress: Any
) -> tuple[dict[str, Any], str]:
    from PIL import Image

    from ..engine import execute
    from ..images import read

    target = targets.of(source, request.samples if request.estimate == "sample" else 1)
    blank = read(Image.new("RGB", (request.width, request.height), (128, 128, 128)))
    film = film_for(target, blank)
    result = execute(request, on_step=film, on_progress=on_progress)
    record, line = written(result, target, blank, film, overwrite=targets.force)
    del record["input"]
    return record, line.partition(" -> ")[2]


@with_settings
def fan(
    images: Images,
    strength: Annotated[
        str,
        typer.Option(
            "--strength",
            "--map",
            "-s",
            help="A number or a grey picture that each strength of the fan multiplies.",
        ),
    ] = "1",
    strengths: Annotated[
        str, typer.Option(help="The fan: numbers in (0, 1], separated by commas.")
    ] = ",".join(map(str, STRENGTHS)),
    invert: Invert = False,
    *,
    settings: PromptedSettings,
) -> None:
    """One picture at several strengths side by side, to choose from.

    Writes a sheet; `edit` makes the one you choose, with the same seed and settings.
    """
    from ..schema import EditRequest, build

    report = Reporter(json_lines=settings.json, quiet=settings.quiet)
    sources, unmatched = expanded(images, report)
    if not sources:
        raise typer.Exit(BAD_INPUT)
    for option in ("preview", "map_out", "save_steps"):
        if getattr(settings, option) is not None:
            named = option.replace("_", "-")
            raise InputError(f"fan writes one sheet and takes no --{named}: leave it out.")
    factors = _numbers(strengths)
    base = number_or_file("--strength", strength)
    request = build(
        EditRequest, image=sources[0], strength=base, invert=invert, **settings.request_fields()
    )
    targets = Targets(sources, "fan", settings.output, force=settings.force, suffix=".png")
    work = partial(_fan, with_model(request), factors, targets)
    run_each(sources, work, report, unmatched=unmatched)


def _numbers(text: str) -> list[float]:
    try:
        numbers = [float(part) for part in text.split(",")]
    except ValueError:
        numbers = []
    if not numbers or not all(0 < number <= 1 for number in numbers):
        raise InputError(
            f"--strengths '{text}' is no list of numbers in (0, 1]: give such as 0.2,0.5,1."
        )
    return numbers


def _fan(
    request: EditRequest, factors: list[float], targets: Targets, source: Path, on_progress: Any
) -> tuple[dict[str, Any], str]:
    import io

    from ..engine import fan_out
    from ..files import write_atomically
    from ..images import read
    from .preview import Panel, rgb, sheet

    target: Target = targets.of(source)
    picture = read(source)
    results = fan_out(request.model_copy(update={"image": picture}), factors, on_progress)
    panels = [Panel("before", rgb(picture))]
    panels += [
        Panel(f"strength {factor:g}", rgb(made.picture))
        for factor, made in zip(factors, results, strict=True)
    ]
    file = io.BytesIO()
    sheet(panels).save(file, "PNG")
    target.output.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(target.output, file.getvalue())
    seconds = sum(made.seconds for made in results)
    record = {
        "input": str(source),
        "output": str(target.output),
        "seed": request.seed,
        "task": "fan",
        "strengths": factors,
        "seconds": round(seconds, 3),
        "evaluations": sum(made.evaluations for made in results),
    }
    return record, f"{source} -> {target.output} ({seconds:.1f} s, seed {request.seed})"
