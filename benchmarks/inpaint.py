"""Filling holes: what it is worth that the model knows each pixel's noise.

Native: the σ-map model, told 0 at known pixels and the hole's level in the hole. Lifted: the
same weights used the usual way, every pixel noised to the common level. Both start from pure
noise at σ_max, so nothing of the truth is left in the hole, and take the same Euler steps with
the same noise. PSNR is over the hole's pixels alone.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial
from itertools import product

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from rich.progress import track

from differential_diffusion.core import Plan, PositionalNoise, lift
from differential_diffusion.engine import execute
from differential_diffusion.models import DenoiserModel
from differential_diffusion.schema import InpaintRequest, build

from . import common
from .common import Array, Photo, Score, Scores

Mask = NDArray[np.bool_]

MEAN, FILLING = "native, one evaluation", "native, mean filling"
NATIVE, LIFTED = "native, one sample", "lifted, one sample"
NATIVE_MEAN, LIFTED_MEAN = "native, mean of samples", "lifted, mean of samples"
BIHARMONIC, TELEA = "biharmonic (scikit-image)", "Telea (OpenCV)"

ABOUT = (
    "{steps} Euler steps from σ = {sigma:g}, means of {samples} samples. Strokes cover 5 to 6 % of "
    "the picture; boxes are four squares, an eighth of its shorter side each; random pixels are "
    "anywhere. One evaluation is the model's mean from pure noise; the mean filling is what "
    "`dd.inpaint(..., estimate='mean')` gives. PSNR in dB in the "
    "holes, seconds a picture:"
)
SHOWN = 38  # a man with a fez
DEFAULTS = {"steps": 20, "samples": 8, "sample_pictures": 8, "mean_pictures": 8}


def strokes(height: int, width: int, rng: np.random.Generator, share: float = 0.05) -> Mask:
    """Scratches 3 to 8 pixels wide, until they cover `share` of the picture."""
    mask = np.zeros((height, width), np.uint8)
    reach = min(height, width) // 6
    while mask.mean() < share:
        start = rng.integers((0, 0), (width, height))
        bends = start + np.cumsum(rng.integers(-reach, reach + 1, (3, 2)), axis=0)
        points = np.vstack([start, bends]).astype(np.int32)
        cv2.polylines(mask, [points], False, 1, thickness=int(rng.integers(3, 9)))
    return mask.astype(bool)


def boxes(height: int, width: int, rng: np.random.Generator) -> Mask:
    """One square in each quarter, an eighth of the shorter side: 4 to 7 % of the picture."""
    mask = np.zeros((height, width), bool)
    side = min(height, width) // 8
    for top, left in product((0, height // 2), (0, width // 2)):
        y = top + rng.integers(height // 2 - side)
        x = left + rng.integers(width // 2 - side)
        mask[y : y + side, x : x + side] = True
    return mask


def random_pixels(height: int, width: int, rng: np.random.Generator, share: float = 0.5) -> Mask:
    """Exactly `share` of the pixels, to the nearest, anywhere."""
    mask = np.arange(height * width) < round(share * height * width)
    return rng.permutation(mask).reshape(height, width)


MASKS: dict[str, Callable[[int, int, np.random.Generator], Mask]] = {
    "strokes": strokes,
    "boxes": boxes,
    "10 % of pixels": partial(random_pixels, share=0.1),
    "50 % of pixels": random_pixels,
    "90 % of pixels": partial(random_pixels, share=0.9),
}


def blanked(photo: Photo, hole: Mask) -> Array:
    """The photograph with nothing but middle grey, 0 on [-1,1], in the hole."""
    return np.where(hole[..., None], np.float32(0.5), photo.pixels)


def most_of(hole: Mask, side: int) -> tuple[slice, slice]:
    """The square crop around the place where the hole is densest."""
    dense = cv2.GaussianBlur(hole.astype(np.float32), (0, 0), side / 5)
    densest = np.unravel_index(int(dense.argmax()), hole.shape)
    top, left = (
        max(0, min(int(middle) - side // 2, length - side))
        for middle, length in zip(densest, hole.shape, strict=True)
    )
    return slice(top, top + side), slice(left, left + side)


def fill(
    model: DenoiserModel, picture: Array, hole: Mask, seed: int, steps: int, *, lifted: bool
) -> Array:
    """One sample of the hole's content, the rest as it was."""
    plan = Plan(
        common.to_tensor(picture),
        torch.from_numpy(hole)[None, None].float(),
        seeds=(seed,),
        steps=steps,
        solver="euler",
    )
    noise = PositionalNoise(plan.seeds, 3, *hole.shape)
    if lifted:
        model = model.with_denoiser(lift(model.denoiser, plan.image, noise(0)))
    return common.to_array(model.run(plan, noise))


def samples(
    model: DenoiserModel, photo: Photo, hole: Mask, count: int, steps: int, *, lifted: bool
) -> tuple[list[Array], float]:
    """Samples for the seeds of this photograph, and the seconds that one takes."""
    fills = [
        partial(
            fill, model, blanked(photo, hole), hole, 1000 * photo.index + k, steps, lifted=lifted
        )
        for k in range(count)
    ]
    made = [common.timed(one) for one in fills]
    return [picture for picture, _ in made], sum(seconds for _, seconds in made) / count


def mean_filling(model: DenoiserModel, photo: Photo, hole: Mask) -> Array:
    """The task's mean of all fillings."""
    request = build(
        InpaintRequest, image=blanked(photo, hole), mask=hole, estimate="mean", model=model
    )
    return common.as_array(execute(request).image)


def biharmonic(photo: Photo, hole: Mask) -> Array:
    """scikit-image's biharmonic surface through the hole's surroundings."""
    from skimage.restoration import inpaint_biharmonic

    blank = np.where(hole[..., None], 0.0, photo.pixels)
    return common.as_array(inpaint_biharmonic(blank, hole, channel_axis=-1))


def telea(photo: Photo, hole: Mask) -> Array:
    """OpenCV's fast marching (Telea, 2004), radius 3, on 8 bits."""
    pixels = np.round(np.where(hole[..., None], 0, photo.pixels) * 255).astype(np.uint8)
    filled = cv2.inpaint(pixels, hole.astype(np.uint8), 3, cv2.INPAINT_TELEA)
    return common.as_array(filled / 255)


def run(options: argparse.Namespace) -> None:
    """Measure, then write the report."""
    model = common.load(options)
    photos = common.photographs(options)
    sampled = [photos[i] for i in common.spread(len(photos), options.sample_pictures)]
    averaged = [sampled[i] for i in common.spread(len(sampled), options.mean_pictures)]
    shown = common.nearest(averaged, SHOWN)
    common.denoiser_of(model)(common.centre(shown.pixels, 64, 64), 5)  # the first call loads things
    scores, rows = Scores(), []
    for photo, case in track(list(product(photos, MASKS)), "inpaint"):
        hole = MASKS[case](*photo.size, common.random(photo.index, list(MASKS).index(case)))
        results = {}
        for lifted, one, mean in ((False, NATIVE, NATIVE_MEAN), (True, LIFTED, LIFTED_MEAN)):
            if photo.index not in {each.index for each in sampled}:
                continue
            count = options.samples if photo.index in {each.index for each in averaged} else 1
            made, seconds = samples(model, photo, hole, count, options.steps, lifted=lifted)
            results[one] = made[0], seconds
            if count > 1:
                results[mean] = common.as_array(np.mean(made, axis=0)), seconds * count
        results[MEAN] = common.timed(
            partial(fill, model, blanked(photo, hole), hole, 0, 1, lifted=False)
        )
        results[FILLING] = common.timed(mean_filling, model, photo, hole)
        results[BIHARMONIC] = common.timed(biharmonic, photo, hole)
        results[TELEA] = common.timed(telea, photo, hole)
        row = [(case, blanked(photo, hole))]
        for name, (estimate, seconds) in results.items():
            quality = common.psnr(estimate, photo.pixels, hole)
            scores.rows.append(Score(photo.index, case, name, quality, seconds))
            row.append((f"{name}\n{quality:.2f} dB", estimate))
        if photo is shown:
            row.append(("truth", photo.pixels))
            crop = most_of(hole, 130)
            rows.append([(caption, picture[crop]) for caption, picture in row])
    common.save_grid(options.output / "inpaint.png", rows)
    report(options, model, scores)


def report(options: argparse.Namespace, model: DenoiserModel, scores: Scores) -> None:
    """Write the tables."""
    names = [NATIVE, LIFTED, NATIVE_MEAN, LIFTED_MEAN, MEAN, FILLING, BIHARMONIC, TELEA]
    names = [name for name in names if scores.pictures(name)]

    def quality(name: str) -> list[object]:
        psnr = [f"{scores.mean('psnr', name, case):.2f}" for case in MASKS]
        return [name, *psnr, f"{scores.mean('seconds', name):.2f}", scores.pictures(name)]

    def gains(ours: str) -> str:
        rows = [
            [name, *(f"{scores.gain(ours, name, case):+.2f}" for case in MASKS)]
            for name in names
            if name != ours
        ]
        return common.table([f"gain of {ours}, over", *MASKS], rows)

    parts = [
        ABOUT.format(steps=options.steps, samples=options.samples, sigma=model.sigma_max),
        common.table(["method", *MASKS, "seconds", "pictures"], map(quality, names)),
        "In dB, on the pictures that both did:",
        gains(FILLING),
        gains(NATIVE),
    ]
    if NATIVE_MEAN in names:
        parts.append(gains(NATIVE_MEAN))
    extra = [
        f"--{name.replace('_', '-')} {getattr(options, name)}"
        for name, default in DEFAULTS.items()
        if getattr(options, name) != default
    ]
    common.write_report(
        options,
        "inpaint",
        "Inpainting",
        parts,
        model=model,
        extra=extra,
        alt="crops with holes, as each method fills them, and whole",
    )


def main(argv: list[str] | None = None) -> None:
    """Read the options and run."""
    parser = common.parser(__doc__)
    parser.add_argument("--steps", type=int, default=DEFAULTS["steps"], help="Euler steps")
    parser.add_argument("--samples", type=int, default=DEFAULTS["samples"], help="to average")
    parser.add_argument(
        "--sample-pictures", type=int, default=DEFAULTS["sample_pictures"], help="to draw for"
    )
    parser.add_argument(
        "--mean-pictures", type=int, default=DEFAULTS["mean_pictures"], help="fewer for the means"
    )
    run(parser.parse_args(argv))


if __name__ == "__main__":
    main()
