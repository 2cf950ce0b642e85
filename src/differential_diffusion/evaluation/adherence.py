"""Does an edit follow its map? CAM and DAM of Levin and Fried (2023), and pictures of them.

    EM = mean over pairs of change(input, output) - bias
    CAM = correlation of strength with EM,    DAM = min over a, b of ‖strength - a EM - b‖

One pair says how one edit went, and is led by what is in the picture: where there is nothing to
see, nothing can change. The mean over many pictures edited with one map takes that out.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ..core import cam, dam, spatial_change
from ..errors import InputError
from .perceptual import lpips_change

__all__ = [
    "MEASURES",
    "Adherence",
    "AdherenceReport",
    "AdherenceTally",
    "Measure",
    "heat_maps",
    "mean_change",
    "report",
]

Measure = Callable[[Tensor, Tensor], Tensor]
"""How much each pixel changed: two pictures (B,C,H,W) in [-1,1] to (B,1,H,W), 0 where equal."""

MEASURES: dict[str, Callable[[], Measure]] = {
    "local": lambda: spatial_change,
    "lpips": lpips_change,
}
"""Measures of change by name, each made by a call."""

_GAP = 8


@dataclass(frozen=True)
class Adherence:
    """How well a change follows a map.

    Attributes:
        cam: correlation of strength and change, in [-1,1]; NaN where either is constant.
        dam: what the change, scaled and shifted at its best, leaves of the strength: a Frobenius
            norm, which grows with the picture.
        dam_rms: the same as a root mean square over pixels, in strength, from 0 to 0.5.
        change: mean of the change over pixels, by the measure's own scale.
    """

    cam: float
    dam: float
    dam_rms: float
    change: float

    def as_dict(self) -> dict[str, float | None]:
        """The figures by name, for JSON: None for one that is not defined."""
        figures = {name: getattr(self, name) for name in ("cam", "dam", "dam_rms", "change")}
        return {name: value if math.isfinite(value) else None for name, value in figures.items()}


@dataclass(frozen=True)
class AdherenceReport:
    """Adherence of one or many edits with one map.

    Attributes:
        overall: of the mean change, less the bias if one was given.
        rows: of each pair by itself, in order.
        strength: the map, (1,1,H,W).
        change: the mean change, (1,1,H,W), less the bias.
    """

    overall: Adherence
    rows: tuple[Adherence, ...]
    strength: Tensor = field(repr=False, compare=False)
    change: Tensor = field(repr=False, compare=False)

    @property
    def cam(self) -> float:
        """CAM of the mean change."""
        return self.overall.cam

    @property
    def dam(self) -> float:
        """DAM of the mean change."""
        return self.overall.dam

    def as_dict(self) -> dict[str, Any]:
        """The figures alone: overall, and a list of `pairs`."""
        return {**self.overall.as_dict(), "pairs": [row.as_dict() for row in self.rows]}

    def to_json(self) -> str:
        """`as_dict` as JSON, figures that are not defined as null."""
        return json.dumps(self.as_dict(), indent=2, allow_nan=False)

    def picture(self) -> Image.Image:
        """The map and beside it the mean change, as heat-maps; see `heat_maps`."""
        left, right = heat_maps(self.strength, self.change)
        gap = np.zeros((left.shape[0], _GAP, 3), np.uint8)
        return Image.fromarray(np.concatenate([left, gap, right], axis=1))


class AdherenceTally:
    """Adds up edits with one map, a few at a time, so that any number fits into memory.

    Args:
        strength: the map, (1,1,H,W) in [0,1].
        bias: (1,1,H,W), taken off the mean change: how much each place changes where everything
            may, such as `mean_change` of outputs made with strength 1. It serves to take out
            what a place has to do with change, as borders do. From a few pairs it holds those
            pictures' content, and does more harm than good.
        measure: of change; `spatial_change` by default.

    Raises:
        InputError: a map or bias of another shape, or values that are not finite.
    """

    def __init__(
        self, strength: Tensor, *, bias: Tensor | None = None, measure: Measure = spatial_change
    ) -> None:
        for name, value in (("strength", strength), ("bias", bias)):
            if value is None:
                continue
            if value.ndim != 4 or value.shape != (1, 1, *strength.shape[-2:]):
                raise InputError(
                    f"{name} must have the shape (1,1,H,W) of one map, not {tuple(value.shape)}."
                )
            _check_finite(name, value)
        self._strength, self._bias, self._measure = strength, bias, measure
        self._rows: list[Adherence] = []
        self._sum = torch.zeros_like(strength)

    def add(self, before: Tensor, after: Tensor) -> Tensor:
        """Take in inputs and outputs, (B,C,H,W) in [-1,1]; their changes, (B,1,H,W).

        Raises:
            InputError: pictures of other sizes than each other or the map, or not finite.
        """
        if before.shape[-2:] != self._strength.shape[-2:]:
            raise InputError(
                f"the pictures have {_size(before)} pixels and the map {_size(self._strength)}: "
                "give those that were edited with it."
            )
        for name, value in (("input", before), ("output", after)):
            _check_finite(name, value)
        changes = self._measure(before, after)
        self._rows += _rows(self._strength, changes)
        self._sum = self._sum + changes.sum(0, keepdim=True)
        return changes

    def report(self) -> AdherenceReport:
        """What has been added up.

        Raises:
            InputError: nothing has.
        """
        if not self._rows:
            raise InputError("there is no edit to report on: add an input and its output.")
        mean = self._sum / len(self._rows)
        change = mean if self._bias is None else mean - self._bias
        (overall,) = _rows(self._strength, change, mean)
        return AdherenceReport(overall, tuple(self._rows), self._strength, change)


def report(
    before: Tensor,
    after: Tensor,
    strength: Tensor,
    *,
    bias: Tensor | None = None,
    measure: Measure = spatial_change,
) -> AdherenceReport:
    """How well edits followed their map: each, and the mean of all.

    Args:
        before: inputs, (B,C,H,W) in [-1,1].
        after: outputs, in the same order.
        strength: the one map that all were edited with, (1,1,H,W) in [0,1].
        bias, measure: as for `AdherenceTally`.

    Raises:
        InputError: shapes that do not go together, or values that are not finite.
    """
    tally = AdherenceTally(strength, bias=bias, measure=measure)
    tally.add(before, after)
    return tally.report()


def mean_change(
    pairs: Iterable[tuple[Tensor, Tensor]], *, measure: Measure = spatial_change
) -> Tensor:
    """The mean change over pairs of inputs and outputs, each (B,C,H,W): (1,1,H,W).

    Of outputs that were made with strength 1 everywhere, it is a `bias`.

    Raises:
        InputError: no pairs, or pictures of different sizes.
    """
    total, count = None, 0
    for before, after in pairs:
        changes = measure(before, after)
        if total is not None and changes.shape[-2:] != total.shape[-2:]:
            raise InputError(
                f"the pictures have {_size(total)} and {_size(changes)} pixels: "
                "give pictures of one size."
            )
        summed = changes.sum(0, keepdim=True)
        total, count = summed if total is None else total + summed, count + len(changes)
    if total is None:
        raise InputError("there are no pairs to take the mean of: give an input and its output.")
    return total / count


def heat_maps(
    strength: Tensor, change: Tensor
) -> tuple[np.ndarray[Any, np.dtype[np.uint8]], np.ndarray[Any, np.dtype[np.uint8]]]:
    """A map and a change, each (1,1,H,W), as colours from black over red to pale yellow.

    The map's full range is 0 to 1; the change's is 0 to its largest value.

    Returns: two arrays (H,W,3) uint8.
    """
    peak = float(change.max())
    shown = change / peak if peak > 0 else torch.zeros_like(change)
    return _colours(strength), _colours(shown)


def _colours(values: Tensor) -> np.ndarray[Any, np.dtype[np.uint8]]:
    index = (values[0, 0].clamp(0, 1) * 255).round().to(torch.uint8).cpu().numpy()
    return np.ascontiguousarray(cv2.applyColorMap(index, cv2.COLORMAP_INFERNO)[..., ::-1])


def _rows(strength: Tensor, change: Tensor, shown: Tensor | None = None) -> list[Adherence]:
    """Each change's figures; the means are those of `shown`, by default the changes."""
    means = (change if shown is None else shown).mean((1, 2, 3))
    cams, dams = cam(strength, change), dam(strength, change)
    pixels = math.sqrt(strength[0].numel())
    return [
        Adherence(float(c), float(d), float(d) / pixels, float(mean))
        for c, d, mean in zip(cams, dams, means, strict=True)
    ]


def _check_finite(name: str, value: Tensor) -> None:
    if not bool(value.isfinite().all()):
        raise InputError(f"the {name} holds NaN or infinity: fix it.")


def _size(pictures: Tensor) -> str:
    return f"{pictures.shape[-1]}x{pictures.shape[-2]}"
