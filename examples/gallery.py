"""Before and after, for every task: a real photograph is spoiled, and the command line mends it.

    python examples/gallery.py [NAME ...] [--output FOLDER]

Each picture shows what the command was given and what it made of it, pixel for pixel. The
photograph is `photograph.png` beside this file; the model is the bundled prior.
"""

from __future__ import annotations

import argparse
import io
import math
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from rich.console import Console
from rich.table import Table

from differential_diffusion.core.operators import Blur, bayer, bicubic, gaussian_kernel
from differential_diffusion.data.damage import (
    add_dust,
    add_missing_patch,
    add_scratches,
)

Pixels = NDArray[np.uint8]
PHOTOGRAPH = Path(__file__).with_name("photograph.png")
FOLDER = Path(__file__).resolve().parents[1] / "docs" / "images" / "gallery"
CROP = np.s_[0:300, 90:390]


@dataclass(frozen=True)
class Entry:
    """One task.

    Attributes:
        command: of `diffdiff`, where {folder} stands for the folder with the spoiled picture.
        spoil: writes it, and maps, into a folder; returns what to show of it.
    """

    command: str
    spoil: Callable[[Pixels, Path], Pixels]


def _save(pixels: Pixels, folder: Path, name: str = "photo.png") -> Pixels:
    Image.fromarray(pixels).save(folder / name)
    return pixels


def _noisy(pixels: Pixels, sigma: float | NDArray[np.float64], seed: int = 0) -> Pixels:
    noise = np.random.default_rng(seed).standard_normal(pixels.shape)
    return _eight_bit(pixels + sigma * noise)


def _eight_bit(values: NDArray[np.floating]) -> Pixels:
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)


def _tensor(pixels: Pixels) -> torch.Tensor:
    return torch.from_numpy(pixels / 127.5 - 1).permute(2, 0, 1)[None]


def _pixels(x: torch.Tensor) -> Pixels:
    return _eight_bit((x[0].permute(1, 2, 0).numpy() + 1) * 127.5)


def _edit(photo: Pixels, folder: Path) -> Pixels:
    ramp = np.linspace(0, 255, photo.shape[1]).clip(0, 150).astype(np.uint8)
    _save(np.repeat(ramp[None], len(photo), 0), folder, "map.png")
    return _save(photo, folder)


def _holes(photo: Pixels, folder: Path) -> Pixels:
    spoiled, lines = add_scratches(photo, count=7, width=(3, 7), seed=5)
    spoiled, patch = add_missing_patch(spoiled, size=0.12, seed=3)
    _save((lines | patch).astype(np.uint8) * 255, folder, "mask.png")
    return _save(spoiled, folder)


def _lost(photo: Pixels, folder: Path) -> Pixels:
    lost = np.random.default_rng(0).random(photo.shape[:2]) < 0.5
    _save(lost.astype(np.uint8) * 255, folder, "mask.png")
    return _save(np.where(lost[..., None], 0, photo).astype(np.uint8), folder)


def _ramp_of_noise(photo: Pixels, folder: Path) -> Pixels:
    sigma = np.linspace(0, 45, photo.shape[1])[None, :, None]
    return _save(_noisy(photo, sigma), folder)


def _damaged(photo: Pixels, folder: Path) -> Pixels:
    spoiled, _ = add_scratches(_noisy(photo, 12), count=4, width=(1, 3), seed=1)
    spoiled, _ = add_dust(spoiled, count=16, seed=1)
    return _save(spoiled, folder)


def _small(photo: Pixels, folder: Path) -> Pixels:
    crop = photo[: len(photo) // 3 * 3, : photo.shape[1] // 3 * 3]
    small = _pixels(bicubic(*crop.shape[:2], 3).forward(_tensor(crop)))
    _save(small, folder)
    shown = small.repeat(3, 0).repeat(3, 1)
    return np.pad(shown, [(0, 0), (0, photo.shape[1] - shown.shape[1]), (0, 0)], "edge")


def _soft(photo: Pixels, folder: Path) -> Pixels:
    blurred = _pixels(Blur(gaussian_kernel(1.8)).forward(_tensor(photo).float()))
    return _save(_noisy(blurred, 2), folder)


def _jpeg(quality: int, sigma: float) -> Callable[[Pixels, Path], Pixels]:
    def spoil(photo: Pixels, folder: Path) -> Pixels:
        stream = io.BytesIO()
        Image.fromarray(_noisy(photo, sigma)).save(stream, "jpeg", quality=quality)
        (folder / "photo.jpg").write_bytes(stream.getvalue())
        return np.asarray(Image.open(folder / "photo.jpg"))

    return spoil


def _raw(photo: Pixels, folder: Path) -> Pixels:
    mosaic = bayer("RGGB", *photo.shape[:2]).forward(_tensor(photo).float())
    grey = _save(_pixels(mosaic)[..., 0], folder)
    return np.repeat(grey[..., None], 3, 2)


def _hinted(photo: Pixels, folder: Path) -> Pixels:
    grey = np.repeat(np.asarray(Image.fromarray(photo).convert("L"))[..., None], 3, 2)
    _save(grey, folder)
    there = np.zeros(photo.shape[:2], bool)
    rng = np.random.default_rng(0)
    for top, left in rng.integers(0, (photo.shape[0] - 6, photo.shape[1] - 6), (60, 2)):
        there[top : top + 5, left : left + 5] = True
    hints = np.dstack([photo, there.astype(np.uint8) * 255])
    Image.fromarray(hints).save(folder / "hints.png")
    return np.where(there[..., None], photo, grey)


ENTRIES = {
    "edit": Entry("edit {folder}/photo.png --strength {folder}/map.png --seed 1", _edit),
    "inpaint": Entry("inpaint {folder}/photo.png --mask {folder}/mask.png --steps 40", _holes),
    "lost-pixels": Entry(
        "inpaint {folder}/photo.png --mask {folder}/mask.png --estimate mean", _lost
    ),
    "denoise": Entry("denoise {folder}/photo.png", _ramp_of_noise),
    "restore": Entry("restore {folder}/photo.png --mode deep", _damaged),
    "upscale": Entry("upscale {folder}/photo.png --factor 3", _small),
    "deblur": Entry("deblur {folder}/photo.png --sigma 1.8", _soft),
    "deblock": Entry("deblock {folder}/photo.jpg", _jpeg(10, 0)),
    "demosaic": Entry("demosaic {folder}/photo.png --pattern RGGB", _raw),
    "colorize": Entry("colorize {folder}/photo.png --hints {folder}/hints.png", _hinted),
    "enhance": Entry("enhance {folder}/photo.jpg --level high", _jpeg(75, 5)),
}


def psnr(a: Pixels, b: Pixels) -> float:
    """Peak signal-to-noise ratio in dB."""
    error = float(np.mean((a.astype(float) - b) ** 2))
    return math.inf if error == 0 else 10 * math.log10(255**2 / error)


def side_by_side(cells: dict[str, Pixels], path: Path) -> None:
    """Write pictures of one size beside each other, each under its caption."""
    gap, bar = 8, 24
    height, width = next(iter(cells.values())).shape[:2]
    canvas = Image.new("RGB", (len(cells) * (width + gap) - gap, height + bar), "white")
    draw = ImageDraw.Draw(canvas)
    for index, (caption, pixels) in enumerate(cells.items()):
        left = index * (width + gap)
        draw.text((left + 2, 2), caption, fill="black", font=ImageFont.load_default(15))
        canvas.paste(Image.fromarray(pixels), (left, bar))
    path.parent.mkdir(parents=True, exist_ok=True)
    canvas.save(path, optimize=True)


def make(name: str, photo: Pixels, output: Path) -> tuple[float, float]:
    """Spoil, mend and show: PSNR before and after."""
    entry = ENTRIES[name]
    with tempfile.TemporaryDirectory() as folder:
        before = entry.spoil(photo, Path(folder))
        made = Path(folder) / "made.png"
        command = shlex.split(entry.command.format(folder=shlex.quote(folder)))
        program = [sys.executable, "-m", "differential_diffusion"]
        subprocess.run([*program, *command, "--quiet", "-o", str(made)], check=True)
        after = np.asarray(Image.open(made).convert("RGB"))
    wide = np.pad(after, [(0, 0), (0, photo.shape[1] - after.shape[1]), (0, 0)], "edge")
    scores = psnr(before, photo), psnr(wide, photo)
    captions = [
        f"{word}: {score:.1f} dB" for word, score in zip(("before", "after"), scores, strict=True)
    ]
    if name == "edit":
        captions = ["before", "after"]
    cells = {captions[0]: before[CROP], captions[1]: wide[CROP]}
    side_by_side(cells, output / f"{name}.png")
    return scores


def main() -> None:
    """Make those named, or all."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(ENTRIES)}")
    parser.add_argument("--output", type=Path, default=FOLDER, help="folder for the pictures")
    options = parser.parse_args()
    unknown = sorted(set(options.names) - set(ENTRIES))
    if unknown:
        parser.error(f"no entry is called {', '.join(unknown)}: use {', '.join(ENTRIES)}")
    photo = np.asarray(Image.open(PHOTOGRAPH).convert("RGB"))
    table = Table("task", "before, dB", "after, dB")
    for name in options.names or ENTRIES:
        before, after = make(name, photo, options.output)
        table.add_row(name, f"{before:.1f}", f"{after:.1f}")
    Console().print(table)


if __name__ == "__main__":
    main()
