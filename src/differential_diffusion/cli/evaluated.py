"""What evaluate was asked for, how it is done, and what is told of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import InputError
from .common import Reporter

if TYPE_CHECKING:
    from ..evaluation.compare import Evaluation, Figures
    from ..evaluation.extractors import Extractor
    from ..evaluation.sets import FeatureSet

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
    size: int | None
    channels: int
    split: str
    seed: int
    device: str | None
    steps: list[int]
    solvers: list[str]
    label: list[str] | None
    guidance: float
    batch_size: int
    gallery: bool


def evaluated(options: Options, save_reference: Path | None, say: Reporter) -> Iterator[Evaluation]:
    """Do what was asked for, result by result.

    Raises:
        InputError: for sets, models or settings that do not work.
    """
    from ..evaluation.compare import Evaluation
    from ..evaluation.extractors import load_extractor

    extractors = [load_extractor(name, options.device) for name in options.extractors]
    with say.progress() as bar:
        tell = _teller(bar)
        if not extractors:
            made = Evaluation(options.samples or "", options.reference)
            yield _paired(made, options, tell)
            return
        reference = _reference(options, extractors, tell)
        if save_reference is not None:
            from ..evaluation.sets import save_features

            save_features(reference, save_reference)
            say.note(f"features of the reference -> {save_reference}")
        if options.samples is not None:
            made = _of_samples(options, extractors, reference, tell)
            yield _paired(made, options, tell) if options.paired else made
        else:
            yield from _of_model(options, extractors, reference, tell)


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
    return _collected(options.reference, options, extractors, tell("reference"))


def _collected(
    source: str, options: Options, extractors: Sequence[Extractor], tell: Any
) -> FeatureSet:
    from ..evaluation.sets import collect

    return collect(
        _source(source),
        extractors,
        count=options.count,
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

    made = _collected(options.samples or "", options, extractors, tell("samples"))
    return compare_sets(made, reference, extractors, seed=options.seed, gallery=options.gallery)


def _paired(made: Evaluation, options: Options, tell: Callable[[str], Any]) -> Evaluation:
    from dataclasses import replace

    from ..evaluation import lpips_distance
    from ..evaluation.paired import compare_pairs

    if options.reference.lower().endswith(FEATURES):
        raise InputError(
            "--paired needs pictures, and the reference is a file of features: name its folder."
        )
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
    extractors: Sequence[Extractor],
    reference: FeatureSet,
    tell: Callable[[str], Any],
) -> Iterator[Evaluation]:
    from ..evaluation.curves import quality_curve, training_curve
    from ..models import load_model

    settings: dict[str, Any] = {
        "count": len(reference) if options.count is None else options.count,
        "seed": options.seed,
        "gallery": options.gallery,
        "on_point": tell,
        "batch_size": options.batch_size,
        "guidance_scale": options.guidance,
        "labels": options.label,
        "steps": options.steps,
        "solvers": options.solvers,
    }
    if options.model is not None:
        model = load_model(options.model, device=options.device)
        yield from quality_curve(model, reference, extractors, **settings)
        return
    run = Path(options.run or "").expanduser()
    yield from training_curve(run, reference, extractors, device=options.device, **settings)


def _source(text: str) -> str:
    return text if text.startswith("hub:") else str(Path(text).expanduser())


def sentence(result: Evaluation) -> str:
    """What is told of a result, a line for each extractor."""
    told = result.settings
    where = [f"{word} {told[key]}" for key, word in _POINT.items() if key in told]
    head = ", ".join(where)
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
    results: list[Evaluation], other: list[Evaluation], path: str, say: Reporter
) -> None:
    """Tell each figure beside the other's of the same point.

    Raises:
        InputError: no such point there, or figures that do not compare.
    """
    from ..evaluation.charts import number
    from ..evaluation.compare import against, paired_against

    points = {_point(each): each for each in other}
    for result in results:
        found = other[0] if len(results) == len(other) == 1 else points.get(_point(result))
        if found is None:
            what = _point(result) or "samples that were not drawn for it"
            raise InputError(f"'{path}' holds no result of {what}: evaluate that as well.")
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


def _point(result: Evaluation) -> str:
    told = result.settings
    return ", ".join(f"{word} {told[key]}" for key, word in _POINT.items() if key in told)
