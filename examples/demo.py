"""The main job on a real photograph: damage it, let `restore` find and mend the damage.

    python examples/demo.py [--output FOLDER]

Scratches, dust, noise in one half and a missing patch are put on a clean photograph, so that
the outcome can be compared with the truth. `restore` is told nothing: it estimates the noise
of every pixel, finds the damage, fills it and denoises the rest.
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

import differential_diffusion as dd
from differential_diffusion.data.damage import add_dust, add_scratches
from differential_diffusion.maps.ops import heat_map

PHOTOGRAPH = Path(__file__).with_name("photograph.png")
PATCH = np.s_[20:60, 120:180]
Pixels = NDArray[np.uint8]


def damage(clean: Pixels, seed: int = 1) -> Pixels:
    """Noise rising towards the right from the middle on, scratches, dust, and a missing patch."""
    rng = np.random.default_rng(seed)
    width = clean.shape[1]
    sigma = 25 * np.clip((np.arange(width) - width / 2) / (width / 8), 0, 1)
    noisy = clean + rng.normal(size=clean.shape) * sigma[None, :, None]
    damaged = np.clip(np.rint(noisy), 0, 255).astype(np.uint8)
    damaged, _ = add_scratches(damaged, count=4, width=(1, 3), seed=seed)
    damaged, _ = add_dust(damaged, count=16, seed=seed)
    damaged[PATCH] = 255
    return damaged


def psnr(a: Pixels, b: Pixels) -> float:
    """Peak signal-to-noise ratio in dB."""
    return 10 * math.log10(255**2 / float(np.mean((a.astype(float) - b) ** 2)))


def panel(pictures: dict[str, Pixels], path: Path) -> None:
    """Write four pictures two by two, each under its caption."""
    gap, bar = 8, 26
    height, width = next(iter(pictures.values())).shape[:2]
    canvas = Image.new("RGB", (2 * width + gap, 2 * (height + bar)), "white")
    draw = ImageDraw.Draw(canvas)
    font = ImageFont.load_default(16)
    for index, (caption, pixels) in enumerate(pictures.items()):
        left, top = index % 2 * (width + gap), index // 2 * (height + bar)
        draw.text((left + 2, top + 2), caption, fill="black", font=font)
        canvas.paste(Image.fromarray(pixels), (left, top + bar))
    canvas.save(path)


def found(result: dd.Result) -> NDArray[np.float32]:
    """The damage at full strength, and the noise on a scale on which 100 is full."""
    damage, noise = result.damage, result.noise_level_8bit
    assert damage is not None
    assert noise is not None
    return np.maximum(damage, np.minimum(noise / 100, 1) * (noise > 2))


def main() -> None:
    """Damage, restore, compare."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=Path("demo-output"))
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    console = Console()

    clean = np.asarray(Image.open(PHOTOGRAPH).convert("RGB"))
    damaged = damage(clean, options.seed)
    source = options.output / "damaged.png"
    Image.fromarray(damaged).save(source)

    columns = TextColumn("{task.description}"), BarColumn(), TextColumn("{task.percentage:.0f} %")
    with Progress(*columns, TimeElapsedColumn(), console=console) as bar:
        job = bar.add_task("run 1", total=1.0)
        result = dd.restore(
            source,
            seed=options.seed,
            on_progress=lambda progress: bar.update(
                job, completed=progress.fraction, description=f"run {progress.run}"
            ),
        )
    target = result.save(options.output / "restored.png")

    restored = np.asarray(Image.open(target).convert("RGB"))
    kept = result.map == 0
    if not np.array_equal(restored[kept], damaged[kept]):
        raise SystemExit("pixels of strength 0 changed: please report this")
    sheet = options.output / "demo.png"
    panel(
        {
            "damaged": damaged,
            "what restore found": heat_map(found(result), damaged),
            "restored": restored,
            "original": clean,
        },
        sheet,
    )
    for note in result.notes:
        console.print(note)
    console.print(
        f"PSNR against the original: {psnr(damaged, clean):.1f} dB damaged, "
        f"{psnr(restored, clean):.1f} dB restored, in {result.seconds:.0f} s and "
        f"{result.evaluations} evaluations of the model"
    )
    console.print(f"{100 * kept.mean():.1f} % of the pixels had strength 0: all identical")
    console.print(f"The picture is at {target}, beside the original in {sheet}")


if __name__ == "__main__":
    main()
