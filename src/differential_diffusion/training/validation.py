"""What a run shows of itself: denoising PSNR on held-out pictures, and a grid of samples."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ..core.metrics import psnr
from ..core.noise import PositionalNoise
from ..core.path import wait
from ..core.precondition import edm
from ..core.sample import sample
from ..core.solvers import SOLVERS
from ..core.types import Denoiser
from ..data.crops import to_tensor
from ..data.images import NamedImage
from ..models.checkpoint import CheckpointConfig
from ..nn import SigmaMapUNet
from .config import ValidationConfig

_SEED = 20240


def _centre(image: NamedImage, side: int) -> Tensor:
    """The middle of a picture as (1,3,h,w) in [-1,1], at most `side` pixels a side."""
    h, w = image.pixels.shape[:2]
    top, left = max(0, (h - side) // 2), max(0, (w - side) // 2)
    return to_tensor(image.pixels[top : top + side, left : left + side])[None]


@torch.no_grad()
def validate(
    network: SigmaMapUNet,
    images: Sequence[NamedImage],
    config: ValidationConfig,
    sigma_data: float,
) -> dict[str, float]:
    """Mean PSNR in dB of one-step denoising at each noise level, noise not clipped."""
    device = next(network.parameters()).device
    denoise = edm(network, sigma_data)
    metrics = {}
    for level in config.noise_levels_8bit:
        sigma = torch.full((1, 1, 1, 1), level / 127.5, device=device)
        scores = []
        for index, image in enumerate(images):
            x0 = _centre(image, config.crop)
            noise = PositionalNoise([_SEED + index], *x0.shape[1:])(0)
            x = (x0 + sigma.cpu() * noise).to(device, memory_format=torch.channels_last)
            estimate = denoise(x, sigma).clamp(-1, 1).cpu()
            scores.append(float(psnr(estimate, x0, data_range=2.0).mean()))
        metrics[f"psnr_{level:g}"] = sum(scores) / len(scores)
    return metrics


@torch.no_grad()
def draw_grid(
    network: SigmaMapUNet,
    images: Sequence[NamedImage],
    model: CheckpointConfig,
    config: ValidationConfig,
    path: Path,
) -> None:
    """Write a PNG: for four pictures clean, noisy, denoised, holed and inpainted, and a sample."""
    device = next(network.parameters()).device
    denoise = edm(network, model.sigma_data)
    side = min(config.crop, 128)
    sigma = torch.tensor(50 / 127.5)
    rows = []
    for index, image in enumerate(images[:4]):
        x0 = _centre(image, side)
        noise = PositionalNoise([_SEED + index], *x0.shape[1:])
        noisy = x0 + sigma * noise(0)
        denoised = denoise(noisy.to(device), sigma.view(1, 1, 1, 1).to(device)).cpu()
        hole = torch.zeros(1, 1, *x0.shape[-2:])
        h, w = x0.shape[-2:]
        hole[..., h // 3 : h // 2, w // 4 : 3 * w // 4] = 1
        filled, generated = (
            _sample(denoise, x0, m * model.sigma_max, noise, model, config.sample_steps, device)
            for m in (hole, torch.ones_like(hole))
        )
        strip = [x0, noisy, denoised, x0 * (1 - hole), filled, generated]
        canvas = [torch.nn.functional.pad(t, (0, side - w, 0, side - h), value=1) for t in strip]
        rows.append(torch.cat(canvas, dim=-1))
    grid = torch.cat(rows, dim=-2)[0].clamp(-1, 1)
    pixels = ((grid + 1) * 127.5).round().to(torch.uint8).permute(1, 2, 0).numpy()
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.ascontiguousarray(pixels)).save(path)


def _sample(
    denoise: Denoiser,
    x0: Tensor,
    start: Tensor,
    noise: PositionalNoise,
    model: CheckpointConfig,
    steps: int,
    device: torch.device,
) -> Tensor:
    """x0 noised to the map `start` with draw 1, then the ODE back to a clean picture."""
    path = wait(
        start, steps=steps, sigma_min=model.sigma_min, sigma_max=model.sigma_max, rho=model.rho
    )
    x = (x0 + start * noise(1)).to(device)
    return sample(denoise, x, path, SOLVERS["ddim"]()).cpu()
