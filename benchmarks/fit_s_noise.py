"""Fit how much noise stochastic solvers should renew with a model, and say what it changes.

Crops of photographs of the training archive are measured, and samples drawn, as in the benchmark
of calibration, with each `s_noise`. It prints how many of the true values lie within one and two
deviations, and which `s_noise` comes nearest to what samples of an exact posterior would show:
the one to write into the model's description. None of the benchmarks' photographs is among these.
"""

from __future__ import annotations

import argparse
from dataclasses import replace

import numpy as np
from rich import print

from differential_diffusion.data.images import load_images

from . import calibration, common
from .common import Photo

ARCHIVE = "natural-train.tar"


def run(options: argparse.Namespace) -> None:
    """Measure, then print."""
    model = common.load(options)
    images = sorted(load_images(options.data / ARCHIVE).images)
    photos = [
        Photo(index, images[index].name, common.as_array(images[index].pixels / 255))
        for index in common.spread(len(images), options.pictures)
    ]
    exact = np.array([calibration.expected(options.samples, k) for k in (1, 2)])
    rows, misses = [], {}
    for s_noise in options.s_noise:
        scaled = replace(model, s_noise=s_noise)
        within = []
        for name, case in calibration.CASES.items():
            found = calibration.photo_spread(case, scaled, photos, options, name)
            within.append([found.within(1), found.within(2)])
            rows.append([name, f"{s_noise:g}", *(f"{share:.1f}" for share in within[-1])])
        misses[s_noise] = float(np.abs(np.array(within) - exact).mean())
    rows.append(["exact normal posterior", "", *(f"{share:.1f}" for share in exact)])
    print(common.table(["task", "s_noise", "±1, %", "±2, %"], rows))
    for s_noise, miss in misses.items():
        print(f"s_noise {s_noise:g}: {miss:.2f} % off, in the mean")
    print(f"best: {min(misses, key=lambda key: misses[key]):g}")


def main(argv: list[str] | None = None) -> None:
    """Read the options and run."""
    parser = calibration.options(__doc__)
    parser.set_defaults(pictures=24)
    parser.add_argument(
        "--s-noise", type=float, nargs="+", default=[1.0, 1.005, 1.01, 1.015], help="to try"
    )
    run(parser.parse_args(argv))


if __name__ == "__main__":
    main()
