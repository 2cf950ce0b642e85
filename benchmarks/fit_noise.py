"""Fit how the estimate of a camera's noise weighs what speaks for its scale, and say how well.

Photographs of the training archive go through simulated cameras, drawn at random; the truth is
the squared error of each picture. It prints the constants of `maps/_noise_fit.py` and the error of
the deviation above ISO 1000, cross-validated over photographs, with the slopes of the spectrum and
without. None of the benchmarks' photographs is among these.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from rich.progress import track
from scipy.optimize import least_squares

from differential_diffusion.data.camera import Camera, simulate_camera
from differential_diffusion.data.images import load_images
from differential_diffusion.maps._bands import block_bands
from differential_diffusion.maps._noise_fit import (
    INTENSITY_BINS,
    flat_levels,
    flat_spectrum,
    scale_features,
    usual_curve,
)

from . import common
from .common import Array

SIZE = (384, 480)
ISOS = (300.0, 16_000.0)
HIGH_ISO = 1000
FOLDS = 6
HUBER = 0.3  # of the log of a variance; beyond it errors count by their size, not its square

Table = NDArray[np.float64]


def random_camera(rng: np.random.Generator) -> tuple[Camera, float]:
    """A camera and its ISO."""
    iso = float(np.exp(rng.uniform(*np.log(ISOS))))
    camera = Camera.at_iso(
        iso,
        jpeg_quality=None if rng.random() < 0.2 else int(rng.integers(80, 98)),
        demosaic="malvar" if rng.random() < 0.7 else "bilinear",
    )
    optics, red, blue = rng.uniform((0.3, 1.4, 1.3), (0.8, 2.4, 2.2))
    return replace(camera, optics=optics, red_gain=red, blue_gain=blue), iso


def scenes(archive: Path, count: int, rng: np.random.Generator) -> Iterator[Array]:
    """Random crops (H,W,3) in [-1, 1] of so many photographs."""
    images = load_images(archive, min_size=min(SIZE) // 2).images
    for index in rng.permutation(len(images))[:count]:
        pixels = images[index].pixels
        height, width = (min(a, b) for a, b in zip(pixels.shape, SIZE, strict=False))
        top = rng.integers(pixels.shape[0] - height + 1)
        left = rng.integers(pixels.shape[1] - width + 1)
        yield common.as_array(pixels[top : top + height, left : left + width] / 127.5 - 1)


def example(taken: Array, clean: Array) -> Table:
    """Features of a picture (H,W,C), and at the end the log of its curve's true scale."""
    bands = block_bands(np.ascontiguousarray(taken))
    spectrum = flat_spectrum(bands)
    features = scale_features(*flat_levels(bands, spectrum), spectrum)
    intensity = cv2.GaussianBlur(taken.mean(-1), (0, 0), 2)
    position = (intensity + 1) / 2 * INTENSITY_BINS - 0.5
    curve = np.interp(position, np.arange(INTENSITY_BINS), usual_curve())
    squared = np.square((taken - clean) * 127.5).mean()
    return np.append(features, np.log(squared / curve.mean()))


def fit(features: Table, truth: Table) -> Table:
    """Weights of the features that are nearest to the truth, outliers counting less."""
    start = np.zeros(features.shape[1])
    fitted = least_squares(
        lambda w: features @ w - truth, start, loss="huber", f_scale=HUBER, x_scale="jac"
    )
    return np.asarray(fitted.x)


def error(features: Table, truth: Table, counted: NDArray[np.bool_]) -> float:
    """Relative error of the deviation, root mean square over held-out folds."""
    fold = np.arange(len(truth)) % FOLDS
    guess = np.empty_like(truth)
    for held in range(FOLDS):
        weights = fit(features[fold != held], truth[fold != held])
        guess[fold == held] = features[fold == held] @ weights
    return math.sqrt(np.square((guess - truth)[counted] / 2).mean())


def run(options: argparse.Namespace) -> None:
    """Simulate, fit and print."""
    rng = np.random.default_rng(0)
    archive = Path(options.data) / "natural-train.tar"
    colour, grey, isos = [], [], []
    taken_of = scenes(archive, options.photographs, rng)
    for scene in track(taken_of, "photographs", total=options.photographs):
        camera, iso = random_camera(rng)
        seed = int(rng.integers(2**31))
        taken = simulate_camera(scene, camera, seed=seed)
        clean = simulate_camera(scene, camera.without_noise(), seed=seed)
        colour.append(example(taken, clean))
        grey.append(example(taken.mean(-1, keepdims=True), clean.mean(-1, keepdims=True)))
        isos.append(iso)
    high = np.array(isos) > HIGH_ISO
    for name, rows in (("_GREY_SCALE", grey), ("_COLOUR_SCALE", colour)):
        table = np.array(rows)
        features, truth = table[:, :-1], table[:, -1]
        print(name, "=", tuple(np.round(fit(features, truth), 3).tolist()))
        with_slopes, without = (error(f, truth, high) for f in (features, features[:, :2]))
        print(f"  error above ISO {HIGH_ISO}: {with_slopes:.1%}, without slopes {without:.1%}")


def main(argv: list[str] | None = None) -> None:
    """Read the options and run."""
    parser = common.parser(__doc__)
    parser.add_argument("--photographs", type=int, default=440, help="to fit to")
    run(parser.parse_args(argv))


if __name__ == "__main__":
    main()
