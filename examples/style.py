"""A network that guides: redraw a picture towards the texture of another.

    python examples/style.py [--output FOLDER] [--strength 0.4] [--weight 4000]

The style is what the Gram matrix of a small network's features says of a picture (Gatys, Ecker and
Bethge, 2016); random filters will do for it (He, Wang and Hopcroft, 2016). In every step of the
sampling the estimate goes a little down the gradient of its distance to the style's.
"""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

import differential_diffusion as dd
from differential_diffusion.core import loss_guidance
from differential_diffusion.core.plan import Plan
from differential_diffusion.engine import run_plan

PHOTOGRAPH = Path(__file__).with_name("photograph.png")


class Style(nn.Module):
    """How far a picture is from the style of another, and a picture redrawn towards it.

    Args:
        style: (H,W,3) of 8 bits, or a PIL image.
        strength: how much of the picture to redraw, in [0, 1].
        weight: how much the style counts.
        filters: how many random ones, at each of three scales.
        steps: of the whole ladder.
        seed: of filters and noise.
        model: a model reference, or a loaded model.
    """

    def __init__(
        self,
        style: Any,
        *,
        strength: float = 0.4,
        weight: float = 4000.0,
        filters: int = 24,
        steps: int = 40,
        seed: int = 0,
        model: Any = "prior",
    ) -> None:
        super().__init__()
        self.strength, self.weight, self.steps, self.seed = strength, weight, steps, seed
        self.model = dd.load_model(model)
        random = torch.randn(filters, 3, 5, 5, generator=torch.Generator().manual_seed(seed))
        random -= random.mean((2, 3), keepdim=True)  # texture alone: no colour
        self.register_buffer("filters", random / random.flatten(1).norm(dim=1).view(-1, 1, 1, 1))
        self.wanted = [gram.detach() for gram in self.grams(as_tensor(style))]

    def grams(self, x: Tensor) -> list[Tensor]:
        """Mean products (B,k,k) of the features of a picture (B,3,H,W), at each scale."""
        grams = []
        for _ in range(3):
            features = F.relu(F.conv2d(x, self.filters, padding="valid")).flatten(2)
            grams.append(features @ features.mT / features.shape[-1])
            x = F.avg_pool2d(x, 2)
        return grams

    def forward(self, x: Tensor) -> Tensor:
        """Squared distance to the style, (B,)."""
        pairs = zip(self.grams(x.clamp(-1, 1)), self.wanted, strict=True)
        return torch.stack([(a - b).square().mean((1, 2)) for a, b in pairs]).sum(0)

    def process_image(self, image: Any) -> Image.Image:
        """The picture, redrawn towards the style."""
        x = as_tensor(image)
        weight = self.weight * x.shape[-1] * x.shape[-2]  # as the distance is a mean over pixels
        guide = partial(loss_guidance, loss=self, scale=weight, through_denoiser=False)
        strength = torch.full((1, 1, 1, 1), float(self.strength))
        plan = Plan(x, strength, seeds=(self.seed,), steps=self.steps, guide=guide)
        with torch.no_grad():
            made = run_plan(plan, self.model)[0]
        levels = (made * 127.5 + 127.5).round().clamp(0, 255).byte()
        return Image.fromarray(levels.permute(1, 2, 0).numpy())


def as_tensor(image: Any) -> Tensor:
    """A PIL image, or an array (H,W,3) of 8 bits, as (1,3,H,W) in [-1,1]."""
    pixels = np.asarray(image.convert("RGB") if isinstance(image, Image.Image) else image)
    return torch.from_numpy(pixels / 127.5 - 1).permute(2, 0, 1)[None].float()


def hatching(side: int = 256) -> Image.Image:
    """A style made here: strokes of a pen in two directions."""
    row, column = np.mgrid[0:side, 0:side].astype(float)
    wobble = 2 * np.sin(row / 17) + 2 * np.cos(column / 13)
    strokes = np.maximum(np.cos((row + column + wobble) / 1.3), np.cos((row - column) / 2.1) - 0.2)
    level = 170 + 70 * np.tanh(3 * strokes)
    return Image.fromarray(np.clip(level[..., None] * np.ones(3), 0, 255).astype(np.uint8))


def main() -> None:
    """Redraw the photograph, enhanced, in hatching."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=Path("style-output"))
    parser.add_argument("--strength", type=float, default=0.4)
    parser.add_argument("--weight", type=float, default=4000.0)
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    style = hatching()
    network = Style(style, strength=options.strength, weight=options.weight)
    enhanced = dd.enhance(Image.open(PHOTOGRAPH).convert("RGB"), "medium").image
    made = network.process_image(enhanced)
    style.save(options.output / "style.png")
    made.save(options.output / "redrawn.png")
    for name, picture in (("enhanced", enhanced), ("redrawn", made)):
        print(f"{name}: {float(network(as_tensor(picture))):.5f} from the style")


if __name__ == "__main__":
    main()
