"""Restoration of hidden damage, and of pictures that need none.

Each mode with each way of making the map restores pictures with scratches and dust at contrasts
from 5 to 60 grey levels, without being told of them, and the same pictures as they are, where it
should change nothing. The anomaly map is calibrated on the pictures as they are.
"""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.progress import track

import differential_diffusion as dd
from differential_diffusion.data.damage import add_hidden_damage
from differential_diffusion.models import DenoiserModel

from . import common
from .common import Photo, Score, Scores

PICTURES = 20
SEED = 4000
SHOWN = "deep, dynamic"  # which picture: where it gains the median
CROP = 270, 360
CELLS = "damaged", "standard, dynamic", "deep, dynamic", "clean"
METHODS = {
    "light": ("light", "static"),
    "standard, static": ("standard", "static"),
    "standard, dynamic": ("standard", "dynamic"),
    "deep, static": ("deep", "static"),
    "deep, dynamic": ("deep", "dynamic"),
}
HIDDEN, CLEAN, AS_GIVEN = "hidden damage", "clean", "as given"
DEVIATIONS = (2, 3, 4, 6)
GAUSSIAN = {2: 0.0455, 3: 0.0027, 4: 6.3e-5, 6: 2e-9}

ABOUT = (
    "**Hidden damage** (`data.damage.add_hidden_damage`, seeds from {seed}): 6 scratches and 30 "
    "specks of dust on each of {pictures} pictures, lighter or darker than what they cover by 5 "
    "to 60 grey levels; 8 bits. PSNR in dB against the picture without damage, and the gain over "
    "the damaged one: mean, and on the picture where it is least. **Clean**: the same pictures "
    "without damage; PSNR of the result against the input, mean over pictures (100 dB where "
    "nothing changed) and least. Seconds and evaluations for a damaged picture. Constants were "
    "fitted to training photographs."
)
CALIBRATION = (
    "**The anomaly map** on the clean pictures: variance of the deviations that `anomaly_map` "
    "gives, and the share of pixels beyond so many, beside a Gaussian's."
)


def same(result: NDArray[Any], wanted: NDArray[Any]) -> float:
    """PSNR in dB of two 8-bit pictures; 100 where they are equal."""
    if np.array_equal(result, wanted):
        return 100.0
    return min(100.0, common.psnr(result / 255, wanted / 255))


def pixels(photo: Photo) -> NDArray[np.uint8]:
    """The photograph in 8 bits."""
    return np.asarray(np.rint(photo.pixels * 255), np.uint8)


def run(options: argparse.Namespace) -> None:
    """Measure, then write the report."""
    model = common.load(options)
    photos = common.photographs(options)
    scores, evaluations, deviations, shown = Scores(), dict.fromkeys(METHODS, 0), [], {}
    for photo in track(photos, "restore"):
        clean = pixels(photo)
        damaged, _ = add_hidden_damage(clean, seed=SEED + photo.index)
        given = same(damaged, clean)
        scores.rows.append(Score(photo.index, HIDDEN, AS_GIVEN, given, float("nan")))
        cells = [(f"damaged\n{given:.2f} dB", damaged)]
        for name, (mode, control) in METHODS.items():
            for case, picture in ((HIDDEN, damaged), (CLEAN, clean)):
                made = dd.restore(picture, mode=mode, control_mechanism=control, model=model)
                quality = same(made.image, clean)
                scores.rows.append(Score(photo.index, case, name, quality, made.seconds))
                if case == HIDDEN:
                    evaluations[name] += made.evaluations
                    cells.append((f"{name}\n{quality:.2f} dB", made.image))
        deviations.append(dd.anomaly_map(clean, model=model).deviations.ravel())
        gain = scores.of(SHOWN, HIDDEN)[photo.index, HIDDEN].psnr - given
        shown[gain] = [*cells, ("clean", clean)]
    show(options, shown[sorted(shown)[len(shown) // 2]])
    report(options, model, scores, evaluations, np.concatenate(deviations))


def show(options: argparse.Namespace, cells: list[tuple[str, NDArray[np.uint8]]]) -> None:
    """Write the picture: a crop as it was given and as some modes restore it."""
    row = [
        (caption, common.centre(common.as_array(picture / 255), *CROP))
        for caption, picture in cells
        if caption.partition("\n")[0] in CELLS
    ]
    common.save_grid(options.output / "restore.png", [row[:2], row[2:]])


def report(
    options: argparse.Namespace,
    model: DenoiserModel,
    scores: Scores,
    evaluations: dict[str, int],
    deviations: NDArray[np.float32],
) -> None:
    """Write the tables."""
    given = scores.of(AS_GIVEN, HIDDEN)
    rows = [[AS_GIVEN, common.number(scores.mean("psnr", AS_GIVEN, HIDDEN)), *["–"] * 6]]
    for name in METHODS:
        damaged, clean = scores.of(name, HIDDEN), scores.of(name, CLEAN)
        gains = [damaged[key].psnr - given[key].psnr for key in given]
        kept = [score.psnr for score in clean.values()]
        rows.append(
            [
                name,
                common.number(scores.mean("psnr", name, HIDDEN)),
                f"{np.mean(gains):+.2f}",
                f"{np.min(gains):+.2f}",
                f"{np.mean(kept):.1f}",
                f"{np.min(kept):.1f}",
                common.number(scores.mean("seconds", name, HIDDEN), ".1f"),
                f"{evaluations[name] / len(given):.0f}",
            ]
        )
    header = ["mode, mechanism", "hidden damage", "gain", "least", "clean", "least", "seconds",
              "evaluations"]  # fmt: skip
    shares = [float((np.abs(deviations) > limit).mean()) for limit in DEVIATIONS]
    tails = [
        ["clean photographs", f"{deviations.var():.3f}", *(f"{100 * s:.3f} %" for s in shares)],
        ["Gaussian", "1", *(f"{100 * GAUSSIAN[limit]:.2g} %" for limit in DEVIATIONS)],
    ]
    parts = [
        ABOUT.format(seed=SEED, pictures=len(given)),
        common.table(header, rows),
        CALIBRATION,
        common.table(["", "variance", *(f"beyond {limit}" for limit in DEVIATIONS)], tails),
    ]
    common.write_report(
        options,
        "restore",
        "Restoring hidden damage",
        parts,
        model=model,
        alt="a crop with scratches and dust, as two modes restore it, and without damage",
    )


def main(argv: list[str] | None = None) -> None:
    """Read the options and run."""
    parser = common.parser(__doc__)
    parser.set_defaults(pictures=PICTURES)
    run(parser.parse_args(argv))


if __name__ == "__main__":
    main()
