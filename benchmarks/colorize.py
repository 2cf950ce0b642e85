"""Colours of CBSD68 from those of a few pixels, beside the nearest hint and the prior's own try.

Grey pictures are the luminance of the photographs in 8 bits; hints are the true colours of pixels
drawn at random.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from itertools import product

import numpy as np
import torch
from rich.progress import track
from scipy.spatial import cKDTree
from skimage.color import deltaE_ciede2000, rgb2lab

import differential_diffusion as dd
from differential_diffusion.core.operators import grey
from differential_diffusion.models import DenoiserModel

from . import common, measured
from .common import Array, Photo, Score, Scores
from .measured import Bytes

SHARES = (0.1, 1.0)
"""Percent of the pixels that are hints."""
GREY, NEAREST = "grey", "the nearest hint's chroma"
OURS, PRIOR = "colorize", "then 8 passes of the prior"

FIRST_8BIT, LAST_8BIT = 10.0, 1.0
SHOWN = 14  # a tiger
LUMA = np.float32([0.299, 0.587, 0.114])
ABOUT = (
    "ΔE is CIEDE2000, the mean over pixels: 1 is about what the eye can tell apart. The prior's "
    "passes are half-quadratic splitting from σ = 10 to 1 of 255, held to the luminance and the "
    "hints in each: they change the PSNR by little and take faint colours for noise, so that ΔE "
    "rises, and `colorize` leaves them out."
)


@dataclass(frozen=True)
class Coloured(Score):
    """A score with the mean difference of colours, CIEDE2000."""

    difference: float = float("nan")


def hinted(photo: Photo, percent: float) -> tuple[Bytes, Bytes]:
    """The grey picture, and its hints with alpha."""
    mask = common.random(photo.index, round(10 * percent)).random(photo.size) < percent / 100
    colours = measured.levels(photo.pixels)
    return measured.levels(photo.pixels @ LUMA), np.dstack([colours, 255 * mask.astype(np.uint8)])


def of_grey(levels: Bytes, hints: Bytes) -> Bytes:
    """Three equal channels."""
    return np.repeat(levels[..., None], 3, 2)


def of_nearest(levels: Bytes, hints: Bytes) -> Bytes:
    """Each pixel's lightness with the chroma of the hint that is nearest."""
    known = hints[..., 3] > 0
    chroma = (hints[..., :3] - (hints[..., :3] @ LUMA)[..., None])[known]
    _, nearest = cKDTree(np.argwhere(known)).query(np.argwhere(np.ones_like(known)))
    return measured.levels((levels[..., None] + chroma[nearest].reshape(*known.shape, 3)) / 255)


def refined(model: DenoiserModel, made: Bytes, levels: Bytes, hints: Bytes) -> Bytes:
    """What the prior makes of colours, held to the luminance and the hints in each pass."""
    x = common.to_tensor(common.as_array(made / 255)).contiguous()
    y = torch.from_numpy(levels / 127.5 - 1).float()[None, None]
    free, start = torch.from_numpy(hints[None, None, ..., 3] == 0), x
    everywhere = torch.ones(1, 1, 1, 1)
    with torch.no_grad():
        for sigma in np.geomspace(FIRST_8BIT, LAST_8BIT, 8) / 127.5:
            z = model.denoiser(x, float(sigma) * free.float())
            x = torch.where(free, grey().prox(z, y, everywhere), start)
    return measured.levels(common.to_array(x))


def difference(made: Bytes, truth: Array) -> float:
    """Mean CIEDE2000."""
    lab = (rgb2lab(picture) for picture in (made / 255, truth.astype(np.float64)))
    return float(deltaE_ciede2000(*lab).mean())


def run(options: argparse.Namespace) -> None:
    """Measure, then write the report."""
    model = common.load(options)

    def ours(levels: Bytes, hints: Bytes) -> Bytes:
        made: Bytes = dd.colorize(levels, hints, model=model).image
        return made

    def with_prior(levels: Bytes, hints: Bytes) -> Bytes:
        return refined(model, ours(levels, hints), levels, hints)

    methods: dict[str, Callable[[Bytes, Bytes], Bytes]] = {
        GREY: of_grey,
        NEAREST: of_nearest,
        OURS: ours,
        PRIOR: with_prior,
    }
    photos = common.photographs(options)
    shown, scores, cells = common.nearest(photos, SHOWN), Scores(), []
    for photo, percent in track(list(product(photos, SHARES)), "colorize"):
        levels, hints = hinted(photo, percent)
        row = []
        for name, method in methods.items():
            made, seconds = common.timed(method, levels, hints)
            quality = common.psnr(made / 255, photo.pixels)
            apart = difference(made, photo.pixels)
            scores.rows.append(
                Coloured(photo.index, f"{percent:g} %", name, quality, seconds, difference=apart)
            )
            caption = f"{name}, {percent:g} %\n{quality:.2f} dB"
            row.append((caption, common.as_array(made / 255)))
        if photo is shown:
            row.append(("the truth", photo.pixels))
            cells.append([(caption, common.centre(picture, 180, 180)) for caption, picture in row])
    common.save_grid(options.output / "colorize.png", cells)
    report(options, model, scores, list(methods))


def report(
    options: argparse.Namespace, model: DenoiserModel, scores: Scores, methods: list[str]
) -> None:
    """Write the table."""
    cases = [f"{percent:g} %" for percent in SHARES]
    rows = [
        [
            f"**{name}**" if name == OURS else name,
            *(
                f"{scores.mean('psnr', name, case):.2f} / "
                f"{scores.mean('difference', name, case):.2f}"
                for case in cases
            ),
            f"{scores.mean('seconds', name):.2f}",
        ]
        for name in methods
    ]
    parts = [
        "PSNR in dB / mean ΔE, by the share of pixels that are hints, and seconds a picture:",
        common.table(["method", *cases, "seconds"], rows),
        ABOUT,
    ]
    common.write_report(
        options,
        "colorize",
        "Colours from hints",
        parts,
        model=model,
        alt="a grey crop, as each method colours it, and the truth",
    )


def main(argv: list[str] | None = None) -> None:
    """Read the options and run."""
    run(common.parser(__doc__).parse_args(argv))


if __name__ == "__main__":
    main()
