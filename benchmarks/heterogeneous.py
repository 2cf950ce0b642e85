"""What the true map of noise is worth where the noise differs from place to place.

On ramps and patches of white noise all rows are the same weights, told different things. On
camera-like noise nobody knows the map: the blind result stands beside non-local means with the
settings that turn out best for each picture, which no user could know.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from typing import Any

import cv2
import numpy as np
from rich.progress import track

from differential_diffusion.data.camera import Camera, simulate_camera
from differential_diffusion.maps.noise import estimate_noise
from differential_diffusion.models import DenoiserModel

from . import common
from .common import Array, Cell, Photo, Score, Scores

CASES = ("ramp", "patches")
SHOWN = 14  # a tiger
LOW, HIGH = 5.0, 50.0
PATCH_LEVELS, PATCH_SIDE = (5, 15, 25, 35, 50), 64
ISOS = (1600, 6400)

TRUE, ESTIMATED = "true map", "map estimated from the picture"
SINGLE, MAXIMUM, MEAN = "best single level of each picture", "the map's maximum", "the map's mean"
OURS = "prior, blind"
OURS_SINGLE = "prior, best single level"
OPENCV, SKIMAGE = (
    "OpenCV non-local means, best settings",
    "scikit-image non-local means, best settings",
)
NOISY = "as taken"

LEVEL_GRID = (5, 10, 15, 20, 25, 30, 35, 40, 45, 50)
OPENCV_GRID = [(h, h * k) for h in (2, 3, 4.5, 7, 10, 15, 22) for k in (1, 2)]
SKIMAGE_GRID = [(h, k * h) for h in (3, 4.5, 6.5, 9.5, 14, 20) for k in (0, 1)]

WHITE = (
    "**White noise** on {pictures} pictures: a ramp of levels from "
    f"{LOW:g} at the left to {HIGH:g} at the right, and squares of {PATCH_SIDE} pixels with levels "
    f"drawn from {', '.join(map(str, PATCH_LEVELS))}. PSNR in dB, and what the true map gains over "
    "each:"
)
CAMERA = (
    "**Camera-like noise** (`data.camera.simulate_camera`: lens blur, shot and read noise behind a "
    "Bayer filter, demosaicing, white balance, sRGB, 8 bits, JPEG of quality 92). The truth is the "
    "same camera's picture without noise. What the blind prior is told rests on constants fitted "
    "to other photographs through cameras of this simulator (`python -m benchmarks.fit_noise`). "
    "Non-local means has, for each picture, the best of "
    f"{len(OPENCV_GRID)} (OpenCV) or {len(SKIMAGE_GRID)} (scikit-image) settings by that truth, "
    "and its time is that of one try. PSNR in dB / SSIM, the blind prior's gain in dB, seconds a "
    "picture:"
)

Denoise = Callable[[Array, "float | Array"], Array]


def ramp(height: int, width: int, low: float = LOW, high: float = HIGH) -> Array:
    """Levels (H,W) from `low` in the first column to `high` in the last."""
    return np.tile(np.linspace(low, high, width, dtype=np.float32), (height, 1))


def patches(height: int, width: int, rng: np.random.Generator) -> Array:
    """Levels (H,W), each square of `PATCH_SIDE` pixels with one of `PATCH_LEVELS`."""
    rows, columns = -(-height // PATCH_SIDE), -(-width // PATCH_SIDE)
    cells = rng.choice(PATCH_LEVELS, (rows, columns))
    return common.as_array(np.kron(cells, np.ones((PATCH_SIDE, PATCH_SIDE))))[:height, :width]


def estimated_level(noisy: Array) -> Array:
    """The package's own estimate (H,W), on the 8-bit scale."""
    return common.as_array(estimate_noise(noisy * 2 - 1) * 127.5)


def best_single(denoise: Denoise, noisy: Array, clean: Array) -> Array:
    """The estimate with the one level that the truth shows to be best: a grid, then between."""

    def quality(level: float) -> float:
        estimates[level] = denoise(noisy, level)
        return common.psnr(estimates[level], clean)

    estimates: dict[float, Array] = {}
    gains = {float(level): quality(level) for level in LEVEL_GRID}
    best = max(gains, key=gains.__getitem__)
    gains |= {level: quality(level) for level in (best - 2.5, best + 2.5)}
    return estimates[max(gains, key=gains.__getitem__)]


def best_of(
    method: Callable[..., Array], grid: Sequence[tuple[Any, ...]], noisy: Array, clean: Array
) -> tuple[Array, float]:
    """The best estimate over a grid of settings, and the mean time of one try in seconds."""
    tries = [common.timed(method, noisy, *settings) for settings in grid]
    best = max(tries, key=lambda made: common.psnr(made[0], clean))[0]
    return best, sum(seconds for _, seconds in tries) / len(tries)


def opencv_means(noisy: Array, h: float, h_colour: float) -> Array:
    """OpenCV's non-local means for colour pictures, patches of 7 within 21, on 8 bits."""
    pixels = np.round(noisy * 255).clip(0, 255).astype(np.uint8)
    cleaned = cv2.fastNlMeansDenoisingColored(
        np.ascontiguousarray(pixels[..., ::-1]), None, h, h_colour, 7, 21
    )
    return common.as_array(cleaned[..., ::-1] / 255)


def skimage_means(noisy: Array, h: float, sigma: float) -> Array:
    """scikit-image's non-local means, fast mode, patches of 5, distance 6; levels of 255."""
    from skimage.restoration import denoise_nl_means

    settings = {"h": h / 255, "sigma": sigma / 255, "patch_size": 5, "patch_distance": 6}
    return common.as_array(denoise_nl_means(noisy, fast_mode=True, channel_axis=-1, **settings))


def white(denoise: Denoise, photo: Photo, case: str, level: Array, scores: Scores) -> list[Cell]:
    """Score every way of telling the model about a map of white noise."""
    noisy = common.add_noise(photo, level, stream=CASES.index(case))
    told: dict[str, float | Array] = {
        TRUE: level,
        ESTIMATED: estimated_level(noisy),
        MAXIMUM: float(level.max()),
        MEAN: float(level.mean()),
    }
    estimates = {name: denoise(noisy, value) for name, value in told.items()}
    estimates[SINGLE] = best_single(denoise, noisy, photo.pixels)
    cells = [(f"{case}, noisy", noisy)]
    for name, estimate in estimates.items():
        quality = common.psnr(estimate, photo.pixels)
        scores.rows.append(Score(photo.index, case, name, quality, float("nan")))
        cells.append((f"{name}\n{quality:.2f} dB", estimate))
    return cells


def camera(denoise: Denoise, photo: Photo, iso: int, scores: Scores) -> list[Cell]:
    """Score blind denoising of a simulated camera's picture beside the tuned peers."""
    case, taken = f"ISO {iso}", Camera.at_iso(iso)
    scene = photo.pixels * 2 - 1
    noisy, clean = (
        common.as_array((simulate_camera(scene, camera, seed=photo.index) + 1) / 2)
        for camera in (taken, taken.without_noise())
    )

    def blind(noisy: Array) -> Array:
        return denoise(noisy, estimated_level(noisy))

    estimates: dict[str, tuple[Array, float]] = {
        NOISY: (noisy, float("nan")),
        OURS: common.timed(blind, noisy),
        OURS_SINGLE: (best_single(denoise, noisy, clean), float("nan")),
        OPENCV: best_of(opencv_means, OPENCV_GRID, noisy, clean),
        SKIMAGE: best_of(skimage_means, SKIMAGE_GRID, noisy, clean),
    }
    cells = []
    for name, (estimate, seconds) in estimates.items():
        quality = common.psnr(estimate, clean)
        scores.rows.append(
            Score(photo.index, case, name, quality, seconds, common.ssim(estimate, clean))
        )
        cells.append((f"{case}, {name}\n{quality:.2f} dB", estimate))
    return [*cells, ("without noise", clean)]


def run(options: argparse.Namespace) -> None:
    """Measure, then write the report."""
    model = common.load(options)
    denoise = common.denoiser_of(model)
    photos = common.photographs(options)
    shown = common.nearest(photos, SHOWN)
    denoise(common.centre(shown.pixels, 64, 64), LOW)  # the first call loads things
    scores = Scores()
    for photo in track(photos, "heterogeneous"):
        levels = ramp(*photo.size), patches(*photo.size, common.random(photo.index))
        told = [white(denoise, photo, *one, scores) for one in zip(CASES, levels, strict=True)]
        taken = [camera(denoise, photo, iso, scores) for iso in ISOS]
        if photo is shown:
            strips = [(caption, common.centre(picture, 96, 481)) for caption, picture in told[0]]
            crops = [(caption, common.centre(picture, 130, 157)) for caption, picture in taken[-1]]
            rows = [strips[:2], strips[2:4], strips[4:], crops]
            common.save_grid(options.output / "heterogeneous.png", rows)
    report(options, model, scores)


def report(options: argparse.Namespace, model: DenoiserModel, scores: Scores) -> None:
    """Write the tables."""
    told = [
        [
            name,
            *(common.number(scores.mean("psnr", name, case)) for case in CASES),
            *(f"{scores.gain(TRUE, name, case):+.2f}" for case in CASES),
        ]
        for name in (TRUE, ESTIMATED, SINGLE, MAXIMUM, MEAN)
    ]
    cases = [f"ISO {iso}" for iso in ISOS]
    taken = [
        [
            name,
            *(
                f"{scores.mean('psnr', name, case):.2f} / {scores.mean('ssim', name, case):.3f}"
                for case in cases
            ),
            *(f"{scores.gain(OURS, name, case):+.2f}" for case in cases),
            common.number(scores.mean("seconds", name)),
        ]
        for name in (OURS, OURS_SINGLE, OPENCV, SKIMAGE, NOISY)
    ]
    parts = [
        WHITE.format(pictures=scores.pictures(TRUE)),
        common.table(["the model is told", "ramp", "patches", "gain, ramp", "gain, patches"], told),
        CAMERA,
        common.table(["method", *cases, *(f"gain, {case}" for case in cases), "seconds"], taken),
    ]
    common.write_report(
        options,
        "heterogeneous",
        "Noise that differs from place to place",
        parts,
        model=model,
        alt="a strip under a ramp of noise and a crop with a camera's, as each method cleans them",
    )


def main(argv: list[str] | None = None) -> None:
    """Read the options and run."""
    run(common.parser(__doc__).parse_args(argv))


if __name__ == "__main__":
    main()
