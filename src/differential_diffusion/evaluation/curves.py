"""Quality against what it costs: steps and solvers of a model, and the training of a run."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from ..data.images import NamedImage
from ..engine.samples import SampleSettings, checked, draw_samples, labels_asked
from ..errors import InputError
from ..models import Model, load_model
from ..models.computed import computed_by, weights_digest
from .compare import Evaluation, compare_sets, protocol_of
from .extractors import Extractor
from .sets import FeatureSet, OnProgress, collect

__all__ = [
    "Checkpoint",
    "check_drawing",
    "draw_and_compare",
    "quality_curve",
    "run_checkpoints",
    "run_metrics",
    "training_curve",
]

OnPoint = Callable[[str], OnProgress]


@dataclass(frozen=True)
class Checkpoint:
    """A model that a training run kept.

    Attributes:
        folder: what `load_model` takes.
        step: of the training.
        seconds: that the training had taken, if the run tells.
    """

    folder: Path
    step: int
    seconds: float | None


def check_drawing(
    model: Model,
    *,
    steps: Sequence[int],
    solvers: Sequence[str],
    count: int,
    channels: int,
    labels: Sequence[str] | None = None,
    batch_size: int = 64,
    **settings: Any,
) -> None:
    """That a model can draw what `quality_curve` is asked for, before anything is measured.

    Args:
        channels: that the reference is read with.
        model, steps, solvers, count, labels, batch_size, settings: as there.

    Raises:
        InputError: if not.
    """
    for told in _points(steps, solvers, settings):
        asked = SampleSettings(**told)
        drawer = checked(model, asked, count, batch_size)
    if drawer.channels != channels:
        raise InputError(
            f"the model '{model.name}' draws pictures of {drawer.channels} channels and the "
            f"reference is read with {channels}: set channels"
        )
    conditions = labels_asked(model, labels), asked.vector, asked.picture
    if any(each is not None for each in conditions) or asked.guidance_scale != 1:
        label, vector, picture = conditions
        drawer.given(
            label=label, vector=vector, picture=picture, guidance_scale=asked.guidance_scale
        )


def quality_curve(
    model: Model,
    reference: FeatureSet,
    extractors: Sequence[Extractor],
    *,
    steps: Sequence[int],
    solvers: Sequence[str],
    count: int,
    seed: int = 0,
    gallery: bool = False,
    on_point: OnPoint | None = None,
    known: Sequence[Evaluation] = (),
    told: dict[str, Any] | None = None,
    **settings: Any,
) -> Iterator[Evaluation]:
    """Evaluate samples of a model for each solver and number of steps.

    All points start from the same noise. `settings` of each result say how its samples were drawn:
    model, solver, steps, seed, and the seconds it took.

    Args:
        model: what draws them.
        reference: with features of the extractors.
        extractors: what finds features.
        steps, solvers: each with each.
        count: samples of every point.
        seed: of the samples, and of the subsets of the kernel distance.
        gallery: whether to gather pictures for a report, of the last point.
        on_point: called with what a point is called; gives what is called with its progress.
        known: results that are taken in place of points with the same settings and protocols, but
            for one that pictures for a report are gathered of.
        told: more to say in the settings of each result.
        settings: further ones of `engine.draw_samples`.

    Raises:
        InputError: as `engine.draw_samples`, `collect` and `compare_sets`.
    """
    points = _points(steps, solvers, settings)
    for point in points:
        tell = None if on_point is None else on_point(f"{point['solver']}, {point['steps']} steps")
        yield draw_and_compare(
            model,
            reference,
            extractors,
            count=count,
            seed=seed,
            gallery=gallery and point is points[-1],
            on_progress=tell,
            settings=point,
            told=told or {},
            known=known,
        )


def training_curve(
    run: Path,
    reference: FeatureSet,
    extractors: Sequence[Extractor],
    *,
    steps: Sequence[int],
    solvers: Sequence[str],
    count: int,
    seed: int = 0,
    device: str | None = None,
    precision: str = "auto",
    gallery: bool = False,
    on_point: OnPoint | None = None,
    known: Sequence[Evaluation] = (),
    **settings: Any,
) -> Iterator[Evaluation]:
    """Evaluate samples of every checkpoint that a run kept, oldest first.

    Args:
        run: its output folder.
        device, precision: where and how to draw, see `load_model`.
        reference, extractors, steps, solvers, count, seed, gallery, on_point, known, settings: as
            in `quality_curve`.

    Raises:
        InputError: as `quality_curve`, and for a folder without checkpoints.
    """
    points, checkpoints = _points(steps, solvers, settings), run_checkpoints(run)
    for checkpoint in checkpoints:
        model = load_model(checkpoint.folder, device=device, precision=precision)
        told = computed_by(model, precision, with_device=True) | {
            "run": str(run),
            "training_step": checkpoint.step,
            "training_seconds": checkpoint.seconds,
        }
        for point in points:
            last = checkpoint is checkpoints[-1] and point is points[-1]
            tell = None if on_point is None else on_point(f"training step {checkpoint.step}")
            yield draw_and_compare(
                model,
                reference,
                extractors,
                count=count,
                seed=seed,
                gallery=gallery and last,
                on_progress=tell,
                settings=point,
                told=told,
                known=known,
            )


def _points(
    steps: Sequence[int], solvers: Sequence[str], settings: dict[str, Any]
) -> list[dict[str, Any]]:
    return [settings | {"solver": solver, "steps": n} for solver in solvers for n in steps]


def draw_and_compare(
    model: Model,
    reference: FeatureSet,
    extractors: Sequence[Extractor],
    *,
    count: int,
    seed: int,
    gallery: bool,
    on_progress: OnProgress | None,
    settings: dict[str, Any],
    told: dict[str, Any],
    known: Sequence[Evaluation] = (),
) -> Evaluation:
    """Draw samples of a model and evaluate them, unless that is known; see `quality_curve`."""
    taken = 0.0
    if "labels" in settings:
        settings = settings | {"labels": labels_asked(model, settings["labels"])}
    told = {"model": model.name, **settings, "seed": seed, **told}
    if isinstance(picture := settings.get("picture"), Tensor):
        told["picture"] = weights_digest({"picture": picture})
    told = json.loads(json.dumps(told))
    protocols = [protocol_of(each, reference, count, seed) for each in extractors]
    for result in () if gallery else known:
        alike = {k: v for k, v in result.settings.items() if k != "seconds"} == told
        if alike and [figures.protocol for figures in result.figures] == protocols:
            return result

    def pictures() -> Iterator[NamedImage]:
        nonlocal taken
        samples = draw_samples(model, count, seed=seed, **settings)
        while True:
            began = time.perf_counter()
            sample = next(samples, None)
            taken += time.perf_counter() - began
            if sample is None:
                return
            yield NamedImage(f"{sample.index:06d}", sample.pixels, sample.label)

    tell = None if on_progress is None else lambda done, _: on_progress(done, count)
    made = collect(
        pictures(),
        extractors,
        size=reference.size,
        channels=reference.channels,
        name=f"samples of {model.name}",
        on_progress=tell,
    )
    told["seconds"] = round(taken, 3)
    return compare_sets(made, reference, extractors, seed=seed, settings=told, gallery=gallery)


def run_checkpoints(run: Path) -> list[Checkpoint]:
    """The checkpoints of a run, oldest first, and its final model if that is of another step.

    Raises:
        InputError: for a folder that holds none, or damaged ones.
    """
    found: dict[int, Checkpoint] = {}
    for folder in [*sorted((run / "checkpoints").glob("step-*")), run / "final"]:
        described = folder / "config.json"
        if not described.is_file():
            continue
        card = _json(described).get("card") or {}
        state = folder / "training_state.json"
        seconds = (_json(state) if state.is_file() else card).get("seconds")
        step = card.get("step")
        if card.get("trained_steps", step) != step:
            seconds = None  # of the whole run, which ended later
        if not isinstance(step, int):
            raise InputError(f"'{described}' does not tell its training step: leave it out")
        found.setdefault(step, Checkpoint(folder, step, seconds))
    if not found:
        raise InputError(f"'{run}' holds no checkpoints: name the output folder of a training run")
    return [found[step] for step in sorted(found)]


def run_metrics(run: Path) -> list[dict[str, float]]:
    """The figures of a run's validations, oldest first; none if it wrote none.

    Raises:
        InputError: if its metrics.jsonl is damaged before its last line.
    """
    path = run / "metrics.jsonl"
    if not path.is_file():
        return []
    lines = path.read_text(encoding="utf-8").splitlines()
    made: list[dict[str, float]] = []
    for number, line in enumerate(lines, 1):
        try:
            made.append({str(k): float(v) for k, v in json.loads(line).items() if v is not None})
        except (ValueError, TypeError, AttributeError):
            if number < len(lines):  # the last one may be half written
                raise InputError(f"line {number} of '{path}' is damaged: remove it") from None
    return made


def _json(path: Path) -> dict[str, Any]:
    try:
        made: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"'{path}' cannot be read ({error}): remove that checkpoint") from None
    return made
