"""Demosaicing of CBSD68 behind a Bayer filter, beside OpenCV's methods and linear filters.

Raw pictures are the colours that the pattern RGGB lets through, as they are, in 8 bits.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial

import cv2
import numpy as np
import torch
from rich.progress import track

import differential_diffusion as dd
from differential_diffusion.core.operators import bayer
from differential_diffusion.tasks.demosaic import interpolated

from . import common, measured
from .common import Scores
from .measured import Bytes

CASE = "RGGB"
OURS, MALVAR = "prior, the mean", "Malvar, He and Cutler"
OPENCV = {
    "OpenCV, bilinear": cv2.COLOR_BayerBG2RGB,
    "OpenCV, VNG": cv2.COLOR_BayerBG2RGB_VNG,
    "OpenCV, EA": cv2.COLOR_BayerBG2RGB_EA,
}
BORDER = 4

SHOWN = 14  # a tiger
ABOUT = (
    f"A border of {BORDER} pixels is left out, as OpenCV's methods leave it out. VNG goes by "
    "variable gradients, EA is aware of edges, and Malvar's linear filters (2004) are what "
    "the prior starts from. Luminance is Y of MATLAB's rgb2ycbcr. CBSD68's pictures went through a "
    "camera's demosaicing and JPEG long ago, which all methods share."
)


def opencv(code: int, raw: Bytes) -> Bytes:
    """OpenCV's demosaicing, its code named after the second row's and column's colours."""
    made: Bytes = cv2.cvtColor(raw, code).astype(np.uint8)
    return made


def linear(raw: Bytes) -> Bytes:
    """Malvar, He and Cutler's filters."""
    mosaic = torch.from_numpy(raw / 255).float()[None, None]
    colours = interpolated(mosaic, bayer(CASE, *raw.shape).weights)
    return measured.levels(colours[0].permute(1, 2, 0).numpy())


def run(options: argparse.Namespace) -> None:
    """Measure, then write the report."""
    model = common.load(options)

    def prior(raw: Bytes) -> Bytes:
        made: Bytes = dd.demosaic(raw, "RGGB", model=model).image
        return made

    methods: dict[str, Callable[[Bytes], Bytes]] = {
        name: partial(opencv, code) for name, code in OPENCV.items()
    }
    methods |= {MALVAR: linear, OURS: prior}
    photos = common.photographs(options)
    shown, scores, cells = common.nearest(photos, SHOWN), Scores(), []
    for photo in track(photos, "demosaic"):
        operator = bayer(CASE, *photo.size)
        raw = measured.levels(measured.measured(operator, photo.pixels))[..., 0]
        row = []
        for name, method in methods.items():
            made, seconds = common.timed(method, raw)
            scores.rows.append(
                measured.score(
                    photo, CASE, name, made, photo.pixels, seconds, operator, raw, BORDER
                )
            )
            caption = f"{name}\n{scores.rows[-1].psnr:.2f} dB"
            row.append((caption, common.as_array(made / 255)))
        if photo is shown:
            row.append(("the truth", photo.pixels))
            cells.append([(caption, common.centre(picture, 150, 150)) for caption, picture in row])
    common.save_grid(options.output / "demosaic.png", cells)
    common.write_report(
        options,
        "demosaic",
        "Demosaicing",
        [*measured.tables(scores, list(methods), OURS, [CASE]), ABOUT],
        model=model,
        alt="a crop as each method demosaics it, and the truth",
    )


def main(argv: list[str] | None = None) -> None:
    """Read the options and run."""
    run(common.parser(__doc__).parse_args(argv))


if __name__ == "__main__":
    main()
