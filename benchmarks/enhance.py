"""Mild noise and JPEG on CBSD68: what enhancement gains, beside sharpening and contrast filters.

White Gaussian noise, rounded and clipped to 8 bits, then JPEG by Pillow, 4:2:0 as it does by
default. Every method sees the decoded pixels alone.
"""

from __future__ import annotations

import argparse
import io
from collections.abc import Callable
from itertools import product
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter
from rich.progress import track

import differential_diffusion as dd
from differential_diffusion.models import DenoiserModel

from . import common
from .common import Array, Photo, Score, Scores

CASES = ((3, 85), (5, 75), (8, 60))
"""σ of the noise and quality of the JPEG."""

DEGRADED, CLEAN = "as degraded", "clean"
LEVELS = ("low", "medium", "high")
OURS = {f"enhance, {level}": level for level in LEVELS}
WINDOW = 4.0
SHOWN = 14  # a tiger

Pixels = NDArray[np.uint8]
Method = Callable[[Pixels], Pixels]

ABOUT = (
    "PSNR in dB / SSIM against the clean picture, and local contrast: the mean over pixels of the "
    f"luma's standard deviation within a Gaussian window of deviation {WINDOW:g} pixels, in 8-bit "
    "levels. Noise is white, of deviation σ, rounded and clipped to 8 bits; the JPEG is Pillow's, "
    "of quality q and 4:2:0."
)
PEERS = (
    "Unsharp mask: Pillow's, with its default settings (radius 2, 150 %, threshold 3), and with a "
    "tenth of its strength. CLAHE: "
    "OpenCV's, clip limit 2, 8 x 8 tiles, on the luma. Detail enhancement: OpenCV's "
    "`detailEnhance` with its default settings. Non-local means: OpenCV's "
    "`fastNlMeansDenoisingColored`, h and h for colours the noise's σ, which nobody tells ours. "
    "The filters' defaults are for the eye: their PSNR says how far they go, not how they look."
)


def degraded(photo: Photo, sigma: float, quality: int) -> Pixels:
    """The picture with noise, as a decoded JPEG."""
    noisy = common.add_noise(photo, sigma, quality)
    stream = io.BytesIO()
    as_image(noisy).save(stream, "JPEG", quality=quality)
    with Image.open(stream) as opened:
        return np.asarray(opened.convert("RGB"))


def as_image(picture: Array) -> Image.Image:
    """A picture in [0,1], rounded to 8 bits."""
    return Image.fromarray(np.round(np.clip(picture, 0, 1) * 255).astype(np.uint8))


def local_contrast(picture: NDArray[Any]) -> float:
    """Mean deviation of the luma within a window, in 8-bit levels; pictures (H,W,3) in [0,1]."""
    luma = 255 * np.clip(picture, 0, 1).astype(np.float64) @ (0.299, 0.587, 0.114)

    def mean(plane: NDArray[Any]) -> NDArray[Any]:
        return np.asarray(cv2.GaussianBlur(plane, (0, 0), WINDOW))

    return float(np.sqrt(np.maximum(mean(luma**2) - mean(luma) ** 2, 0)).mean())


def unsharp_mask(pixels: Pixels, percent: int = 150) -> Pixels:
    """Pillow's, with its default settings, or less of it."""
    return np.asarray(Image.fromarray(pixels).filter(ImageFilter.UnsharpMask(percent=percent)))


def clahe(pixels: Pixels) -> Pixels:
    """OpenCV's contrast-limited adaptive histogram equalisation, of the luma."""
    planes = cv2.cvtColor(pixels, cv2.COLOR_RGB2YCrCb)
    planes[..., 0] = cv2.createCLAHE(2.0, (8, 8)).apply(np.ascontiguousarray(planes[..., 0]))
    return np.asarray(cv2.cvtColor(planes, cv2.COLOR_YCrCb2RGB), np.uint8)


def detail_enhance(pixels: Pixels) -> Pixels:
    """OpenCV's, by a domain transform (Gastal and Oliveira, 2011), with its default settings."""
    return np.asarray(cv2.detailEnhance(np.ascontiguousarray(pixels)), np.uint8)


def non_local_means(pixels: Pixels, sigma: float) -> Pixels:
    """OpenCV's, of the noise's level."""
    swapped = np.ascontiguousarray(pixels[..., ::-1])
    cleaned = cv2.fastNlMeansDenoisingColored(swapped, None, sigma, sigma, 7, 21)
    return np.asarray(np.ascontiguousarray(cleaned[..., ::-1]), np.uint8)


def methods_of(model: DenoiserModel, sigma: float) -> dict[str, Method]:
    """Every method, from pixels to pixels."""

    def ours(level: Any) -> Method:
        return lambda pixels: np.asarray(dd.enhance(pixels, level, model=model).image)

    return {
        DEGRADED: lambda pixels: pixels,
        **{name: ours(level) for name, level in OURS.items()},
        "unsharp mask": unsharp_mask,
        "unsharp mask, 15 %": lambda pixels: unsharp_mask(pixels, 15),
        "CLAHE": clahe,
        "detail enhancement": detail_enhance,
        "non-local means": lambda pixels: non_local_means(pixels, sigma),
        "non-local means, then CLAHE": lambda pixels: clahe(non_local_means(pixels, sigma)),
    }


def run(options: argparse.Namespace) -> None:
    """Measure, then write the report."""
    model = common.load(options)
    photos = common.photographs(options)
    shown = common.nearest(photos, SHOWN)
    scores, contrasts, cells = Scores(), dict[tuple[str, str], list[float]](), []
    for photo, (sigma, quality) in track(list(product(photos, CASES)), "enhance"):
        case, row = f"σ {sigma}, q {quality}", []
        given = degraded(photo, sigma, quality)
        for name, method in methods_of(model, sigma).items():
            made, seconds = common.timed(method, given)
            picture = common.as_array(made / 255)
            near = common.psnr(picture, photo.pixels)
            alike = common.ssim(picture, photo.pixels)
            scores.rows.append(Score(photo.index, case, name, near, seconds, alike))
            contrasts.setdefault((name, case), []).append(local_contrast(picture))
            row.append((f"{name}\n{near:.2f} dB", picture))
        contrasts.setdefault((CLEAN, case), []).append(local_contrast(photo.pixels))
        if photo is shown and (sigma, quality) == CASES[1]:
            row.append((CLEAN, photo.pixels))
            crops = [(caption, common.centre(picture, 200, 200)) for caption, picture in row]
            cells = [crops[:5], crops[5:]]
    common.save_grid(options.output / "enhance.png", cells)
    report(options, model, scores, {key: float(np.mean(c)) for key, c in contrasts.items()})


def report(
    options: argparse.Namespace,
    model: DenoiserModel,
    scores: Scores,
    contrasts: dict[tuple[str, str], float],
) -> None:
    """Write the tables."""
    cases = [f"σ {sigma}, q {quality}" for sigma, quality in CASES]
    names = list(dict.fromkeys(row.method for row in scores.rows))
    quality = [
        [
            f"**{name}**" if name in OURS else name,
            *(
                f"{scores.mean('psnr', name, case):.2f} / {scores.mean('ssim', name, case):.3f}"
                for case in cases
            ),
            *(f"{contrasts[name, case]:.2f}" for case in cases),
            "–" if name == DEGRADED else f"{scores.mean('seconds', name):.2f}",
        ]
        for name in names
    ]
    clean = [
        CLEAN,
        *("–" for _ in cases),
        *(f"{contrasts[CLEAN, case]:.2f}" for case in cases),
        "–",
    ]
    rises = [
        [
            name,
            *(f"{scores.gain(name, DEGRADED, case):+.2f}" for case in cases),
            *(f"{risen(scores, name, case)}" for case in cases),
        ]
        for name in names
        if name != DEGRADED
    ]
    header = ["method", *cases, *(f"contrast, {case}" for case in cases), "seconds"]
    parts = [
        f"{ABOUT} {scores.pictures(DEGRADED)} pictures.",
        common.table(header, [*quality, clean]),
        "Gain in PSNR over the degraded picture in dB, and on how many pictures it rose:",
        common.table(["method", *cases, *(f"rose, {case}" for case in cases)], rises),
        PEERS,
    ]
    common.write_report(
        options,
        "enhance",
        "Enhancement",
        parts,
        model=model,
        alt="a crop with noise and JPEG, as each method enhances it, and clean",
    )


def risen(scores: Scores, name: str, case: str) -> int:
    """On how many pictures PSNR is above that of the degraded one."""
    before = scores.of(DEGRADED, case)
    return sum(score.psnr > before[key].psnr for key, score in scores.of(name, case).items())


def main(argv: list[str] | None = None) -> None:
    """Read the options and run."""
    run(common.parser(__doc__).parse_args(argv))


if __name__ == "__main__":
    main()
