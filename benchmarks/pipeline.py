"""What a soft local edit costs in a Diffusers pipeline, beside the published loop.

Stable Diffusion 1.5's architecture with random weights: time does not depend on what was learned.
A call is the whole of it: text encoder, autoencoder both ways, guidance. The published loop is run
by the same pipeline (`compat="published"`, which tests hold to be its equal bit for bit): all
steps, on the whole picture, whatever the map.
"""

from __future__ import annotations

import argparse
import json
import math
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from rich.progress import track

import differential_diffusion as dd

from . import common
from .common import Array

AREAS = (1, 5, 10, 25, 50, 100)
LARGEST = 0.6
SIDE, STEPS = 1024, 20
SETTINGS = {"prompt": "a red barn in the snow", "negative_prompt": "blurred", "guidance_scale": 7.5}
PUBLISHED = {"compat": "published", "exact": False, "skip_idle": False, "region": "whole"}

ABOUT = (
    "A soft disc over a share of a picture of {size} x {size} pixels, strength {largest} in its "
    "middle and 0 at its edge, {steps} steps, guidance on. What changes is cropped, to no less "
    "than the 512 pixels a side that the model was made for. Seconds of the whole call, "
    "evaluations of the network, and how many times faster than the published loop, which took "
    "{published:.0f} s for {evaluations} evaluations:"
)


class Row(NamedTuple):
    """One area."""

    percent: float
    seconds: float
    evaluations: int


def tokenizer(folder: Path) -> Any:
    """CLIP's, with letters for words."""
    from transformers import CLIPTokenizer

    letters = [chr(code) for code in range(33, 127)]
    words = [*letters, *(letter + "</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    (folder / "vocab.json").write_text(json.dumps({word: at for at, word in enumerate(words)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    return CLIPTokenizer(
        str(folder / "vocab.json"), str(folder / "merges.txt"), model_max_length=77
    )


def stable_diffusion(dtype: torch.dtype) -> Any:
    """The architecture of Stable Diffusion 1.5 as an image-to-image pipeline."""
    from diffusers import (
        AutoencoderKL,
        DDIMScheduler,
        StableDiffusionImg2ImgPipeline,
        UNet2DConditionModel,
    )
    from transformers import CLIPTextConfig, CLIPTextModel

    torch.manual_seed(0)
    widths = (128, 256, 512, 512)
    with tempfile.TemporaryDirectory() as folder:
        tokens = tokenizer(Path(folder))
    pipeline = StableDiffusionImg2ImgPipeline(
        vae=AutoencoderKL(
            block_out_channels=widths,
            layers_per_block=2,
            down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4,
            latent_channels=4,
        ),
        text_encoder=CLIPTextModel(
            CLIPTextConfig(
                hidden_size=768,
                intermediate_size=3072,
                num_hidden_layers=12,
                num_attention_heads=12,
                vocab_size=49_408,
            )
        ),
        tokenizer=tokens,
        unet=UNet2DConditionModel(sample_size=64, cross_attention_dim=768, attention_head_dim=8),
        scheduler=DDIMScheduler(
            beta_start=0.00085,
            beta_end=0.012,
            beta_schedule="scaled_linear",
            clip_sample=False,
            steps_offset=1,
        ),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    ).to(dtype=dtype)
    for part in (pipeline.unet, pipeline.vae):
        part.to(memory_format=torch.channels_last)
    return pipeline


def soft_disc(side: int, percent: float) -> Array:
    """Strength (H,W): a disc of this share, `LARGEST` in its middle and 0 at its edge."""
    if percent >= 100:
        return np.full((side, side), LARGEST, np.float32)
    rows, columns = np.mgrid[:side, :side] - (side - 1) / 2
    radius = side * math.sqrt(percent / 100 / math.pi)
    fall = np.clip(1 - np.hypot(rows, columns) / radius, 0, 1)
    return common.as_array(LARGEST * np.minimum(1, 3 * fall))


def run(options: argparse.Namespace) -> None:
    """Measure, then write the report."""
    torch.set_num_threads(options.threads)
    dtype = torch.bfloat16 if options.precision == "bf16" else torch.float32
    pipeline = stable_diffusion(dtype).to(options.device)
    side = options.size
    noise = np.random.default_rng(0).integers(0, 256, (side // 32, side // 32, 3), dtype=np.uint8)
    image = noise.repeat(32, 0).repeat(32, 1)
    given: dict[str, Any] = {"model": pipeline, "steps": options.steps, **SETTINGS}
    dd.edit(image[:64, :64], LARGEST, **{**given, "steps": 2})  # the first call loads things
    everywhere = soft_disc(side, 25)
    whole = dd.edit(image, everywhere, **given, **PUBLISHED)
    rows = []
    for percent in track(options.areas, "areas"):
        result = dd.edit(image, soft_disc(side, percent), **given)
        rows.append(Row(percent, result.seconds, result.evaluations))
    draw(options, rows, whole.seconds)
    table = [
        [
            f"{row.percent:g} %",
            f"{row.seconds:.1f}",
            row.evaluations,
            f"{whole.seconds / row.seconds:.1f}",
        ]
        for row in rows
    ]
    about = ABOUT.format(
        size=side,
        largest=LARGEST,
        steps=options.steps,
        published=whole.seconds,
        evaluations=whole.evaluations,
    )
    common.write_report(
        options,
        "pipeline",
        "Local edits in a Diffusers pipeline",
        [about, common.table(["edited area", "seconds", "evaluations", "times faster"], table)],
        model="Stable Diffusion 1.5's architecture, random weights",
        extra=_stated(options),
        alt="seconds against edited area, below the published loop",
    )


def _stated(options: argparse.Namespace) -> list[str]:
    """The options that were not left as they are."""
    areas = " ".join(f"{area:g}" for area in options.areas)
    return [
        *([] if options.size == SIDE else [f"--size {options.size}"]),
        *([] if options.steps == STEPS else [f"--steps {options.steps}"]),
        *([] if options.areas == list(AREAS) else [f"--areas {areas}"]),
    ]


def draw(options: argparse.Namespace, rows: list[Row], published: float) -> None:
    """Plot time against area."""
    import matplotlib.pyplot as plt

    figure, axis = plt.subplots(figsize=(6, 3.4), layout="constrained")
    axis.axhline(published, color="tab:red", linestyle="--", label="published loop")
    axis.plot([r.percent for r in rows], [r.seconds for r in rows], "o-", label="differential")
    axis.set(xlabel="edited area, %", ylabel="seconds, whole call", ylim=(0, None))
    axis.grid(alpha=0.3)
    axis.legend(fontsize=8)
    common.save_figure(options.output / "pipeline.png", figure)


def main(argv: list[str] | None = None) -> None:
    """Read the options and run."""
    parser = common.parser(__doc__)
    parser.add_argument("--size", type=int, default=SIDE, help="side of the picture in pixels")
    parser.add_argument("--steps", type=int, default=STEPS, help="of the whole ladder")
    parser.add_argument("--areas", type=float, nargs="+", default=list(AREAS), help="in percent")
    run(parser.parse_args(argv))


if __name__ == "__main__":
    main()
