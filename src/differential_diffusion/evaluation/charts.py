"""Line charts as SVG, for pages that hold all that they show."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from ..errors import InputError

__all__ = ["COLOURS", "Series", "line_chart", "number"]

COLOURS = 6
"""Colours that a page must define, as --line-1 to --line-6."""

_WIDTH, _HEIGHT = 560, 320
_LEFT, _RIGHT, _TOP, _BOTTOM = 64, 16, 16, 48


@dataclass(frozen=True)
class Series:
    """A line: its name, and its points in the order of x."""

    name: str
    points: tuple[tuple[float, float], ...]


def line_chart(
    series: Sequence[Series],
    *,
    x: str,
    y: str,
    ticks: Sequence[float] | None = None,
    logarithmic: bool = False,
) -> str:
    """Lines with a mark at each point, a legend above them, and figures on pointing at a mark.

    Points that are not finite are left out.

    Args:
        series: the lines.
        x, y: what stands at the axes.
        ticks: marks of the horizontal axis; by default round numbers.
        logarithmic: the horizontal axis, whose values are then above 0.

    Raises:
        InputError: no finite point, or none above 0 on a logarithmic axis.
    """
    kept = [
        Series(each.name, tuple(p for p in each.points if all(map(math.isfinite, p))))
        for each in series
    ]
    xs = [px for each in kept for px, _ in each.points]
    ys = [py for each in kept for _, py in each.points]
    if not xs or (logarithmic and min(xs) <= 0):
        raise InputError("there is nothing to draw: give finite points, above 0 where logarithmic")
    y_ticks = round_ticks(min(ys), max(ys))
    x_ticks = list(ticks) if ticks is not None else round_ticks(min(xs), max(xs))
    across = _Scale(
        min(xs + x_ticks), max(xs + x_ticks), _LEFT + 14, _WIDTH - _RIGHT - 14, logarithmic
    )
    up = _Scale(min(ys + y_ticks), max(ys + y_ticks), _HEIGHT - _BOTTOM, _TOP)
    parts = [_axes(across, up, x_ticks, y_ticks, x, y)]
    parts += [_line(each, index, across, up) for index, each in enumerate(kept) if each.points]
    drawn = "\n".join(parts)
    return (
        f'<figure class="chart">{_legend(kept)}\n'
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" '
        f'aria-label="{escape(y)} against {escape(x)}">\n{drawn}\n</svg></figure>'
    )


def number(value: float | None) -> str:
    """A figure with four digits, as few as it takes."""
    if value is None:
        return "–"
    if math.isinf(value):
        return "∞" if value > 0 else "-∞"
    if value == 0 or 1e-3 <= abs(value) < 1e5:
        text = f"{value:.{max(0, 3 - math.floor(math.log10(abs(value)))) if value else 0}f}"
        return text.rstrip("0").rstrip(".") if "." in text else text
    return f"{value:.2e}"


def round_ticks(low: float, high: float, count: int = 5) -> list[float]:
    """Round numbers from at most `low` to at least `high`, about `count` of them."""
    if low == high:
        low, high = (low - abs(low) / 2, high + abs(high) / 2) if low else (0.0, 1.0)
    raw = (high - low) / count
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(k * power for k in (1, 2, 2.5, 5, 10) if k * power >= raw * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [k * step for k in range(first, last + 1)]


@dataclass(frozen=True)
class _Scale:
    """From values to positions."""

    low: float
    high: float
    start: float
    end: float
    logarithmic: bool = False

    def __call__(self, value: float) -> float:
        low, high = self.low, self.high
        if self.logarithmic:
            low, high, value = math.log(low), math.log(high), math.log(value)
        share = (value - low) / (high - low) if high > low else 0.5
        return round(self.start + share * (self.end - self.start), 2)


def _axes(
    across: _Scale, up: _Scale, x_ticks: Sequence[float], y_ticks: Sequence[float], x: str, y: str
) -> str:
    bottom, right = _HEIGHT - _BOTTOM, _WIDTH - _RIGHT
    rows = [
        f'<path class="grid" d="M{_LEFT} {up(tick)}H{right}"/>'
        f'<text x="{_LEFT - 8}" y="{up(tick) + 4}" text-anchor="end">{number(tick)}</text>'
        for tick in y_ticks
    ]
    rows += [
        f'<path class="tick" d="M{across(tick)} {bottom}v5"/>'
        f'<text x="{across(tick)}" y="{bottom + 19}" text-anchor="middle">{number(tick)}</text>'
        for tick in x_ticks
    ]
    middle = (_TOP + bottom) / 2
    rows.append(f'<path class="axis" d="M{_LEFT} {bottom}H{right}"/>')
    rows.append(
        f'<text class="label" x="{(_LEFT + right) / 2}" y="{_HEIGHT - 8}" '
        f'text-anchor="middle">{escape(x)}</text>'
    )
    rows.append(
        f'<text class="label" x="14" y="{middle}" text-anchor="middle" '
        f'transform="rotate(-90 14 {middle})">{escape(y)}</text>'
    )
    return "\n".join(rows)


def _line(series: Series, index: int, across: _Scale, up: _Scale) -> str:
    places = [(across(px), up(py), px, py) for px, py in series.points]
    path = "L".join(f"{px} {py}" for px, py, *_ in places)
    marks = "".join(
        f'<circle cx="{px}" cy="{py}" r="4"><title>{escape(series.name)}: {number(vx)}, '
        f"{number(vy)}</title></circle>"
        for px, py, vx, vy in places
    )
    dashes = ' stroke-dasharray="6 4"' if index >= COLOURS else ""
    return f'<g class="line-{index % COLOURS + 1}"><path d="M{path}"{dashes}/>{marks}</g>'


def _legend(series: Sequence[Series]) -> str:
    if len(series) < 2:
        return ""
    keys = "".join(
        f'<li><span class="key line-{index % COLOURS + 1}"></span>{escape(each.name)}</li>'
        for index, each in enumerate(series)
    )
    return f'<ul class="legend">{keys}</ul>'
