"""A small network behind an enhancement: it segments a picture better once the noise is gone.

    python examples/segmenter.py [--output FOLDER]

Any module or function that takes a picture stands here for yours. This one gives each pixel to the
nearest of a few prototypes of colour, learned from one photograph by Lloyd's algorithm.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

import differential_diffusion as dd

PHOTOGRAPH = Path(__file__).with_name("photograph.png")


class Segmenter(nn.Module):
    """The nearest of k colours, as a convolution of one pixel.

    Args:
        classes: k.
    """

    def __init__(self, classes: int = 5) -> None:
        super().__init__()
        self.scores = nn.Conv2d(3, classes, 1).requires_grad_(False)
        self.register_buffer("colours", torch.zeros(classes, 3))

    def forward(self, x: Tensor) -> Tensor:
        """Scores (B,k,H,W) of a picture (B,3,H,W) in [-1,1]: minus half the squared distance."""
        return self.scores(x)

    def learn(self, image: Any, seed: int = 0, rounds: int = 20) -> Segmenter:
        """Set the colours to those of a picture (Lloyd, 1982)."""
        pixels = as_tensor(image)[0].flatten(1).T
        generator = torch.Generator().manual_seed(seed)
        start = torch.randperm(len(pixels), generator=generator)[: len(self.colours)]
        self.colours = pixels[start].clone()
        for _ in range(rounds):
            nearest = torch.cdist(pixels, self.colours).argmin(1)
            for k in nearest.unique():
                self.colours[k] = pixels[nearest == k].mean(0)
        # -|x - c|²/2 = c·x - |c|²/2 - |x|²/2, whose last term is the same for all classes.
        self.scores.weight.copy_(self.colours[:, :, None, None])
        self.scores.bias.copy_(-self.colours.square().sum(1) / 2)
        return self

    def labels(self, image: Any) -> Tensor:
        """(H,W) class of each pixel."""
        return self(as_tensor(image))[0].argmax(0)

    def process_image(self, image: Any) -> Image.Image:
        """Each pixel in the colour of its class."""
        levels = (self.colours[self.labels(image)] * 127.5 + 127.5).round().clamp(0, 255)
        return Image.fromarray(levels.byte().numpy())


def as_tensor(image: Any) -> Tensor:
    """A PIL image, or an array (H,W,3) of 8 bits, as (1,3,H,W) in [-1,1]."""
    pixels = np.asarray(image.convert("RGB") if isinstance(image, Image.Image) else image)
    return torch.from_numpy(pixels / 127.5 - 1).permute(2, 0, 1)[None].float()


def main() -> None:
    """Segment a noisy photograph as it is, and enhanced."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=Path("segmenter-output"))
    parser.add_argument("--noise", type=float, default=20, help="σ on the 0-255 scale")
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    clean = np.asarray(Image.open(PHOTOGRAPH).convert("RGB"))
    noise = options.noise * np.random.default_rng(0).standard_normal(clean.shape)
    noisy = Image.fromarray(np.clip(np.rint(clean + noise), 0, 255).astype(np.uint8))
    network = Segmenter().learn(clean)
    enhanced = dd.enhance(noisy, "low").image
    truth = network.labels(clean)
    for name, picture in (("noisy", noisy), ("enhanced", enhanced)):
        network.process_image(picture).save(options.output / f"{name}-segments.png")
        agrees = (network.labels(picture) == truth).float().mean()
        print(f"{name}: {100 * agrees:.1f} % of the pixels in the class of the clean picture's")


if __name__ == "__main__":
    main()
