"""edit, inpaint and any task by its name: different maps, one way of doing them."""

from __future__ import annotations

import hashlib
import warnings
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from ..errors import BAD_INPUT, InputError
from ..keyvalue import key_value
from .batch import expanded, run_each
from .common import (
    Images,
    Invert,
    Noise,
    PromptedSettings,
    Reporter,
    Settings,
    number_or_file,
    with_settings,
)
from .outputs import Target, Targets

if TYPE_CHECKING:
    from ..engine import Result
    from ..images import Picture
    from ..schema import Request
    from .film import Film


R = TypeVar("R", bound="Request")


@with_settings
def edit(
    images: Images,
    strength: Annotated[
        str,
        typer.Option(
            "--strength",
            "--map",
            "-s",
            help="How much each pixel may change, 0 not at all, 1 completely: a number, or a "
            "grey picture (black 0, white 1).",
            show_default=False,
        ),
    ],
    invert: Invert = False,
    *,
    settings: PromptedSettings,
) -> None:
    """Change each pixel as much as its strength says; strength 0 keeps it bit for bit."""
    given = {"strength": number_or_file("--strength", strength), "invert": invert}
    run_task("edit", images, settings, given)


@with_settings
def inpaint(
    images: Images,
    mask: Annotated[
        str,
        typer.Option(
            "--mask",
            "-m",
            help="A grey picture: white is filled, black is kept, grey changes in part.",
            show_default=False,
        ),
    ],
    noise: Noise = None,
    invert: Invert = False,
    passes: Annotated[
        int | None,
        typer.Option(help="Evaluations that --estimate mean takes [default: 16]."),
    ] = None,
    *,
    settings: PromptedSettings,
) -> None:
    """Fill the holes that a mask shows, in a clean or a noisy photograph."""
    given: dict[str, Any] = {"mask": number_or_file("--mask", mask), "invert": invert}
    given |= {} if passes is None else {"passes": passes}
    run_task("inpaint", images, settings, given | noise_level(noise))


@with_settings
def task(
    name: Annotated[str, typer.Argument(metavar="TASK", help="A task by name.")],
    images: Images,
    field: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="A setting of the task's own, its value as YAML; may be given several times.",
        ),
    ] = None,
    *,
    settings: PromptedSettings,
) -> None:
    """Run any task by its name, those that have no command of their own too."""
    from ..tasks import TASKS

    if name not in TASKS:
        raise InputError(f"'{name}' is no task: use one of {', '.join(TASKS)}.")
    given = dict(key_value("--set", text) for text in field or [])
    common = settings.request_fields()
    for key in given:
        if key in {*common, "image", "model", "task"}:
            raise InputError(f"--set {key} says again what the command line says: leave it out.")
    run_task(name, images, settings, given)


def noise_level(text: str | None) -> dict[str, Any]:
    """The request's noise level from the option's text; nothing if it was not given."""
    if text is None or text == "auto":
        return {} if text is None else {"noise_level_8bit": text}
    return {"noise_level_8bit": number_or_file("--noise", text)}


def run_task(task: str, images: list[str], settings: Settings, given: dict[str, Any]) -> None:
    """Do a task to every picture, with the settings of all tasks and its own."""
    from ..schema import build
    from ..tasks import TASKS

    report = Reporter(json_lines=settings.json, quiet=settings.quiet)
    sources, unmatched = expanded(images, report)
    if not sources:
        raise typer.Exit(BAD_INPUT)
    request = build(TASKS[task].request, image=sources[0], **settings.request_fields(), **given)
    targets = chosen_targets(sources, task, settings)
    request = with_model(request)
    run_each(sources, partial(_one, request, targets), report, unmatched=unmatched)


def chosen_targets(sources: list[Path], task: str, settings: Settings) -> Targets:
    """Where the results of a task go."""
    return Targets(
        sources,
        task,
        settings.output,
        settings.preview,
        settings.map_out,
        settings.force,
        film=settings.save_steps,
    )


def with_model(request: R) -> R:
    """The request with its model loaded, once for all pictures."""
    from ..engine.executor import as_loaded, model_of

    return request.model_copy(update=as_loaded(model_of(request)))


def _one(
    request: Request, targets: Targets, source: Path, on_progress: Any
) -> tuple[dict[str, Any], str]:
    """One picture from file to files: its record, and a line that says it."""
    from ..engine import execute
    from ..images import read

    each = request.estimate == "sample"
    target = targets.of(source, request.samples if each else 1)
    picture = read(source)
    target.check_holds(picture)
    before = picture.enlarged(getattr(request, "factor", 1))
    film = film_for(target, before)
    result = execute(
        request.model_copy(update={"image": picture}), on_step=film, on_progress=on_progress
    )
    return written(result, target, before, film, overwrite=targets.force)


def written(
    result: Result, target: Target, picture: Picture, film: Film | None, *, overwrite: bool
) -> tuple[dict[str, Any], str]:
    """Write a result's files: its record, and a line that says it."""
    if film is not None and target.film is not None:
        film.end(result.pictures[0])
        film.save(target.film)
    results = result.pictures if result.request.estimate == "sample" else (result.picture,)
    files = target.outputs(len(results))
    notes = list(result.notes)
    for made, path in zip(results, files, strict=True):
        notes += _save(made, path, overwrite=overwrite)
    _extras(target, picture, result, overwrite=overwrite)
    return _record(target, result, files, notes)


def film_for(target: Target, picture: Picture) -> Film | None:
    """What keeps the steps, where they were asked for."""
    if target.film is None:
        return None
    from .film import Film

    return Film(picture)


def _save(picture: Picture, path: Path, *, overwrite: bool) -> list[str]:
    """Write a picture; what its format could not hold, as sentences."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        picture.save(path, overwrite=overwrite)
    return [str(warning.message) for warning in caught]


def _extras(target: Target, picture: Picture, result: Result, *, overwrite: bool) -> None:
    from ..images import read

    if target.map_out is not None:
        from .map import as_grey

        _save(read(as_grey(result.map, 16)), target.map_out, overwrite=overwrite)
    if target.preview is not None:
        from .preview import contact_sheet

        _save(read(contact_sheet(picture, result)), target.preview, overwrite=overwrite)


def _record(
    target: Target, result: Result, files: list[Path], notes: list[str]
) -> tuple[dict[str, Any], str]:
    outputs = [
        {"output": str(path), "seed": result.seed + k, "sha256": _digest(path)}
        for k, path in enumerate(files)
    ]
    record = {
        "input": str(target.source),
        **outputs[0],
        "task": result.request.task,
        "seconds": round(result.seconds, 3),
        "evaluations": result.evaluations,
        "notes": notes,
    }
    if len(outputs) > 1:
        record["samples"] = outputs
    extras = {"preview": target.preview, "map": target.map_out, "steps": target.film}
    record |= {name: str(path) for name, path in extras.items() if path is not None}
    names = ", ".join(str(path) for path in files)
    plural = "" if result.evaluations == 1 else "s"
    cost = f"{result.seconds:.1f} s, {result.evaluations} evaluation{plural}, seed {result.seed}"
    lines = [f"{target.source} -> {names} ({cost})", *(f"  {note}" for note in notes)]
    return record, "\n".join(lines)


def _digest(path: Path) -> str:
    with path.open("rb") as stream:
        digest = hashlib.sha256()
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
