"""Results as a page that holds all that it shows: no scripts, nothing fetched."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Sequence
from html import escape
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ..data.crops import unit
from ..data.images import NamedImage
from .charts import Series, line_chart, number
from .compare import Evaluation, Figures
from .style import STYLE

__all__ = ["report_page"]

_TILE, _GAP = 96, 4
_LISTED = 20  # files that could not be read, of each set
_WORST = 10  # pairs that are listed
_STORED = "The reference came as a file of features, which holds no pictures."


def report_page(
    results: Sequence[Evaluation],
    *,
    title: str = "Evaluation",
    metrics: Sequence[dict[str, float]] = (),
) -> str:
    """The page as HTML.

    It shows the protocols, a table of the figures, curves where there are several results, some
    samples beside some of the reference, neighbours by the features, and files that could not be
    read.

    Args:
        results: at least one; with several, the pictures are of the last.
        title: its heading.
        metrics: figures of a training run's validations, each with its step.
    """
    last = results[-1]
    sections = [
        _section("Figures", _tables(results)),
        _section("Curves", _curves(results) + _training(metrics)),
        _section("Pairs", _pairs(last)),
        _section("Samples and reference", _grids(last)),
        _section("Nearest in the reference", _nearest(last)),
        _section("How the figures were made", _protocols(results)),
        _section("Files left out", _skipped(last)),
    ]
    counts = {f.protocol.reference for f in last.figures}
    said = f" ({', '.join(map(str, sorted(counts)))} pictures)" if counts else ""
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="light dark">'
        f"<title>{escape(title)}</title>\n<style>{STYLE}</style></head>\n<body><main>"
        f"<h1>{escape(title)}</h1>"
        f'<p class="lead">{escape(_what(results))} against {escape(last.reference)}{said}.</p>\n'
        + "\n".join(sections)
        + "\n</main></body></html>\n"
    )


def _what(results: Sequence[Evaluation]) -> str:
    if len(results) == 1:
        return results[0].samples
    last = results[-1].settings
    whose = last.get("run") or last.get("model") or results[-1].samples
    return f"{len(results)} settings or checkpoints of {whose}"


def _section(heading: str, body: str) -> str:
    return f"<section><h2>{heading}</h2>\n{body}</section>" if body else ""


def _table(head: Sequence[str], rows: Sequence[Sequence[str]], words: int = 1) -> str:
    """A table whose first `words` columns are words and the rest figures."""

    def cells(row: Sequence[str], tag: str) -> str:
        return "".join(
            f"<{tag}{'' if k < words else ' class=figure'}>{escape(cell)}</{tag}>"
            for k, cell in enumerate(row)
        )

    body = "".join(f"<tr>{cells(row, 'td')}</tr>" for row in rows)
    return (
        f'<div class="wide"><table><thead><tr>{cells(head, "th")}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )


def _tables(results: Sequence[Evaluation]) -> str:
    """One table for each extractor."""
    told = _told(results)
    tables = []
    for name in _extractors(results):
        rows = []
        for each in results:
            found = each.of(name)
            if found is not None:
                rows.append([_shown(each.settings.get(key, "")) for key in told] + _cells(found))
        first = next(f for each in results if (f := each.of(name)))
        head = [_heading(key) for key in told] + [
            first.names[0], first.names[1], "±", "precision", "recall", "density", "coverage",
        ]  # fmt: skip
        tables.append(f"<h3>{escape(name)}</h3>" + _table(head, rows, len(told)))
    notes = "<p>Distances are smaller for sets that are more alike, and 0 for equal ones; "
    notes += "precision, recall and coverage are 1 at best, density is 1 for equal sets.</p>"
    return "".join(tables) + (notes if tables else "")


def _cells(found: Figures) -> list[str]:
    values = (
        found.frechet, found.kernel, found.kernel_error, found.precision, found.recall,
        found.density, found.coverage,
    )  # fmt: skip
    return [number(value) for value in values]


def _told(results: Sequence[Evaluation]) -> list[str]:
    """Settings in which the results differ."""
    keys = ["training_step", "training_seconds", "solver", "steps", "seconds"]
    return [
        key for key in keys if len(results) > 1 and any(key in each.settings for each in results)
    ]


def _heading(key: str) -> str:
    return "seconds to draw" if key == "seconds" else key.replace("_", " ")


def _extractors(results: Sequence[Evaluation]) -> list[str]:
    return list(dict.fromkeys(f.protocol.extractor for each in results for f in each.figures))


def _curves(results: Sequence[Evaluation]) -> str:
    """Distances against steps, a line for each solver, or against the steps of the training."""
    if len(results) < 2:
        return ""
    training = len({each.settings.get("training_step") for each in results}) > 1
    key = "training_step" if training else "steps"
    charts = []
    for name in _extractors(results):
        for label, value in _MEASURES.items():
            lines: dict[str, list[tuple[float, float]]] = {}
            called = label
            for each in results:
                found, where = each.of(name), each.settings.get(key)
                if found is None or where is None:
                    continue
                if label == "Fréchet distance":
                    called = found.names[0]
                height = value(found)
                if height is not None:
                    lines.setdefault(_line_of(each, training), []).append((where, height))
            series = [Series(line, tuple(sorted(points))) for line, points in lines.items()]
            if series:
                ticks = None if training else sorted({x for s in series for x, _ in s.points})
                charts.append(
                    f"<h3>{escape(called)}, {escape(name)}</h3>"
                    + line_chart(
                        series, x=_heading(key), y=called, ticks=ticks, logarithmic=not training
                    )
                )
    return _columns(charts)


def _line_of(result: Evaluation, training: bool) -> str:
    solver = str(result.settings.get("solver"))
    return f"{solver}, {result.settings.get('steps')} steps" if training else solver


_MEASURES: dict[str, Callable[[Figures], float | None]] = {
    "Fréchet distance": lambda found: found.frechet,
    "recall": lambda found: found.recall,
}


def _training(metrics: Sequence[dict[str, float]]) -> str:
    """What the run itself noted."""
    names = dict.fromkeys(name for record in metrics for name in record)
    losses = [name for name in names if name.startswith("loss")]
    others = [name for name in names if name.startswith("psnr")]
    charts = []
    for heading, label, chosen in (
        ("Loss of the training", "loss", losses),
        ("One-step denoising of held-out pictures", "PSNR in dB", others),
    ):
        series = [
            Series(name, tuple((r["step"], r[name]) for r in metrics if name in r and "step" in r))
            for name in chosen
        ]
        series = [each for each in series if len(each.points) > 1]
        if series:
            chart = line_chart(series, x="training step", y=label)
            charts.append(f"<h3>{heading}</h3>{chart}")
    return _columns(charts)


def _columns(parts: Sequence[str]) -> str:
    cells = "".join(f"<div>{part}</div>" for part in parts)
    return f'<div class="columns">{cells}</div>' if parts else ""


def _pairs(result: Evaluation) -> str:
    paired = result.paired
    if paired is None:
        return ""
    means = [["mean", number(paired.psnr), number(paired.ssim), number(paired.lpips)]]
    worst = sorted(paired.pairs, key=lambda pair: pair.psnr)[:_WORST]
    rows = [[p.name, number(p.psnr), number(p.ssim), number(p.lpips)] for p in worst]
    more = len(paired.pairs) - len(rows)
    note = f"The {len(rows)} with the least PSNR of {len(paired.pairs)}. " if more else ""
    if paired.unmatched:
        note += f"Reference pictures without a sample: {paired.unmatched}. "
    told = (f"{_heading(key)} {_shown(v)}" for key, v in paired.protocol.as_dict().items())
    note += f"Protocol: {', '.join(told)}."
    table = _table(["picture", "PSNR in dB", "SSIM", "LPIPS"], means + rows)
    return f"{table}<p>{escape(note)}</p>"


def _grids(result: Evaluation) -> str:
    shown = (("Samples", result.gallery.samples), ("Reference", result.gallery.reference))
    body = _columns(
        [f"<h3>{name}</h3>{_picture(grid(some), name)}" for name, some in shown if some]
    )
    missing = result.gallery.samples and not result.gallery.reference
    return body + (f"<p>{_STORED}</p>" if missing else "")


def _nearest(result: Evaluation) -> str:
    parts = []
    for name, pairs in result.gallery.nearest.items():
        if pairs:
            both = [one for one, _, _ in pairs] + [two for _, two, _ in pairs]
            nearest = min(distance for *_, distance in pairs)
            parts.append(
                f"<h3>{escape(name)}</h3>"
                + _picture(grid(both, len(pairs)), f"samples above their neighbours by {name}")
                + "<p>Samples above, and below each the reference picture whose features lie "
                f"nearest; the least distance is {number(nearest)}.</p>"
            )
    return _columns(parts)


def _protocols(results: Sequence[Evaluation]) -> str:
    """The protocols, one column for each extractor, and what all the samples were drawn with."""
    names = _extractors(results)
    held = [[f.protocol.as_dict() for each in results if (f := each.of(name))] for name in names]
    rows = []
    for key in held[0][0] if held else ():
        told = [list(dict.fromkeys(_shown(one[key]) for one in each)) for each in held]
        rows.append([_heading(key), *(", ".join(values) for values in told)])
    body = _table(rows[0], rows[1:], len(rows[0])) if rows else ""
    settings = {k: v for k, v in results[-1].settings.items() if k not in _told(results)}
    drawn = [[_heading(key), _shown(value)] for key, value in settings.items() if value is not None]
    return body + (_table(["samples", "drawn with"], drawn, 2) if drawn else "")


def _shown(value: Any) -> str:
    if isinstance(value, float):
        return number(value)
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def _skipped(result: Evaluation) -> str:
    parts = []
    for kind, skipped in (
        ("samples", result.skipped_samples),
        ("reference", result.skipped_reference),
    ):
        if skipped:
            rows = [list(entry) for entry in list(skipped.items())[:_LISTED]]
            table = _table([f"{len(skipped)} of the {kind}", "why"], rows, 2)
            parts.append(table)
    return "".join(parts)


def grid(pictures: Sequence[NamedImage], columns: int | None = None) -> NDArray[np.uint8]:
    """Middle squares of pictures side by side, (H,W,4) uint8, clear between them."""
    columns = columns or min(len(pictures), 8)
    rows = -(-len(pictures) // columns)
    step = _TILE + _GAP
    canvas = np.zeros((rows * step - _GAP, columns * step - _GAP, 4), np.uint8)
    for index, image in enumerate(pictures):
        top, left = index // columns * step, index % columns * step
        canvas[top : top + _TILE, left : left + _TILE, :3] = _tile(image.pixels)
        canvas[top : top + _TILE, left : left + _TILE, 3] = 255
    return canvas


def _tile(pixels: NDArray[Any]) -> NDArray[np.uint8]:
    """The middle square in colour; small ones keep their pixels."""
    height, width = pixels.shape[:2]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    middle = unit(pixels[top : top + side, left : left + side])
    middle = middle[..., :3] if middle.shape[2] >= 3 else middle[..., :1].repeat(3, axis=2)
    how = cv2.INTER_AREA if side > _TILE else cv2.INTER_NEAREST
    sized = cv2.resize(np.ascontiguousarray(middle), (_TILE, _TILE), interpolation=how)
    return np.asarray(np.rint(np.asarray(sized).clip(0, 1) * 255), np.uint8)


def _picture(pixels: NDArray[np.uint8], words: str) -> str:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG", optimize=True)
    data = base64.b64encode(file.getvalue()).decode()
    height, width = pixels.shape[:2]
    return (
        f'<img alt="{escape(words)}" width="{width}" height="{height}" '
        f'src="data:image/png;base64,{data}">'
    )
