"""What evaluate was asked for, how it is done, and what is told of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import InputError
from .common import Reporter

if TYPE_CHECKING:
    from ..evaluation.compare import Evaluation, Figures
    from ..evaluation.extractors import Extractor
    from ..evaluation.sets import FeatureSet
    from ..models import Model

FEATURES = ".safetensors"


@dataclass(frozen=True)
class Options:
    """What was asked for; see `evaluate`."""

    samples: str | None
    reference: str
    model: str | None
    run: str | None
    extractors: list[str]
    paired: bool
    lpips: bool
    count: int | None
    samples_count: int | None
    size: int | None
    channels: int
    split: str
    seed: int
    device: str | None
    precision: str
    steps: list[int]
    solvers: list[str]
    label: list[str] | None
    guidance: float
    vector: list[float] | None
    picture: str | None
    batch_size: int
    gallery: bool

    @property
    def wanted(self) -> int | None:
        """How many samples, if that is said."""
        return self.count if self.samples_count is None else self.samples_count

    def points(self) -> list[dict[str, Any]]:
        """What the results will be of, as their settings say it."""
        from ..evaluation.curves import run_checkpoints

        if self.samples is not None:
            return [{}]
        trained: list[dict[str, Any]] = [{}]
        if self.run is not None:
            kept = run_checkpoints(Path(self.run).expanduser())
            trained = [{"training_step": each.step} for each in kept]
        drawn = [{"solver": solver, "steps": n} for solver in self.solvers for n in self.steps]
        return [one | other for one in trained for other in drawn]


@dataclass(frozen=True)
class Others:
    """Results that were there before.

    Attributes:
        known: those to go on from.
        compared: those to compare with.
        path: where these lie.
    """

    known: Sequence[Evaluation] = ()
    compared: Sequence[Evaluation] = ()
    path: str = ""


def evaluated(
    options: Options, save_reference: Path | None, others: Others, say: Reporter
) -> Iterator[Evaluation]:
    """Do what was asked for, result by result; what can be refused is, before it is measured.

    Raises:
        InputError: for sets, models or settings that do not work.
    """
    from ..evaluation.compare import Evaluation
    from ..evaluation.extractors import load_extractor

    _check_samples(options)
    extractors = [load_extractor(name, options.device) for name in options.extractors]
    _check_comparing(options, extractors, others)
    drawing = None if options.samples is not None else _drawing(options)
    with say.progress() as bar:
        tell = _teller(bar)
        if not extractors:
            yield _paired(Evaluation(str(options.samples), options.reference), options, tell)
            return
        reference = _reference(options, extractors, tell)
        if save_reference is not None:
            from ..evaluation.sets import save_features

            save_features(reference, save_reference)
            say.note(f"features of the reference -> {save_reference}")
        _check_comparing(options, extractors, others, reference)
        if drawing is None:
            made = _of_samples(options, extractors, reference, tell)
            yield _paired(made, options, tell) if options.paired else made
        else:
            settings: dict[str, Any] = drawing[1] | {"known": others.known, "on_point": tell}
            yield from _of_model(options, drawing[0], extractors, reference, settings)


def _check_samples(options: Options) -> None:
    """That there are samples, and what measures pairs."""
    from ..evaluation import lpips_distance
    from ..evaluation.sets import check_source

    if options.paired and options.reference.lower().endswith(FEATURES):
        raise InputError(
            "--paired needs pictures, and the reference is a file of features: name its folder."
        )
    if options.lpips:
        lpips_distance()
    if options.samples is not None:
        check_source(_source(options.samples), count=options.wanted, split=options.split)


def _check_comparing(
    options: Options,
    extractors: Sequence[Extractor],
    others: Others,
    reference: FeatureSet | None = None,
) -> None:
    """That results to compare with can be, as far as that is known without the samples."""
    from ..evaluation.compare import protocol_of, resizing
    from ..evaluation.protocol import comparable, package_version

    points = options.points() if others.compared else []
    for point in points:
        found = _partner(point, len(points), others.compared, others.path)
        both = [(each, f.protocol) for each in extractors if (f := found.of(each.name))]
        if not both and not (options.paired and found.paired):
            what = ", ".join(each.name for each in extractors) or "pairs"
            raise InputError(f"'{others.path}' holds no figures of {what}: evaluate both alike.")
        for each, theirs in both:
            if reference is None:
                mine = replace(
                    theirs,
                    extractor_hash=each.hash,
                    resize=resizing(options.size, each),
                    channels=options.channels,
                    seed=options.seed,
                    version=package_version(),
                )
            else:
                drawn = len(reference) if options.wanted is None else options.wanted
                samples = theirs.samples if options.samples is not None else drawn
                mine = protocol_of(each, reference, samples, options.seed)
            if (why := comparable(mine, theirs)) is not None:
                raise InputError(why)


def _drawing(options: Options) -> tuple[Model, dict[str, Any]]:
    """The model that draws, of a run its last, and how it does."""
    from ..evaluation.curves import check_drawing, run_checkpoints
    from ..images import read
    from ..models import load_model

    last = None if options.run is None else run_checkpoints(Path(options.run).expanduser())[-1]
    reference = options.model if last is None else last.folder
    model = load_model(reference, device=options.device, precision=options.precision)
    settings: dict[str, Any] = {
        "batch_size": options.batch_size,
        "guidance_scale": options.guidance,
        "labels": options.label,
        "steps": options.steps,
        "solvers": options.solvers,
    }
    if options.vector is not None:
        settings["vector"] = options.vector
    if options.picture is not None:
        picture = read(options.picture).tensor(getattr(model, "picture_channels", 0) or 3)
        settings |= {"picture": picture, "size": list(picture.shape[-2:])}
    count = 1 if options.wanted is None else options.wanted
    check_drawing(model, count=count, channels=options.channels, **settings)
    return model, settings


def _teller(bar: Any) -> Callable[[str], Callable[[int, int | None], None]]:
    """What names a piece of work, and gives what its progress is told to."""

    def begin(what: str) -> Callable[[int, int | None], None]:
        task = bar.add_task(what, total=None)

        def tell(done: int, total: int | None) -> None:
            bar.update(task, completed=done, total=total)

        return tell

    return begin


def _reference(
    options: Options, extractors: Sequence[Extractor], tell: Callable[[str], Any]
) -> FeatureSet:
    from ..evaluation.sets import load_features

    if options.reference.lower().endswith(FEATURES):
        return load_features(
            Path(options.reference).expanduser(),
            extractors,
            count=options.count,
            size=options.size,
            channels=options.channels,
        )
    return _collected(options.reference, options.count, options, extractors, tell("reference"))


def _collected(
    source: str, count: int | None, options: Options, extractors: Sequence[Extractor], tell: Any
) -> FeatureSet:
    from ..evaluation.sets import collect

    return collect(
        _source(source),
        extractors,
        count=count,
        size=options.size,
        channels=options.channels,
        split=options.split,
        batch_size=options.batch_size,
        on_progress=tell,
    )


def _of_samples(
    options: Options,
    extractors: Sequence[Extractor],
    reference: FeatureSet,
    tell: Callable[[str], Any],
) -> Evaluation:
    from ..evaluation.compare import compare_sets

    made = _collected(str(options.samples), options.wanted, options, extractors, tell("samples"))
    return compare_sets(made, reference, extractors, seed=options.seed, gallery=options.gallery)


def _paired(made: Evaluation, options: Options, tell: Callable[[str], Any]) -> Evaluation:
    from ..evaluation import lpips_distance
    from ..evaluation.paired import compare_pairs

    lost: tuple[dict[str, str], dict[str, str]] = ({}, {})
    pairs = compare_pairs(
        _source(options.samples or ""),
        _source(options.reference),
        channels=options.channels,
        split=options.split,
        lpips=lpips_distance() if options.lpips else None,
        skipped_samples=lost[0],
        skipped_reference=lost[1],
        on_progress=tell("pairs"),
    )
    return replace(made, paired=pairs, skipped_samples=lost[0], skipped_reference=lost[1])


def _of_model(
    options: Options,
    model: Model,
    extractors: Sequence[Extractor],
    reference: FeatureSet,
    settings: dict[str, Any],
) -> Iterator[Evaluation]:
    from ..evaluation.curves import quality_curve, training_curve
    from ..models.computed import computed_by

    settings = settings | {
        "count": len(reference) if options.wanted is None else options.wanted,
        "seed": options.seed,
        "gallery": options.gallery,
    }
    if options.run is None:
        told = computed_by(model, options.precision, with_device=True)
        yield from quality_curve(model, reference, extractors, told=told, **settings)
        return
    run = Path(options.run).expanduser()
    device, precision = options.device, options.precision
    yield from training_curve(
        run, reference, extractors, device=device, precision=precision, **settings
    )


def _source(text: str) -> str:
    return text if text.startswith("hub:") else str(Path(text).expanduser())


def sentence(result: Evaluation) -> str:
    """What is told of a result, a line for each extractor."""
    head = _point(result.settings)
    lines = [_line(found, head) for found in result.figures]
    if (pairs := result.paired) is not None:
        from ..evaluation.charts import number

        seen = "" if pairs.lpips is None else f", LPIPS {number(pairs.lpips)}"
        lines.append(
            f"mean of {len(pairs.pairs)} pairs: PSNR {number(pairs.psnr)} dB, "
            f"SSIM {number(pairs.ssim)}{seen}"
        )
    return "\n".join(lines)


_POINT = {"training_step": "training step", "solver": "solver", "steps": "steps"}


def _line(found: Figures, head: str) -> str:
    from ..evaluation.charts import number

    frechet, kernel = found.names
    text = (
        f"{frechet} {number(found.frechet)}, {kernel} {number(found.kernel)} "
        f"± {number(found.kernel_error)}"
    )
    for name in ("precision", "recall", "density", "coverage"):
        value = getattr(found, name)
        text += "" if value is None else f", {name} {number(value)}"
    protocol = found.protocol
    head = f"{head}, " if head else ""
    return (
        f"{head}{protocol.extractor}: {text} "
        f"({protocol.samples} samples, {protocol.reference} of the reference)"
    )


def note_skipped(result: Evaluation, say: Reporter) -> None:
    """Tell of files that could not be read."""
    for source, skipped in (
        (result.samples, result.skipped_samples),
        (result.reference, result.skipped_reference),
    ):
        if skipped:
            name, why = next(iter(skipped.items()))
            say.note(f"left out of '{source}': {len(skipped)}, the first is '{name}' ({why}).")


def compare_with(
    results: Sequence[Evaluation], other: Sequence[Evaluation], path: str, say: Reporter
) -> None:
    """Tell each figure beside the other's of the same point.

    Raises:
        InputError: no such point there, or figures that do not compare.
    """
    from ..evaluation.charts import number
    from ..evaluation.compare import against, paired_against

    for result in results:
        found = _partner(result.settings, len(results), other, path)
        for mine, theirs in against(result, found):
            record = {"compared": path, "extractor": mine.protocol.extractor, **result.settings}
            record |= {"frechet": mine.frechet, "frechet_there": theirs.frechet}
            record |= {"kernel": mine.kernel, "kernel_there": theirs.kernel}
            say.record(
                record,
                f"{mine.protocol.extractor}: {mine.names[0]} {number(mine.frechet)} against "
                f"{number(theirs.frechet)} in {path}",
            )
        if (pairs := paired_against(result, found)) is not None:
            here, there = (each.as_dict()["means"] for each in pairs)
            record = {"compared": path, "pairs": len(pairs[0].pairs), **here}
            record |= {f"{name}_there": mean for name, mean in there.items()}
            both = {name: [getattr(each, name) for each in pairs] for name in here}
            told = [
                f"{name.upper()} {number(one)} against {number(two)}"
                for name, (one, two) in both.items()
                if one is not None
            ]
            say.record(record, f"mean of {len(pairs[0].pairs)} pairs: {', '.join(told)} in {path}")


def _partner(
    told: dict[str, Any], results: int, other: Sequence[Evaluation], path: str
) -> Evaluation:
    """The other result of the same point, or the only one beside an only one."""
    points = {_point(each.settings): each for each in other}
    found = other[0] if results == len(other) == 1 else points.get(_point(told))
    if found is None:
        what = _point(told) or "samples that were not drawn for it"
        raise InputError(f"'{path}' holds no result of {what}: evaluate that as well.")
    return found


def _point(told: dict[str, Any]) -> str:
    return ", ".join(f"{word} {told[key]}" for key, word in _POINT.items() if key in told)
