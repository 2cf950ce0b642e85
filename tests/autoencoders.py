"""Small autoencoders for tests."""

from __future__ import annotations

from typing import Any

import torch

from differential_diffusion.models.autoencoder import build_autoencoder


def tiny_autoencoder(seed: int = 0, **changed: Any) -> Any:
    """An untrained `AutoencoderKL` with cells of 4 x 4 pixels and two channels of latents."""
    shape: dict[str, Any] = {
        "channels": (8, 8, 8),
        "blocks": 1,
        "latent_channels": 2,
        "norm_groups": 4,
        "attention": False,
        "pixel_channels": 3,
        "side": 16,
    }
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build_autoencoder(**(shape | changed)).eval().requires_grad_(False)
