"""JPEG files of CBSD68 at quality 10, 20 and 40, freed of blocks, beside filters.

Every method takes the same decoded file before the next one comes, so that what else the machine
does hits all alike; ours reads the file's tables and coefficients.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from itertools import product
from pathlib import Path

import cv2
import numpy as np
from PIL import Image
from rich.progress import track

from differential_diffusion.core.operators import Coefficients, Jpeg, JpegFormat
from differential_diffusion.engine import run_plan
from differential_diffusion.images import read
from differential_diffusion.models import DenoiserModel
from differential_diffusion.schema import DeblockRequest
from differential_diffusion.tasks import TASKS, TaskInput

from . import common
from .common import Array, Photo, Score, Scores

QUALITIES = (10, 20, 40)
SAMPLINGS = {"4:2:0": 2, "4:4:4": 0}
CASES = list(product(SAMPLINGS, QUALITIES))
FILE, OURS = "decoded file", "deblock"
NLM, BILATERAL, TV = "non-local means", "bilateral filter", "total variation"

NLM_GRID = (2.0, 4.0, 7.0, 10.0)
BILATERAL_GRID = ((10.0, 1.5), (20.0, 1.5), (30.0, 1.5), (20.0, 3.0))
TV_GRID = (0.01, 0.02, 0.04, 0.07)

SHOWN, CROP = 14, 150  # a tiger
ABOUT = (
    "Non-local means: OpenCV's for colours, h the best of {nlm}; bilateral filter: OpenCV's, of "
    "{bilateral} settings; total variation: scikit-image's `denoise_tv_chambolle`, its weight of "
    "{tv}: for each picture that with the most PSNR by the truth, in the time of one. PSNR-B "
    "(Yim and Bovik, 2011) is of brightness and counts what is left of the blocks' borders. A "
    "result lies as far outside as its farthest coefficient lies beyond its half step, before "
    "rounding and clipping; inside, it gives the same file again."
)


@dataclass(frozen=True)
class Coded:
    """A photograph in a JPEG file."""

    path: Path
    pixels: Array
    jpeg: Jpeg
    k: Coefficients

    @classmethod
    def of(cls, photo: Photo, folder: Path, quality: int, sampling: str) -> Coded:
        """Write the photograph by Pillow."""
        path = folder / f"{photo.index}-{quality}-{SAMPLINGS[sampling]}.jpg"
        clean = Image.fromarray(np.round(photo.pixels * 255).astype(np.uint8))
        clean.save(path, quality=quality, subsampling=SAMPLINGS[sampling])
        picture = read(path)
        k = picture.coefficients()
        if not isinstance(picture.jpeg, JpegFormat) or k is None:
            raise SystemExit("the coefficients cannot be read: install the extra 'jpeg'")
        jpeg = Jpeg(picture.jpeg, picture.height, picture.width)
        return cls(path, common.as_array(picture.pixels / 255), jpeg, k)

    def beyond(self, estimate: Array) -> float:
        """Steps from the cell to the coefficient that is farthest outside; 0 inside."""
        return max(0.0, float(self.jpeg.distance(common.to_tensor(estimate), self.k)) - 0.5)


Method = Callable[[Coded], Array]


def deblock(model: DenoiserModel, coded: Coded) -> Array:
    """Ours, neither rounded nor clipped."""
    picture = read(coded.path)
    source = TaskInput(picture.tensor(), False, 3, picture.jpeg, picture.coefficients)
    request = DeblockRequest(image=coded.path)
    run = partial(run_plan, model=model)
    return common.to_array(TASKS["deblock"].perform(request, source, run).samples)


def bytes_of(coded: Coded) -> Array:
    """The decoded pixels as OpenCV takes them."""
    return np.round(coded.pixels * 255).astype(np.uint8)


def non_local_means(h: float, coded: Coded) -> Array:
    """OpenCV's, in Lab colours."""
    made = cv2.fastNlMeansDenoisingColored(bytes_of(coded), None, h, h, 7, 21)
    return common.as_array(made / np.float32(255))


def bilateral(setting: tuple[float, float], coded: Coded) -> Array:
    """OpenCV's; deviations in value and in space."""
    made = cv2.bilateralFilter(bytes_of(coded), -1, *setting)
    return common.as_array(made / np.float32(255))


def total_variation(weight: float, coded: Coded) -> Array:
    """scikit-image's (Chambolle, 2004)."""
    from skimage.restoration import denoise_tv_chambolle

    return common.as_array(denoise_tv_chambolle(coded.pixels, weight, channel_axis=-1))


def brightness(picture: Array) -> Array:
    """(H,W) on the 8-bit scale (BT.601)."""
    return common.as_array(255 * np.clip(picture, 0, 1) @ np.array([0.299, 0.587, 0.114]))


def psnr_b(estimate: Array, clean: Array) -> float:
    """PSNR of brightness with the blocking effect factor added to the error (equations 11 to 15).

    Yim and Bovik (2011): the mean square step between neighbours across borders of blocks of 8,
    less that between all others, where it is larger.
    """
    made, truth = (brightness(picture).astype(np.float64) for picture in (estimate, clean))
    across, inside = [], []
    for lines in (made, made.T):
        steps = np.diff(lines, axis=1) ** 2
        border = np.arange(steps.shape[1]) % 8 == 7
        across.append(steps[:, border].ravel())
        inside.append(steps[:, ~border].ravel())
    excess = float(np.concatenate(across).mean() - np.concatenate(inside).mean())
    factor = np.log2(8) / np.log2(min(made.shape)) if excess > 0 else 0.0
    return float(10 * np.log10(255**2 / (((made - truth) ** 2).mean() + factor * excess)))


@dataclass
class Extras:
    """What a benchmark of JPEG measures beside scores, by method and case."""

    psnr_b: dict[tuple[str, str], list[float]] = field(default_factory=dict)
    beyond: dict[tuple[str, str], list[float]] = field(default_factory=dict)

    def add(self, method: str, case: str, blocked: float, beyond: float) -> None:
        """Add a picture."""
        self.psnr_b.setdefault((method, case), []).append(blocked)
        self.beyond.setdefault((method, case), []).append(beyond)


def methods_of(model: DenoiserModel) -> dict[str, list[Method]]:
    """Each method at all of its settings."""
    return {
        FILE: [lambda coded: coded.pixels],
        OURS: [partial(deblock, model)],
        NLM: [partial(non_local_means, h) for h in NLM_GRID],
        BILATERAL: [partial(bilateral, setting) for setting in BILATERAL_GRID],
        TV: [partial(total_variation, weight) for weight in TV_GRID],
    }


def best_of(tries: list[Method], coded: Coded, clean: Array) -> tuple[Array, float]:
    """The estimate with the most PSNR, and the seconds of one."""
    made = [common.timed(method, coded) for method in tries]
    return max(made, key=lambda pair: common.psnr(pair[0], clean))


def run(options: argparse.Namespace) -> None:
    """Measure, then write the report."""
    model = common.load(options)
    methods = methods_of(model)
    photos = common.photographs(options)
    shown = common.nearest(photos, SHOWN)
    scores, extras, cells = Scores(), Extras(), []
    with tempfile.TemporaryDirectory() as folder:
        for photo, (sampling, quality) in track(list(product(photos, CASES)), "jpeg"):
            coded = Coded.of(photo, Path(folder), quality, sampling)
            case, row = f"{quality}, {sampling}", []
            for name, tries in methods.items():
                made, seconds = best_of(tries, coded, photo.pixels)
                found, alike = common.psnr(made, photo.pixels), common.ssim(made, photo.pixels)
                scores.rows.append(Score(photo.index, case, name, found, seconds, alike))
                extras.add(name, case, psnr_b(made, photo.pixels), coded.beyond(made))
                row.append((f"{name}\n{found:.2f} dB", made))
            if photo is shown and sampling == "4:2:0":
                row[0] = (f"quality {quality}, {row[0][0]}", row[0][1])
                row.append(("original", photo.pixels))
                cells.append([(text, common.centre(part, CROP, CROP)) for text, part in row])
    common.save_grid(options.output / "jpeg.png", cells)
    report(options, model, scores, extras, list(methods))


def report(
    options: argparse.Namespace,
    model: DenoiserModel,
    scores: Scores,
    extras: Extras,
    methods: list[str],
) -> None:
    """Write the tables."""
    cases = [f"{quality}, {sampling}" for sampling, quality in CASES]

    def row(name: str, figures: list[str]) -> list[str]:
        return [f"**{name}**" if name == OURS else name, *figures]

    quality = [
        row(
            name,
            [
                f"{scores.mean('psnr', name, case):.2f} / {scores.mean('ssim', name, case):.3f}"
                for case in cases
            ],
        )
        for name in methods
    ]
    gains = [
        [
            *row(name, [f"{scores.gain(name, FILE, case):+.2f}" for case in cases]),
            f"{scores.mean('seconds', name):.2f}",
        ]
        for name in methods
        if name != FILE
    ]
    blocked = [
        row(name, [f"{np.mean(extras.psnr_b[name, case]):.2f}" for case in cases])
        for name in methods
    ]
    beyond = [
        row(name, [f"{np.max(extras.beyond[name, case]):.2f}" for case in cases])
        for name in methods
    ]
    pictures = scores.pictures(OURS)
    parts = [
        f"{pictures} pictures, encoded by Pillow. PSNR in dB / SSIM at each quality and sampling:",
        common.table(["method", *cases], quality),
        "Gain in dB over the decoded file, and seconds a picture:",
        common.table(["method", *cases, "seconds"], gains),
        "PSNR-B in dB:",
        common.table(["method", *cases], blocked),
        "Steps that the farthest coefficient of all pictures lies outside its cell:",
        common.table(["method", *cases], beyond),
        ABOUT.format(
            nlm=", ".join(f"{h:g}" for h in NLM_GRID),
            bilateral=len(BILATERAL_GRID),
            tv=", ".join(f"{w:g}" for w in TV_GRID),
        ),
    ]
    alt = "a crop as decoded from files of quality 10, 20 and 40, by each method, and the original"
    common.write_report(options, "jpeg", "JPEG", parts, model=model, alt=alt)


def main(argv: list[str] | None = None) -> None:
    """Read the options and run."""
    run(common.parser(__doc__).parse_args(argv))


if __name__ == "__main__":
    main()
