"""Every objective learns a law: samples are as near to it as its own halves are to each other.

The distance is the sliced Wasserstein one, the mean over projections of that between sorted values.
A sample of the law itself has a distance of about one half-split; the bar is two.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from differential_diffusion.core import SOLVERS, sample, wait
from differential_diffusion.engine import draw_samples
from differential_diffusion.models import load_model
from differential_diffusion.training import TrainingConfig, train
from differential_diffusion.training.objectives import OBJECTIVES, RANGES

BAR = 2.0
COUNT = 1000
FIELDS = pytest.mark.parametrize("maps", [False, True], ids=["one-level", "maps"])
ALL = pytest.mark.parametrize("name", OBJECTIVES)
Array = NDArray[np.floating[Any]]


def sliced(a: Array, b: Array, slices: int = 200) -> float:
    """Sliced Wasserstein distance of as many rows of each."""
    count, rng = min(len(a), len(b)), np.random.default_rng(0)
    axes = rng.standard_normal((a.shape[1], slices))
    axes /= np.linalg.norm(axes, axis=0)
    return float(np.abs(np.sort(a[:count] @ axes, 0) - np.sort(b[:count] @ axes, 0)).mean())


def mixture(count: int, seed: int) -> Tensor:
    """Six narrow modes on a circle, as pictures of two pixels (count,1,1,2)."""
    rng = torch.Generator().manual_seed(seed)
    angle = torch.randint(0, 6, (count,), generator=rng) * (math.pi / 3)
    centre = 0.7 * torch.stack([angle.cos(), angle.sin()], dim=1)
    return (centre + 0.08 * torch.randn(count, 2, generator=rng)).view(count, 1, 1, 2)


class Perceptron(nn.Module):
    """Of two pixels with a level each: Fourier features that the levels move, and a linear part."""

    frequencies: Tensor
    axes: Tensor

    def __init__(self, width: int = 128, features: int = 32) -> None:
        super().__init__()
        rng = torch.Generator().manual_seed(0)
        self.register_buffer("axes", 2.5 * torch.randn(2, features, generator=rng))
        self.register_buffer("frequencies", torch.tensor([2.0, 4.0, 8.0, 16.0]))
        self.film = nn.Sequential(nn.Linear(16, 64), nn.SiLU(), nn.Linear(64, 2 * width))
        self.gain = nn.Sequential(nn.Linear(16, 32), nn.SiLU(), nn.Linear(32, 2))
        nn.init.zeros_(self.gain[2].weight)
        nn.init.zeros_(self.gain[2].bias)
        self.first = nn.Linear(2 + 2 * features, width)
        self.inner = nn.ModuleList(nn.Linear(width, width) for _ in range(2))
        self.last = nn.Linear(width, 2)

    def forward(self, x: Tensor, level: Tensor) -> Tensor:
        angle = level.expand(len(x), 1, 1, 2).flatten(1)[..., None] * self.frequencies
        told = torch.cat([angle.sin(), angle.cos()], dim=-1).flatten(1)
        scale, shift = self.film(told).chunk(2, dim=1)
        flat = x.flatten(1)
        seen = torch.cat([flat, (flat @ self.axes).sin(), (flat @ self.axes).cos()], dim=1)
        h = F.silu(self.first(seen) * (1 + scale) + shift)
        for layer in self.inner:
            h = h + F.silu(layer(h))
        out: Tensor = self.last(h) + flat * self.gain(told)
        return out.view(x.shape)


def trained(name: str, maps: bool, steps: int = 2000) -> Any:
    """A denoiser of the mixture; with maps, half of the pictures have two levels."""
    objective, (low, high) = OBJECTIVES[name], RANGES[name]
    torch.manual_seed(0)
    network, rng = Perceptron(), torch.Generator().manual_seed(1)
    optimizer = torch.optim.AdamW(network.parameters(), 3e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    data = mixture(20_000, 0)
    for _ in range(steps):
        x0 = data[torch.randint(0, len(data), (512,), generator=rng)]
        levels = torch.stack([objective.levels.sample(512, rng) for _ in range(2)], dim=1)
        one = torch.rand(512, 1, generator=rng) < (0.5 if maps else 1.1)
        sigma = torch.where(one, levels[:, :1], levels).clamp(low, high).view(-1, 1, 1, 2)
        noise = torch.randn(x0.shape, generator=rng)
        optimizer.zero_grad()
        objective.loss(network, x0, sigma, noise).mean().backward()
        nn.utils.clip_grad_norm_(network.parameters(), 5.0)
        optimizer.step()
        schedule.step()
    return objective.form.denoiser(network.eval())


@pytest.mark.slow
@FIELDS
@ALL
def test_a_mixture_is_learnt(name: str, maps: bool) -> None:
    denoise, (low, high) = trained(name, maps), RANGES[name]
    law = [mixture(COUNT, 100 + k).flatten(1).numpy() for k in range(10)]
    half = np.mean([sliced(a, b) for a, b in zip(law[::2], law[1::2], strict=True)])
    found = {}
    for solver, steps in (("heun", 30), ("dpmpp_2m_sde", 50)):
        start = torch.full((1, 1, 1, 1), high)
        path = wait(start, torch.zeros_like(start), steps, sigma_min=low, sigma_max=high)
        distances = []
        for k in range(5):

            def noise(draw: int, k: int = k) -> Tensor:
                rng = torch.Generator().manual_seed(1000 * k + draw)
                return torch.randn(COUNT, 1, 1, 2, generator=rng)

            with torch.no_grad():
                made = sample(denoise, high * noise(999), path, SOLVERS[solver](), noise)
            distances.append(sliced(made.flatten(1).numpy(), law[k]))
        found[solver] = float(np.mean(distances) / half)
    assert max(found.values()) < BAR, found


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The 1,797 digits of scikit-learn as PNGs of 8 x 8 pixels."""
    from sklearn.datasets import load_digits

    folder = tmp_path_factory.mktemp("digits")
    for number, image in enumerate(load_digits().images):
        pixels = np.rint(image * 255 / 16).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{number:04d}.png")
    return folder


def config_of(digits: Path, output: Path, name: str, maps: bool, steps: int) -> TrainingConfig:
    noise: dict[str, Any] = {"coloured": 0}
    if name == "edm":
        noise |= {"mean": -1.0, "sigma_max": 40.0}
    return TrainingConfig.model_validate(
        {
            "output": str(output),
            "steps": steps,
            "batch_size": 32,
            "data": {
                "path": str(digits),
                "channels": 1,
                "patch_size": 8,
                "cut": "fit",
                "symmetries": "none",
                "validation": 64,
            },
            "network": {
                "channels": [32, 64],
                "blocks": [2, 2],
                "patch": 1,
                "attention": [1],
                "embedding_channels": 48,
            },
            "objective": {"name": name, "maps": maps},
            "noise": noise,
            "optimizer": {"warmup_steps": 50, "ema_halflife": 100, "decay": 0.6},
            "validation": {"every": steps, "crop": 16},
            "checkpoint": {"every": steps, "keep": 1},
        }
    )


@pytest.mark.slow
@FIELDS
@ALL
def test_the_digits_are_learnt(name: str, maps: bool, digits: Path, tmp_path: Path) -> None:
    model = load_model(train(config_of(digits, tmp_path / "run", name, maps, 700)), device="cpu")
    law = np.stack([np.asarray(Image.open(p)).ravel() for p in sorted(digits.iterdir())]) / 127.5
    rng = np.random.default_rng(1)
    halves = [np.array_split(law[rng.permutation(len(law))], 2) for _ in range(10)]
    half = np.mean([sliced(a, b) for a, b in halves])
    found = {}
    for solver, steps in (("heun", 12), ("dpmpp_2m_sde", 25)):
        drawn = draw_samples(model, 898, solver=solver, steps=steps, batch_size=449)
        made = np.stack([one.pixels.ravel() for one in drawn]) / 127.5
        found[solver] = float(np.mean([sliced(made, b) for _, b in halves]) / half)
    assert max(found.values()) < BAR, found
