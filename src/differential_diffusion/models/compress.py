"""Smaller weights, and what they cost: half precision, and weights set to zero by magnitude.

Zeros are stored like other weights and computed with like other weights: they make neither the
file nor a dense kernel faster. What they show is how much of a network is needed, and a file of
many zeros packs well.
"""

from __future__ import annotations

import copy
import zlib
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ..core.metrics import psnr
from ..core.noise import PositionalNoise, generator
from ..core.types import Denoiser
from ..errors import InputError
from .network import Network, UNet2D

__all__ = [
    "DTYPES",
    "Quality",
    "compare",
    "noise_pictures",
    "packed_share",
    "prune",
    "rounded",
    "zero_share",
]

DTYPES: dict[str, torch.dtype] = {
    "float32": torch.float32,
    "float16": torch.float16,
    "bfloat16": torch.bfloat16,
}
"""Types that weights are stored in, by name."""

LEVELS_8BIT = (5.0, 15.0, 25.0, 50.0)
"""σ of the noise on the 0-255 scale at which quality is measured."""

_SEED, _CROP = 4711, 256


def rounded(network: Network, dtype: torch.dtype) -> Network:
    """A copy with weights of float32 that went through `dtype`, as storing and loading does.

    Raises:
        InputError: weights too large for `dtype`.
    """
    made = copy.deepcopy(network)
    for name, weight in made.state_dict().items():
        stored = weight.to(dtype)
        if not bool(stored.isfinite().all()):
            raise InputError(
                f"the weight '{name}' holds numbers that {str(dtype).removeprefix('torch.')} "
                "cannot: choose bfloat16 or float32"
            )
        weight.copy_(stored)
    return made


def prune(network: Network, share: float, *, structured: bool = False) -> Network:
    """A copy with a share of its weights set to zero, those that are smallest.

    Kernels and matrices count, biases and embeddings do not. Unstructured, the smallest weights
    of the whole network become zero (Han et al., 2015); structured, in every layer but the last,
    the output channels of the smallest norm, with their biases (Li et al., 2017).

    Args:
        network: ours or of Diffusers.
        share: of the weights, or of each layer's output channels, in [0,1).
        structured: whole output channels.

    Raises:
        InputError: a share outside [0,1).
    """
    if not 0 <= share < 1:
        raise InputError(f"the share of weights to prune is {share}: it must lie in [0, 1)")
    made = copy.deepcopy(network)
    with torch.no_grad():
        if structured:
            last = made.unet.conv_out if isinstance(made, UNet2D) else made.head
            for layer in _layers(made):
                if layer is not last:
                    _prune_channels(layer, share)
        else:
            _prune_smallest([layer.weight for layer in _layers(made)], share)
    return made


_Layer = nn.Conv2d | nn.ConvTranspose2d | nn.Linear


def _layers(network: Network) -> Iterator[_Layer]:
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
            yield module


def _prune_smallest(weights: Sequence[Tensor], share: float) -> None:
    """Set the ⌊share · count⌋ smallest magnitudes of all to zero, in place."""
    sizes = torch.cat([weight.abs().flatten() for weight in weights])
    drop = torch.zeros(len(sizes), dtype=torch.bool)
    drop[sizes.argsort(stable=True)[: int(share * len(sizes) + 1e-9)]] = True
    first = 0
    for weight in weights:
        weight[drop[first : first + weight.numel()].view(weight.shape)] = 0
        first += weight.numel()


def _prune_channels(layer: _Layer, share: float) -> None:
    """Set the ⌊share · channels⌋ output channels of the smallest norm to zero, in place."""
    weight = layer.weight
    rows = weight.transpose(0, 1) if isinstance(layer, nn.ConvTranspose2d) else weight
    norms = rows.flatten(1).norm(dim=1)
    drop = norms.argsort(stable=True)[: int(share * len(norms) + 1e-9)]
    rows[drop] = 0
    if layer.bias is not None:
        layer.bias[drop] = 0


def zero_share(network: Network) -> float:
    """The share of zeros among the weights that `prune` counts."""
    weights = [layer.weight for layer in _layers(network)]
    return sum(int((w == 0).sum()) for w in weights) / max(1, sum(w.numel() for w in weights))


def packed_share(network: Network, dtype: torch.dtype) -> float:
    """Bytes of the weights in `dtype` after general compression (zlib), over those in float32."""
    packed, plain = 0, 0
    for weight in network.state_dict().values():
        stored = weight.to("cpu", dtype).contiguous().flatten().view(torch.uint8)
        packed += len(zlib.compress(stored.numpy().tobytes(), 6))
        plain += 4 * weight.numel()
    return packed / max(1, plain)


class Quality(NamedTuple):
    """What changed weights do to denoising.

    Attributes:
        level_8bit: σ of the noise on the 0-255 scale.
        before, after: mean PSNR in dB of one-step denoising.
        largest: largest difference of the two estimates in any pixel, on the 0-255 scale.
    """

    level_8bit: float
    before: float
    after: float
    largest: float


def compare(
    before: Denoiser,
    afters: Sequence[Denoiser],
    pictures: Sequence[Tensor],
    levels_8bit: Sequence[float] = LEVELS_8BIT,
) -> list[list[Quality]]:
    """Denoise the same noisy pictures with one model and with others made of it.

    Args:
        before, afters: (x, sigma) -> E[x0 | x].
        pictures: (1,C,H,W) in [-1,1]; their middle 256 pixels a side at most are taken.
        levels_8bit: σ on the 0-255 scale.

    Returns: for each of `afters` a row for each level.

    Raises:
        InputError: no pictures.
    """
    if not pictures:
        raise InputError("no picture was given to check the weights on: name one")
    rows: list[list[Quality]] = [[] for _ in afters]
    for level in levels_8bit:
        sigma = torch.full((1, 1, 1, 1), level / 127.5)
        scores, largest = [], torch.zeros(len(afters))
        for index, picture in enumerate(pictures):
            x0 = _middle(picture)
            noise = PositionalNoise([_SEED + index], *x0.shape[1:])(0)
            with torch.no_grad():
                made = torch.cat([d(x0 + sigma * noise, sigma) for d in (before, *afters)])
            scores.append(psnr(made.clamp(-1, 1), x0.expand_as(made)).double())
            difference = (made[1:] - made[:1]).abs().flatten(1).amax(1) * 127.5
            largest = torch.maximum(largest, difference)
        first, *others = torch.stack(scores).mean(0).tolist()
        for row, score, most in zip(rows, others, largest.tolist(), strict=True):
            row.append(Quality(level, first, score, most))
    return rows


def noise_pictures(channels: int, side: int = 64, count: int = 4) -> list[Tensor]:
    """Pictures of noise in which each octave has the same variance, (1,C,side,side) in [-1,1].

    They stand in for photographs, whose spectra they have on average and whose edges they lack.
    """
    rng, made = generator(_SEED), []
    for _ in range(count):
        x = torch.zeros(1, channels, side, side)
        cells = 2
        while cells <= side:
            coarse = torch.randn(1, channels, cells, cells, generator=rng)
            x += nn.functional.interpolate(coarse, (side, side), mode="bilinear")
            cells *= 2
        made.append((0.4 * x / x.std()).clamp(-1, 1))
    return made


def _middle(picture: Tensor) -> Tensor:
    """The middle of a picture, at most 256 pixels a side."""
    height, width = picture.shape[-2:]
    top, left = max(0, (height - _CROP) // 2), max(0, (width - _CROP) // 2)
    return picture[..., top : top + _CROP, left : left + _CROP]
