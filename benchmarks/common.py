"""What the benchmarks share: options, photographs, noise, quality, scores and reports.

Pictures are arrays (H,W,3), float32, in [0,1] (a noisy one may leave that range); noise levels
are standard deviations on the 8-bit scale, one number or a map (H,W).
"""

from __future__ import annotations

import argparse
import os
import textwrap
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from differential_diffusion import core
from differential_diffusion.data.images import load_images
from differential_diffusion.models import DenoiserModel, load_model

Array = NDArray[np.float32]
Cell = tuple[str, Array]
T = TypeVar("T")

REPOSITORY = Path(__file__).resolve().parents[1]
DOCS = REPOSITORY / "docs" / "benchmarks"
ALL = 68  # pictures of CBSD68


# Options


def parser(description: str | None) -> argparse.ArgumentParser:
    """The options that every benchmark takes."""
    result = argparse.ArgumentParser(
        description=(description or "").splitlines()[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    data = os.environ.get("DIFFDIFF_TEST_DATA") or REPOSITORY.parent / "shared" / "data"
    add = result.add_argument
    add("--pictures", type=int, default=ALL, help="photographs to use, spread over the set")
    add("--model", default="prior", help="the bundled prior, or a checkpoint's folder")
    add("--data", type=Path, default=data, help="folder of cbsd68.tar (or DIFFDIFF_TEST_DATA)")
    add("--output", type=Path, default=DOCS, help="folder for the table and the picture")
    add("--threads", type=int, default=torch.get_num_threads(), help="of every method")
    add("--device", default="cpu", help="of our model; its peers run on the CPU")
    add("--precision", choices=["fp32", "bf16"], default="fp32", help="of our model")
    return result


def load(options: argparse.Namespace) -> DenoiserModel:
    """Set the number of threads and load the model."""
    torch.set_num_threads(options.threads)
    cv2.setNumThreads(options.threads)
    model = load_model(options.model, device=options.device, precision=options.precision)
    if not isinstance(model, DenoiserModel):
        raise SystemExit(f"'{options.model}' has no denoiser to measure: name one of ours")
    return model


# Photographs and noise


def as_array(picture: Any) -> Array:
    """The picture, or map, as float32."""
    return np.asarray(picture, np.float32)


@dataclass(frozen=True)
class Photo:
    """A clean photograph and its number in the whole set, which seeds its noise."""

    index: int
    name: str
    pixels: Array

    @property
    def size(self) -> tuple[int, int]:
        """(H, W)."""
        return self.pixels.shape[0], self.pixels.shape[1]


def photographs(options: argparse.Namespace) -> list[Photo]:
    """`--pictures` photographs of CBSD68, spread evenly over the set."""
    images = sorted(load_images(options.data / "cbsd68.tar").images)
    return [
        Photo(index, images[index].name, as_array(images[index].pixels / 255))
        for index in spread(len(images), options.pictures)
    ]


def spread(length: int, count: int) -> list[int]:
    """`count` of the numbers 0 … length - 1, evenly spread; all of them where count is larger."""
    count = max(1, min(count, length))
    return [(2 * k + 1) * length // (2 * count) for k in range(count)]


def random(*key: int) -> np.random.Generator:
    """Random numbers that depend on `key` alone."""
    return np.random.default_rng([20230601, *key])


def add_noise(photo: Photo, level: float | Array, stream: int) -> Array:
    """White Gaussian noise of a level or a map of levels (H,W), neither clipped nor rounded.

    Args:
        photo: its number seeds the noise, together with `stream`.
        level: on the 8-bit scale.
        stream: another number for another draw.
    """
    noise = random(photo.index, stream).standard_normal(photo.pixels.shape, np.float32)
    sigma = as_array(level).reshape(*np.shape(level), 1) / 255
    return as_array(photo.pixels + sigma * noise)


# Our model


def to_tensor(picture: Array) -> Tensor:
    """(H,W,3) in [0,1] to (1,3,H,W) in [-1,1]."""
    return torch.from_numpy(picture * 2 - 1).permute(2, 0, 1)[None]


def to_array(x: Tensor) -> Array:
    """(1,3,H,W) in [-1,1] to (H,W,3) in [0,1]."""
    return as_array((x[0].permute(1, 2, 0).cpu().numpy() + 1) / 2)


def denoiser_of(model: DenoiserModel) -> Callable[[Array, float | Array], Array]:
    """The model as a function of a noisy picture and its noise level, unrounded."""

    @torch.no_grad()
    def denoise(noisy: Array, level: float | Array) -> Array:
        sigma = torch.as_tensor(level, dtype=torch.float32) / 127.5
        sigma = sigma.reshape(1, 1, *(sigma.shape or (1, 1)))
        x = to_tensor(noisy).contiguous(memory_format=torch.channels_last)
        return to_array(model.denoiser(x.to(model.device), sigma.to(model.device)))

    return denoise


# Quality


def psnr(
    estimate: NDArray[Any], clean: NDArray[Any], where: NDArray[np.bool_] | None = None
) -> float:
    """PSNR in dB over all three channels, the estimate clipped to [0,1].

    Args:
        estimate, clean: (H,W,3).
        where: (H,W), count these pixels only.
    """
    error = (np.clip(estimate, 0, 1).astype(np.float64) - clean) ** 2
    return float(-10 * np.log10(error.mean() if where is None else error[where].mean()))


def ssim(estimate: NDArray[Any], clean: NDArray[Any]) -> float:
    """SSIM under Wang's Gaussian window, mean over channels, the estimate clipped to [0,1]."""
    a, b = (
        torch.from_numpy(np.clip(picture, 0, 1).astype(np.float64)).permute(2, 0, 1)[None]
        for picture in (estimate, clean)
    )
    return float(core.ssim(a, b, data_range=1.0))


def timed(function: Callable[..., T], *arguments: Any) -> tuple[T, float]:
    """What the function returns, and the wall time it took in seconds."""
    started = time.perf_counter()
    result = function(*arguments)
    return result, time.perf_counter() - started


@dataclass(frozen=True)
class Score:
    """How one method did on one picture of one case (a noise level, a kind of mask)."""

    picture: int
    case: str
    method: str
    psnr: float
    seconds: float
    ssim: float = float("nan")


@dataclass
class Scores:
    """All scores of a run. Methods may have done different pictures: compare them by pairs."""

    rows: list[Score] = field(default_factory=list)

    def of(self, method: str, case: str | None = None) -> dict[tuple[int, str], Score]:
        """Scores of a method by picture and case."""
        rows = (r for r in self.rows if r.method == method and case in (None, r.case))
        return {(r.picture, r.case): r for r in rows}

    def mean(self, what: str, method: str, case: str | None = None) -> float:
        """Mean of "psnr", "ssim" or "seconds" over what the method did; NaN for nothing."""
        values = [getattr(score, what) for score in self.of(method, case).values()]
        return float(np.mean(values)) if values else float("nan")

    def pictures(self, method: str, case: str | None = None) -> int:
        """How many pictures the method did."""
        return len({picture for picture, _ in self.of(method, case)})

    def gain(self, method: str, over: str, case: str | None = None) -> float:
        """Mean PSNR of `method` less that of `over`, on the pictures that both did."""
        pairs = self._pairs(method, over, case)
        return float(np.mean([a.psnr - b.psnr for a, b in pairs])) if pairs else float("nan")

    def times(self, method: str, over: str) -> float:
        """Time of `method` as a multiple of that of `over`, on the pictures that both did."""
        pairs = self._pairs(method, over, None)
        return sum(a.seconds for a, _ in pairs) / sum(b.seconds for _, b in pairs)

    def _pairs(self, method: str, over: str, case: str | None) -> list[tuple[Score, Score]]:
        a, b = self.of(method, case), self.of(over, case)
        return [(a[key], b[key]) for key in a.keys() & b.keys()]


# Reports


def table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A Markdown table; the first column is text, the others are figures."""
    lines = [header, ["---"] + ["---:"] * (len(header) - 1), *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)


def number(value: float, form: str = ".2f") -> str:
    """A figure, or a dash where there is none."""
    return "–" if np.isnan(value) else format(value, form)


def write_report(
    options: argparse.Namespace,
    name: str,
    title: str,
    parts: Sequence[str],
    *,
    model: DenoiserModel | str,
    extra: Sequence[str] = (),
    alt: str,
) -> None:
    """Write NAME.md into the output folder and put it into the page beside that folder.

    Args:
        options: of the run; state the command.
        name: of the benchmark and its picture, NAME.png.
        title: heading.
        parts: paragraphs and tables.
        model: states its card; or a sentence on what was run.
        extra: options of this benchmark that were used, as on the command line.
        alt: what the picture shows.
    """
    command = ["python -m benchmarks." + name, *extra]
    if options.pictures < ALL:
        command.append(f"--pictures {options.pictures}")
    if options.model != "prior":
        command.append("--model FOLDER")
    if options.device != "cpu":
        command.append(f"--device {options.device}")
    if options.precision != "fp32":
        command.append(f"--precision {options.precision}")
    command.append(f"--threads {options.threads}")
    described = model if isinstance(model, str) else describe_model(options, model)
    text = "\n\n".join(
        [
            f"## {title}",
            f"```sh\n{' '.join(command)}\n```",
            f"{described}. {describe_machine(options)}.",
            *parts,
            f"![{alt}]({name}.png)",
        ]
    )
    options.output.mkdir(parents=True, exist_ok=True)
    (options.output / f"{name}.md").write_text(text + "\n", encoding="utf-8")
    page = options.output.parent / f"{options.output.name}.md"
    if page.is_file():
        page.write_text(
            with_section(page.read_text(encoding="utf-8"), name, text, options.output.name),
            encoding="utf-8",
        )
    print(text)


def with_section(page: str, name: str, text: str, folder: str) -> str:
    """The page with what lies between `<!-- NAME -->` and `<!-- /NAME -->` replaced by `text`.

    Pictures, whose names begin with NAME, lie in `folder` as seen from the page. A page without the
    marks stays as it is.
    """
    before, begin, rest = page.partition(f"<!-- {name} -->\n")
    _, end, after = rest.partition(f"<!-- /{name} -->")
    if not end:
        return page
    text = text.replace(f"]({name}", f"]({folder}/{name}")
    return f"{before}{begin}\n{text}\n\n{end}{after}"


def describe_model(options: argparse.Namespace, model: DenoiserModel) -> str:
    """The model's name and the figures of its card."""
    name = "The bundled prior" if options.model == "prior" else f"Model `{Path(model.name).name}`"
    card = model.card or {}
    figures = [f"{k} {v:,}" for k, v in card.items() if isinstance(v, int | float)]
    return f"{name} ({', '.join(figures)})" if figures else name


def describe_machine(options: argparse.Namespace) -> str:
    """Where the figures come from, in general terms."""
    threads = f"{options.threads} thread" + "s" * (options.threads > 1)
    device = "" if options.device == "cpu" else f", the model on {options.device}"
    precision = {"fp32": "float32", "bf16": "bfloat16"}[options.precision]
    return f"CPU, {threads}{device}, {precision}"


def save_grid(path: Path, rows: Sequence[Sequence[Cell]]) -> None:
    """Write rows of pictures, their captions above them, as one PNG, pixel for pixel."""
    font, line, gap = ImageFont.load_default(size=11), 14, 6
    placed, top, right = [], 0, 0
    for row in rows:
        captions = [_wrap(caption, picture.shape[1]) for caption, picture in row]
        top += line * max(map(len, captions)) + gap
        left = gap
        for lines, (_, picture) in zip(captions, row, strict=True):
            placed.append((left, top, lines, picture))
            left += picture.shape[1] + gap
        right = max(right, left)
        top += max(picture.shape[0] for _, picture in row) + gap
    canvas = Image.new("RGB", (right, top), "white")
    draw = ImageDraw.Draw(canvas)
    for left, top, lines, picture in placed:
        for up, text in enumerate(reversed(lines), start=1):
            draw.text((left, top - up * line), text, fill="black", font=font)
        pixels = np.round(np.clip(picture, 0, 1) * 255).astype(np.uint8)
        canvas.paste(Image.fromarray(pixels), (left, top))
    path.parent.mkdir(parents=True, exist_ok=True)
    canvas.save(path, optimize=True)


def _wrap(caption: str, width: int) -> list[str]:
    """Lines of a caption that fit a width in pixels, at six to a letter."""
    return [part for text in caption.split("\n") for part in textwrap.wrap(text, width // 6)]


def save_figure(path: Path, figure: Any) -> None:
    """Write a figure of matplotlib's as a PNG and close it."""
    import matplotlib.pyplot as plt

    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)
    plt.close(figure)


def centre(picture: Array, height: int, width: int) -> Array:
    """The middle of a picture, at most so many rows and columns."""
    top = max(0, picture.shape[0] - height) // 2
    left = max(0, picture.shape[1] - width) // 2
    return picture[top : top + height, left : left + width]


def nearest(photos: Sequence[Photo], index: int) -> Photo:
    """The photograph whose number is nearest to `index`."""
    return min(photos, key=lambda photo: abs(photo.index - index))
