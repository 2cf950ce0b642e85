"""How time follows the edited area: the engine's regions against the full frame.

Both runs are of the same request, by the same sampler, in the same process, one after the
other; the full-frame run takes the picture in one piece.
"""

from __future__ import annotations

import argparse
import statistics
from functools import partial
from itertools import product
from typing import NamedTuple

import cv2
import numpy as np
import torch
from rich.progress import track
from torch import Tensor

from differential_diffusion.core import Plan, PositionalNoise
from differential_diffusion.engine import run_plan
from differential_diffusion.models import DenoiserModel

from . import common

SIDES = {1: 1024, 4: 2048}
AREAS = (0.5, 1, 2, 5, 10, 25, 100)
REPEATS, REPEATED_UP_TO = 3, 10

STEPS = 2

ABOUT = (
    "An edit of strength 1 in one square, {steps} steps. Seconds with regions (median of "
    f"{REPEATS} runs up to {REPEATED_UP_TO} %) and over the full frame (median of all runs of this "
    "size, which all do the same work), their ratio, and the largest difference of any value, on "
    "pictures in [-1, 1]. A region costs its halo of {halo} pixels on each side too."
)
HEADER = ["picture and edited area", "region", "full frame", "times faster", "difference"]


def box(side: int, percent: float) -> Tensor:
    """Strength (1,1,side,side): 1 in one square of so many percent of the area, else 0."""
    strength = torch.zeros(1, 1, side, side)
    inner = round(side * (percent / 100) ** 0.5)
    first = (side - inner) * 2 // 5
    strength[..., first : first + inner, first : first + inner] = 1
    return strength


def full_frame(plan: Plan, model: DenoiserModel) -> Tensor:
    """The plan with the network run on the whole picture at every step."""
    height, width = plan.image.shape[-2:]
    return model.run(plan, PositionalNoise(plan.seeds, model.channels, height, width))


def run(options: argparse.Namespace) -> None:
    """Measure, then write the report."""
    model = common.load(options)
    photo = common.photographs(options)[0].pixels
    common.denoiser_of(model)(common.centre(photo, 64, 64), 5)  # the first call loads things
    measured, whole = [], {megapixels: [] for megapixels in options.megapixels}
    for megapixels, percent in track(list(product(options.megapixels, AREAS)), "regions"):
        side = SIDES[megapixels]
        picture = cv2.resize(photo, (side, side), interpolation=cv2.INTER_CUBIC)
        plan = Plan(
            common.to_tensor(np.clip(picture, 0, 1)), box(side, percent), steps=options.steps
        )
        repeats = REPEATS if percent <= REPEATED_UP_TO else 1
        runs = [common.timed(partial(run_plan, plan, model)) for _ in range(repeats)]
        full, full_seconds = common.timed(partial(full_frame, plan, model))
        seconds = statistics.median(taken for _, taken in runs)
        difference = float((runs[0][0] - full).abs().max())
        whole[megapixels].append(full_seconds)
        measured.append((megapixels, percent, seconds, difference))
    rows = [
        Row(size, percent, seconds, statistics.median(whole[size]), difference)
        for size, percent, seconds, difference in measured
    ]
    draw(options, rows)
    report(options, model, rows)


class Row(NamedTuple):
    """One area of one size."""

    megapixels: int
    percent: float
    seconds: float
    full_seconds: float
    difference: float


def report(options: argparse.Namespace, model: DenoiserModel, measured: list[Row]) -> None:
    """Write the table."""
    rows = [
        [
            f"{row.megapixels} MP, {row.percent:g} %",
            f"{row.seconds:.2f}",
            f"{row.full_seconds:.2f}",
            f"{row.full_seconds / row.seconds:.1f}",
            f"{row.difference:.1e}",
        ]
        for row in measured
    ]
    parts = [
        ABOUT.format(steps=options.steps, halo=model.halo),
        common.table(HEADER, rows),
    ]
    extra = [f"--steps {options.steps}"] if options.steps != STEPS else []
    if options.megapixels != list(SIDES):
        extra.append(f"--megapixels {' '.join(map(str, options.megapixels))}")
    common.write_report(
        options,
        "regions",
        "Time against edited area",
        parts,
        model=model,
        extra=extra,
        alt="time against edited area, with regions and over the full frame",
    )


def draw(options: argparse.Namespace, measured: list[Row]) -> None:
    """Plot time against area."""
    import matplotlib.pyplot as plt

    figure, axis = plt.subplots(figsize=(6, 3.6), layout="constrained")
    for megapixels, colour in zip(options.megapixels, ("tab:blue", "tab:orange"), strict=False):
        mine = [row for row in measured if row.megapixels == megapixels]
        area, label = [row.percent for row in mine], f"{megapixels} MP"
        region, whole = [row.seconds for row in mine], [row.full_seconds for row in mine]
        axis.loglog(area, region, "o-", color=colour, label=f"{label}, region")
        axis.loglog(area, whole, "--", color=colour, label=f"{label}, full frame")
    axis.set_xticks(AREAS, [f"{area:g} %" for area in AREAS])
    axis.minorticks_off()
    axis.yaxis.set_major_formatter("{x:g}")
    axis.set(xlabel="edited area", ylabel=f"seconds, {options.steps} steps")
    axis.grid(alpha=0.3)
    axis.legend(fontsize=8)
    common.save_figure(options.output / "regions.png", figure)


def main(argv: list[str] | None = None) -> None:
    """Read the options and run."""
    parser = common.parser(__doc__)
    parser.add_argument("--steps", type=int, default=STEPS, help="of the sampler")
    parser.add_argument(
        "--megapixels", type=int, nargs="+", choices=SIDES, default=list(SIDES), help="sizes"
    )
    run(parser.parse_args(argv))


if __name__ == "__main__":
    main()
