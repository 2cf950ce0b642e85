"""White Gaussian noise of known level on CBSD68, beside BM3D, non-local means and TV.

Noise is neither clipped nor rounded, and every method takes the same noisy picture before the
next picture comes, so that what else the machine does hits all alike.
"""

from __future__ import annotations

import argparse
from itertools import product
from pathlib import Path

import numpy as np
from rich.progress import track

from differential_diffusion.data.images import load_images
from differential_diffusion.models import DenoiserModel

from . import common
from .common import Array, Photo, Score, Scores

LEVELS = (15, 25, 50)
OURS, BM3D, NLM, TV = "prior, one evaluation", "BM3D", "non-local means", "total variation"
VIEWS = {"prior, mean of 2 views": 2, "prior, mean of 8 views": 8}

TV_WEIGHT = {15: 0.0402, 25: 0.0704, 50: 0.1627}
"""Best of `TV_GRID` on training photographs: what `--tune` prints."""
TV_GRID = tuple(round(0.02 * 1.15**k, 4) for k in range(25))

SHOWN = 14  # a tiger
BM3D_PICTURES = 17
"""It takes half a minute a picture."""

PUBLISHED = {
    "CBM3D, published": (33.52, 30.71, 27.38),
    "FFDNet, published": (33.87, 31.21, 27.96),
    "DRUNet, published": (34.30, 31.69, 28.51),
}
"""PSNR on CBSD68 as the papers give it; Zhang et al., 2018 and 2021."""

PAIRS = (
    "The prior's gain in dB over each, seconds a picture, and time as a multiple of the prior's, "
    "on the pictures that both did:"
)
ABOUT = (
    "BM3D: the authors' package `bm3d`, profile `np`. Non-local means: scikit-image's fast mode, "
    "patches of 5, distance 6, h = 0.6 σ. Total variation: scikit-image's `denoise_tv_chambolle`, "
    "its weight the best on training photographs: {weights}. These three use one thread, whatever "
    "is set."
)


def bm3d(noisy: Array, level: float) -> Array:
    """Collaborative filtering (Dabov et al., 2007), the authors' package, its normal profile."""
    from bm3d import bm3d_rgb  # type: ignore[import-untyped]

    return common.as_array(bm3d_rgb(noisy.astype(np.float64), level / 255))


def non_local_means(noisy: Array, level: float) -> Array:
    """scikit-image, with the settings that its gallery gives for a known level."""
    from skimage.restoration import denoise_nl_means

    sigma = level / 255
    settings = {"patch_size": 5, "patch_distance": 6, "h": 0.6 * sigma, "sigma": sigma}
    return common.as_array(denoise_nl_means(noisy, fast_mode=True, channel_axis=-1, **settings))


def total_variation(noisy: Array, level: float) -> Array:
    """Heat conduction that stops at edges (Chambolle, 2004; scikit-image)."""
    from skimage.restoration import denoise_tv_chambolle

    return common.as_array(denoise_tv_chambolle(noisy, TV_WEIGHT[int(level)], channel_axis=-1))


def tune(training: Path, pictures: int = 12) -> dict[int, float]:
    """The best weight of total variation at each level, on training photographs."""
    from skimage.restoration import denoise_tv_chambolle

    images = sorted(image for image in load_images(training).images if "bsds" in image.name)
    chosen = [images[i] for i in common.spread(len(images), pictures)]
    photos = [Photo(i, c.name, common.as_array(c.pixels / 255)) for i, c in enumerate(chosen)]
    best = {}
    for level in LEVELS:
        gains = dict.fromkeys(TV_GRID, 0.0)
        for photo, weight in track(list(product(photos, TV_GRID)), f"level {level}"):
            noisy = common.add_noise(photo, level, level)
            estimate = denoise_tv_chambolle(noisy, weight, channel_axis=-1)
            gains[weight] += common.psnr(estimate, photo.pixels)
        best[level] = max(gains, key=gains.__getitem__)
    return best


def run(options: argparse.Namespace) -> None:
    """Measure, then write the report."""
    model = common.load(options)
    methods = {OURS: common.denoiser_of(model)}
    methods |= {name: common.denoiser_of(model.averaged(views)) for name, views in VIEWS.items()}
    methods |= {NLM: non_local_means, TV: total_variation}
    photos = common.photographs(options)
    slow = {photos[i].index for i in common.spread(len(photos), options.bm3d_pictures)}
    methods[BM3D] = bm3d
    for method in methods.values():
        method(common.centre(photos[0].pixels, 64, 64), LEVELS[0])  # the first call loads things
    chosen = [photo for photo in photos if photo.index in slow]
    shown = common.nearest(chosen, SHOWN)
    scores, cells = Scores(), []
    for photo, level in track(list(product(photos, LEVELS)), "denoise"):
        noisy = common.add_noise(photo, level, level)
        row = [(f"noise {level}", noisy)]
        for name, method in methods.items():
            if name == BM3D and photo.index not in slow:
                continue
            estimate, seconds = common.timed(method, noisy, level)
            quality = common.psnr(estimate, photo.pixels)
            similarity = common.ssim(estimate, photo.pixels)
            scores.rows.append(Score(photo.index, str(level), name, quality, seconds, similarity))
            row.append((f"{name}\n{quality:.2f} dB", estimate))
        if photo is shown:
            row.append(("clean", photo.pixels))
            cells.append([(caption, common.centre(picture, 150, 150)) for caption, picture in row])
    common.save_grid(options.output / "denoise.png", cells)
    report(options, model, scores, list(methods))


def report(
    options: argparse.Namespace,
    model: DenoiserModel,
    scores: Scores,
    methods: list[str],
) -> None:
    """Write the table."""
    cases = [str(level) for level in LEVELS]
    quality = [
        [
            f"**{name}**" if name in {OURS, *VIEWS} else name,
            *(
                f"{scores.mean('psnr', name, case):.2f} / {scores.mean('ssim', name, case):.3f}"
                for case in cases
            ),
            scores.pictures(name),
        ]
        for name in methods
    ]
    if scores.pictures(OURS) == common.ALL:
        quality += [
            [name, *(f"{v:.2f}" for v in values), common.ALL] for name, values in PUBLISHED.items()
        ]
    pairs = [
        [
            name,
            *(f"{scores.gain(OURS, name, case):+.2f}" for case in cases),
            f"{scores.mean('seconds', name):.2f}",
            f"{scores.times(name, OURS):.2f}",
            scores.pictures(name),
        ]
        for name in methods
    ]
    levels = [f"σ = {case}" for case in cases]
    weights = ", ".join(f"{TV_WEIGHT[level]:g} at σ = {level}" for level in LEVELS)
    parts = [
        "PSNR in dB / SSIM:",
        common.table(["method", *levels, "pictures"], quality),
        PAIRS,
        common.table(["beside", *levels, "seconds", "times", "pictures"], pairs),
        ABOUT.format(weights=weights),
    ]
    extra = (
        [f"--bm3d-pictures {options.bm3d_pictures}"]
        if options.bm3d_pictures != BM3D_PICTURES
        else []
    )
    common.write_report(
        options,
        "denoise",
        "Denoising",
        parts,
        model=model,
        extra=extra,
        alt="a crop with noise, as each method cleans it, and clean",
    )


def main(argv: list[str] | None = None) -> None:
    """Read the options and run."""
    parser = common.parser(__doc__)
    parser.add_argument(
        "--bm3d-pictures", type=int, default=BM3D_PICTURES, help="fewer for BM3D, which is slow"
    )
    parser.add_argument(
        "--tune", type=Path, metavar="TRAINING", help="print total variation's best weights, only"
    )
    options = parser.parse_args(argv)
    if options.tune:
        print(tune(options.tune))
    else:
        run(options)


if __name__ == "__main__":
    main()
