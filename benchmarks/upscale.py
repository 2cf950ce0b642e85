"""Upscaling of CBSD68 two, three and four times, beside interpolation and sharpening.

Small pictures are made as MATLAB's imresize does, bicubic with antialiasing, and rounded to 8 bits.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial
from itertools import product
from typing import Any

import numpy as np
from PIL import Image
from rich.progress import track

import differential_diffusion as dd
from differential_diffusion.core.operators import LinearOperator, bicubic

from . import common, measured
from .common import Array, Photo, Scores
from .measured import Bytes

FACTORS = (2, 3, 4)
OURS, UNSHARP = "prior, the mean", "bicubic, unsharp mask"
NEAREST, BICUBIC, LANCZOS = "nearest neighbour", "bicubic", "Lanczos"

UNSHARP_GRID = [(radius, percent) for radius in (0.5, 1, 2, 3) for percent in (50, 100, 150, 200)]

SHOWN = 14  # a tiger
ABOUT = (
    "Inputs are in 8 bits, and so are results; sides are cut to multiples of the factor, and no "
    "border is left out. Luminance is Y of MATLAB's rgb2ycbcr. Nearest neighbour, bicubic and "
    "Lanczos are Pillow's. The unsharp mask (Pillow's, after bicubic) has, for each picture, the "
    f"best of {len(UNSHARP_GRID)} settings by the truth, and its time is that of one try. Results "
    "measured again are made small as the inputs were, without rounding."
)


def shrunk(photo: Photo, factor: int) -> tuple[Array, LinearOperator, Bytes]:
    """The truth, cut to a multiple of the factor; the measurement; and the small picture."""
    height, width = (side - side % factor for side in photo.size)
    truth = photo.pixels[:height, :width]
    operator = bicubic(height, width, factor)
    return truth, operator, measured.levels(measured.measured(operator, truth))


def interpolated(how: Image.Resampling, small: Bytes, factor: int) -> Bytes:
    """Pillow's enlargement."""
    size = small.shape[1] * factor, small.shape[0] * factor
    return np.asarray(Image.fromarray(small).resize(size, how))


def sharpened(small: Bytes, factor: int, radius: float, percent: int) -> Bytes:
    """Pillow's bicubic enlargement and its unsharp mask."""
    from PIL import ImageFilter

    large = Image.fromarray(interpolated(Image.Resampling.BICUBIC, small, factor))
    return np.asarray(large.filter(ImageFilter.UnsharpMask(radius, percent, 0)))


def best_sharpened(small: Bytes, factor: int, truth: Array) -> tuple[Bytes, float]:
    """The best of the grid by the truth, and the seconds of one try."""
    tries = [common.timed(sharpened, small, factor, *setting) for setting in UNSHARP_GRID]
    best, _ = max(tries, key=lambda made: common.psnr(made[0] / 255, truth))
    return best, float(np.mean([seconds for _, seconds in tries]))


def run(options: argparse.Namespace) -> None:
    """Measure, then write the report."""
    model = common.load(options)

    def prior(small: Bytes, factor: Any) -> Bytes:
        made: Bytes = dd.upscale(small, factor, model=model).image
        return made

    methods: dict[str, Callable[[Bytes, int], Bytes]] = {
        NEAREST: partial(interpolated, Image.Resampling.NEAREST),
        BICUBIC: partial(interpolated, Image.Resampling.BICUBIC),
        LANCZOS: partial(interpolated, Image.Resampling.LANCZOS),
        OURS: prior,
    }
    photos = common.photographs(options)
    shown, scores, cells = common.nearest(photos, SHOWN), Scores(), []
    for photo, factor in track(list(product(photos, FACTORS)), "upscale"):
        truth, operator, small = shrunk(photo, factor)
        made = {name: common.timed(method, small, factor) for name, method in methods.items()}
        made[UNSHARP] = best_sharpened(small, factor, truth)
        case, row = f"x{factor}", []
        for name, (large, seconds) in made.items():
            scores.rows.append(
                measured.score(photo, case, name, large, truth, seconds, operator, small)
            )
            caption = f"{name} {case}\n{scores.rows[-1].psnr:.2f} dB"
            row.append((caption, common.as_array(large / 255)))
        if photo is shown:
            row.append(("the truth", truth))
            cells.append([(caption, common.centre(picture, 150, 150)) for caption, picture in row])
    common.save_grid(options.output / "upscale.png", cells)
    order = [NEAREST, BICUBIC, LANCZOS, UNSHARP, OURS]
    parts = [*measured.tables(scores, order, OURS, [f"x{f}" for f in FACTORS]), ABOUT]
    common.write_report(
        options,
        "upscale",
        "Upscaling",
        parts,
        model=model,
        alt="a crop enlarged by each method, and the truth",
    )


def main(argv: list[str] | None = None) -> None:
    """Read the options and run."""
    run(common.parser(__doc__).parse_args(argv))


if __name__ == "__main__":
    main()
