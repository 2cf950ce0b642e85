"""Fit what the estimate of a camera's noise knows beforehand, and say how well it does.

Photographs of the training archive go through simulated cameras, drawn at random; the truth is
the squared error of each picture. First the curves, of the noise by what each channel holds, then
how to weigh what speaks for their scale in a picture. It prints the constants of
`maps/_camera_noise.py` and the error of the deviation, cross-validated over photographs. None of
the benchmarks' photographs is among these.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields, replace
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from rich.progress import track
from scipy.optimize import least_squares

from differential_diffusion.data.camera import Camera, simulate_camera
from differential_diffusion.data.images import load_images
from differential_diffusion.maps._bands import block_bands
from differential_diffusion.maps._camera_noise import (
    CURVE_LEVELS,
    GAMMA,
    SMOOTHING,
    Curves,
    flat_windows,
    scale_features,
)

from . import common
from .common import Array

SIZE = (384, 480)
CAMERAS = 3  # a photograph
ISOS = (300.0, 16_000.0)
HIGH_ISO = 1000.0
CURVES_FROM = 600  # below this ISO it is JPEG's errors that are seen
FOLDS = 6
HUBER = 0.3  # of the log of a variance; beyond it errors count by their size, not its square
TOO_LOW = 2.0  # what an error downwards costs, against one upwards
BLOCK, SAMPLES = 8, 300  # pixels a side, and blocks a picture, for the curves
ROUNDING = 0.3  # squared 8-bit levels: what is left at ISO 0
ROUGHNESS = 1e-4

Table = NDArray[np.float64]


@dataclass(frozen=True)
class Taken:
    """A photograph through a camera.

    Attributes:
        noisy, clean: (H,W,C) in [-1, 1], with the camera's noise and without.
        photograph: which, so that folds can hold it out.
        iso: of the camera.
    """

    noisy: Array
    clean: Array
    photograph: int
    iso: float

    @property
    def squared(self) -> Array:
        """(H,W,C) squared errors in 8-bit levels."""
        return np.square((self.noisy - self.clean) * np.float32(127.5))

    def grey(self) -> Taken:
        """The mean of the channels."""
        noisy, clean = (x.mean(-1, keepdims=True) for x in (self.noisy, self.clean))
        return replace(self, noisy=noisy, clean=clean)


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


def taken(archive: Path, count: int, rng: np.random.Generator) -> Iterator[Taken]:
    """Random crops of so many photographs, each through `CAMERAS` cameras."""
    images = load_images(archive, min_size=min(SIZE) // 2).images
    for index in rng.permutation(len(images))[:count].tolist():
        pixels = images[index].pixels
        height, width = (min(a, b) for a, b in zip(pixels.shape, SIZE, strict=False))
        top = rng.integers(pixels.shape[0] - height + 1)
        left = rng.integers(pixels.shape[1] - width + 1)
        scene = common.as_array(pixels[top : top + height, left : left + width] / 127.5 - 1)
        for _ in range(CAMERAS):
            camera, iso = random_camera(rng)
            seed = int(rng.integers(2**31))
            noisy, clean = (
                simulate_camera(scene, c, seed=seed) for c in (camera, camera.without_noise())
            )
            yield Taken(noisy, clean, index, iso)


def samples(one: Taken, rng: np.random.Generator) -> tuple[Array, Array]:
    """Squared errors and colours beneath the noise, each (n,3): means of `BLOCK`² pixels."""
    height, width = (side // BLOCK for side in one.noisy.shape[:2])
    smooth = cv2.GaussianBlur(one.noisy, (0, 0), SMOOTHING)
    squared, colour = (
        cv2.resize(x, (width, height), interpolation=cv2.INTER_AREA).reshape(-1, 3)
        for x in (one.squared, smooth)
    )
    chosen = rng.permutation(len(squared))[:SAMPLES]
    return common.as_array(squared[chosen]), common.as_array(colour[chosen])


def fit_curves(seen: list[tuple[Array, Array]]) -> Curves:
    """The most likely curves, with a scale for each picture; errors are taken as Gaussian.

    Twice the negative log-likelihood of a mean square q, in units of what is expected, is
    q - log q up to constants, so that no logarithm of a noisy value enters.
    """
    picture = torch.repeat_interleave(
        torch.arange(len(seen)), torch.tensor([len(squared) for squared, _ in seen])
    )
    squared, colour = (
        torch.from_numpy(np.concatenate(values)).double() for values in zip(*seen, strict=True)
    )
    count = len(CURVE_LEVELS)
    position = ((colour + 1) / 2 * count - 0.5).clamp(0, count - 1)
    low = position.long().clamp(max=count - 2)
    share = position - low
    light = ((colour + 1) / 2).clamp(min=0) ** GAMMA
    curves = torch.zeros(2, count, dtype=torch.double, requires_grad=True)  # logs: outer, green
    borrowed = torch.full((3,), -3.0, dtype=torch.double, requires_grad=True)  # logs

    def expected() -> torch.Tensor:
        constant, of_green, of_other = borrowed.exp()
        logs = []
        for own, other, curve in ((0, 2, curves[0]), (1, None, curves[1]), (2, 0, curves[0])):
            at = low[:, own]
            log = torch.lerp(curve[at], curve[at + 1], share[:, own])
            if other is not None:
                in_all = light[:, own] + of_green * light[:, 1] + of_other * light[:, other]
                log = log + torch.log(constant + in_all)
            logs.append(log)
        return torch.stack(logs, dim=1)

    def loss() -> torch.Tensor:
        ratio = (squared + ROUNDING) * torch.exp(-expected())
        total = torch.zeros(len(seen), dtype=torch.double).index_add(0, picture, ratio.mean(1))
        ratio = ratio / (total / torch.bincount(picture))[picture, None]
        rough = curves.diff(dim=1).diff(dim=1).square().sum()
        return (ratio - ratio.log()).mean() + ROUGHNESS * rough

    def closure() -> float:
        optimizer.zero_grad()
        value = loss()
        value.backward()  # type: ignore[no-untyped-call]
        return float(value.detach())

    optimizer = torch.optim.LBFGS([curves, borrowed], max_iter=200, line_search_fn="strong_wolfe")
    optimizer.step(closure)
    fitted = curves.detach()
    outer, green = (fitted - fitted[1].mean()).exp().tolist()
    constant, of_green, of_other = borrowed.detach().exp().tolist()
    return Curves(tuple(outer), tuple(green), (constant, of_green, of_other))


def example(one: Taken, curves: Curves) -> Table:
    """Features of a picture, and at the end the log of its curves' true scale."""
    features = scale_features(flat_windows(block_bands(np.ascontiguousarray(one.noisy)), curves))
    truth = one.squared.mean() / curves.variance(one.noisy, SMOOTHING).mean()
    return np.append(features, np.log(truth))


def fit(features: Table, truth: Table, iso: Table) -> Table:
    """Weights of the features that are nearest to the truth, outliers counting less.

    Told a tenth too little, the prior loses .2 to .4 dB above ISO 1500, and told a tenth too much,
    .1; below, an error of either sign costs less. So errors downwards and strong noise count more.
    """
    strength = (iso / HIGH_ISO) ** 0.25

    def residuals(weights: Table) -> Table:
        error = strength * (features @ weights - truth)
        return np.where(error < 0, math.sqrt(TOO_LOW), 1) * error

    start = np.zeros(features.shape[1])
    fitted = least_squares(residuals, start, loss="huber", f_scale=HUBER, x_scale="jac")
    return np.asarray(fitted.x)


def held_out(features: Table, truth: Table, iso: Table, fold: NDArray[np.intp]) -> Table:
    """Errors of the log of the deviation, each by weights fitted to the other folds."""
    guess = np.empty_like(truth)
    for held in range(FOLDS):
        rest = fold != held
        weights = fit(features[rest], truth[rest], iso[rest])
        guess[fold == held] = features[fold == held] @ weights
    return (guess - truth) / 2


def listed(values: Iterable[float]) -> str:
    """Numbers as the source holds them."""
    return ", ".join(f"{value:.4g}" for value in values)


def run(options: argparse.Namespace) -> None:
    """Simulate, fit and print."""
    archive = Path(options.data) / "natural-train.tar"

    def pictures(saying: str) -> Iterator[Taken]:
        rng, count = np.random.default_rng(0), options.photographs
        return iter(track(taken(archive, count, rng), saying, total=count * CAMERAS))

    rng = np.random.default_rng(1)
    curves = fit_curves([samples(one, rng) for one in pictures("curves") if one.iso > CURVES_FROM])
    for field in fields(curves):
        print(f"{field.name}=({listed(getattr(curves, field.name))})")
    rows, isos, photographs = [], [], []
    for one in pictures("scale"):
        rows.append((example(one, curves), example(one.grey(), curves)))
        isos.append(one.iso)
        photographs.append(one.photograph)
    iso, fold = np.array(isos), np.unique(photographs, return_inverse=True)[1] % FOLDS
    for name, examples in zip(
        ("_COLOUR_SCALE", "_GREY_SCALE"), zip(*rows, strict=True), strict=True
    ):
        table = np.array(examples)
        features, truth = table[:, :-1], table[:, -1]
        print(f"{name} = ({listed(fit(features, truth, iso))})")
        errors = held_out(features, truth, iso, fold)
        for said, within in (("above", iso > HIGH_ISO), ("below", iso <= HIGH_ISO)):
            rms, median = math.sqrt(np.square(errors[within]).mean()), np.median(errors[within])
            spread = np.median(np.abs(errors[within]))
            print(
                f"  {said} ISO {HIGH_ISO:g}: error {rms:.1%} rms, {spread:.1%} in the median, "
                f"middle {median:+.1%}"
            )


def main(argv: list[str] | None = None) -> None:
    """Read the options and run."""
    parser = common.parser(__doc__)
    parser.add_argument("--photographs", type=int, default=440, help="to fit to")
    run(parser.parse_args(argv))


if __name__ == "__main__":
    main()
