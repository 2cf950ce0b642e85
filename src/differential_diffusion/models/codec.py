"""A pipeline's autoencoder, used as the pipeline itself uses it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

__all__ = ["decoded", "decoded_video", "encoded", "pack", "pixels_of", "posterior", "unpack"]


def pack(x: Tensor) -> Tensor:
    """Latents (B,C,h,w) as tokens of 2x2 cells, (B, h/2 w/2, 4C), as Flux and its kin have them."""
    batch, channels, height, width = x.shape
    x = x.view(batch, channels, height // 2, 2, width // 2, 2)
    return x.permute(0, 2, 4, 1, 3, 5).reshape(batch, height * width // 4, 4 * channels)


def unpack(tokens: Tensor, height: int, width: int) -> Tensor:
    """The inverse of `pack` for latents of h x w cells."""
    batch, _, channels = tokens.shape
    x = tokens.view(batch, height // 2, width // 2, channels // 4, 2, 2)
    return x.permute(0, 3, 1, 4, 2, 5).reshape(batch, channels // 4, height, width)


@contextmanager
def _in_full(vae: Any) -> Iterator[Any]:
    """The autoencoder in float32, if it asks for that: SDXL's overflows in half precision."""
    dtype = vae.dtype
    upcast = dtype != torch.float32 and getattr(vae.config, "force_upcast", False)
    if upcast:
        vae.to(dtype=torch.float32)
    try:
        yield vae
    finally:
        if upcast:
            vae.to(dtype=dtype)


@torch.no_grad()
def posterior(vae: Any, pixels: Tensor, device: torch.device | None = None) -> Any:
    """The law of the latents of pixels (B,C,H,W) in [-1, 1], as Diffusers has it.

    Args:
        vae: an autoencoder.
        pixels: of sides that are multiples of its cells.
        device: where it computes, if not where its weights are.
    """
    with _in_full(vae) as full:
        return full.encode(pixels.to(device or full.device, full.dtype)).latent_dist


@torch.no_grad()
def pixels_of(vae: Any, latents: Tensor) -> Tensor:
    """Pixels (B,C,H,W) in [-1, 1], give or take, of the autoencoder's own latents, (B,C,h,w)."""
    with _in_full(vae) as full:
        made: Tensor = full.decode(latents.to(full.dtype)).sample
    return made


def encoded(pipeline: Any, pixels: Tensor) -> Tensor:
    """The most likely latents (B,C,h,w) of pixels (B,3,H,W) in [-1, 1], as the network has them."""
    vae = pipeline.vae
    device = getattr(pipeline, "_execution_device", vae.device)  # offloaded or not
    latents: Tensor = posterior(vae, pixels, device).mode()
    return latents * float(vae.config.scaling_factor)


@torch.no_grad()
def decoded(pipeline: Any, latents: Tensor, grid: tuple[int, int]) -> Tensor:
    """Pixels (B,3,H,W) in [-1, 1] of latents in the pipeline's own layout, float32 on the CPU.

    Args:
        pipeline: with a `vae`, or Kandinsky's `movq`.
        latents: of a step.
        grid: (h, w) of the latent cells.
    """
    if latents.ndim == 3:
        latents = unpack(latents, *grid)
    if hasattr(pipeline, "movq"):
        movq = pipeline.movq
        made: Tensor = movq.decode(latents.to(movq.dtype), force_not_quantize=True).sample
        return made.float().cpu()
    if type(pipeline.scheduler).__name__ == "SCMScheduler":
        latents = latents / pipeline.scheduler.config.sigma_data
    of_videos = type(pipeline.vae).__name__ == "AutoencoderKLQwenImage"
    own = _unscaled(latents, pipeline.vae.config)
    made = pixels_of(pipeline.vae, own.unsqueeze(2) if of_videos else own)
    return (made[:, :, 0] if of_videos else made).float().cpu()


@torch.no_grad()
def decoded_video(pipeline: Any, latents: Tensor) -> Tensor:
    """Frames (F,3,H,W) in [-1, 1] of latents in the pipeline's own layout, float32 on the CPU."""
    if hasattr(pipeline, "decode_latents"):
        made: Tensor = pipeline.decode_latents(latents)
    else:
        vae = pipeline.vae
        made = vae.decode(_unscaled(latents, vae.config).to(vae.dtype)).sample
    return made[0].transpose(0, 1).float().cpu()


def _unscaled(latents: Tensor, config: Any) -> Tensor:
    """Latents as the autoencoder has them, from what the network works on."""
    mean, deviation = (getattr(config, name, None) for name in ("latents_mean", "latents_std"))
    factor = getattr(config, "scaling_factor", None)
    if mean is not None and deviation is not None:
        mean, deviation = (
            torch.tensor(values).view(-1, *(1,) * (latents.ndim - 2)).to(latents)
            for values in (mean, deviation)
        )
        return latents * deviation / float(factor or 1) + mean
    shift = getattr(config, "shift_factor", None) or 0.0
    return latents / float(factor or 1) + shift
