"""A fully convolutional U-Net that is told the noise level of every pixel."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..core.grid import to_whole_strides
from .blocks import ResidualBlock, SigmaEmbedding, Stage

_Module = TypeVar("_Module", bound=nn.Module)


@dataclass(frozen=True)
class UNetConfig:
    """Shape of a `SigmaMapUNet`.

    Attributes:
        in_channels: image channels.
        channels: width at each scale, finest first; scale i works at 1/(patch * 2**i).
        blocks: residual blocks at each scale on the way down (the last entry is the bottom).
        patch: pixel-unshuffle factor of the stem: the finest scale has 1/patch resolution.
        embedding_channels: channels of the σ embedding.
        sigma_features: frequencies of the σ embedding.
    """

    in_channels: int = 3
    channels: tuple[int, ...] = (64, 128, 160)
    blocks: tuple[int, ...] = (2, 2, 4)
    patch: int = 2
    embedding_channels: int = 32
    sigma_features: int = 8

    def __post_init__(self) -> None:
        object.__setattr__(self, "channels", tuple(self.channels))
        object.__setattr__(self, "blocks", tuple(self.blocks))
        if len(self.channels) != len(self.blocks) or not self.channels:
            raise ValueError(
                f"channels {self.channels} and blocks {self.blocks} need one entry per scale each"
            )
        if min(self.channels) < 1 or min(self.blocks) < 1:
            raise ValueError("channels and blocks must be positive")
        if min(self.in_channels, self.patch, self.embedding_channels, self.sigma_features) < 1:
            raise ValueError(
                "in_channels, patch, embedding_channels and sigma_features must be positive"
            )

    @property
    def stride(self) -> int:
        """Pixels per cell of the coarsest scale; crops align to multiples of it."""
        return self.patch << (len(self.channels) - 1)


class SigmaMapUNet(nn.Module):
    """U-Net with per-pixel σ conditioning at every scale, for pictures of any size.

    Local by construction: convolutions only, no normalisation, no attention. An output pixel
    depends on the input no further away than `receptive_radius`, so a crop aligned to
    `stride` with that halo gives the same numbers as the whole picture.

    The stem gathers patch x patch pixels into channels, with the noise coordinate of each of
    them beside; the σ embedding is average-pooled to every scale, where each residual block
    takes its scale and shift from it.
    """

    def __init__(self, config: UNetConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or UNetConfig()
        e, ch, p = config.embedding_channels, config.channels, config.patch
        self.embed = SigmaEmbedding(e, config.sigma_features)
        self.embed_scale = nn.ModuleList(nn.Conv2d(e, e, 1) for _ in ch)
        self.stem = nn.Conv2d((config.in_channels + 1) * p * p, ch[0], 3, padding=1)
        stages = [(n, c, e) for n, c in zip(config.blocks, ch, strict=True)]
        self.encoder = nn.ModuleList(Stage(*stage) for stage in stages)
        self.decoder = nn.ModuleList(Stage(*stage) for stage in stages[:-1])
        self.down = nn.ModuleList(nn.Conv2d(a, b, 2, stride=2) for a, b in pairwise(ch))
        self.up = nn.ModuleList(nn.ConvTranspose2d(b, a, 2, stride=2) for a, b in pairwise(ch))
        self.head = nn.Conv2d(ch[0], config.in_channels * p * p, 3, padding=1)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor, c_noise: Tensor) -> Tensor:
        """Predict (B,C,H,W) from the scaled picture and the noise coordinate.

        Args:
            x: (B,C,H,W), any H and W of at least 1.
            c_noise: (B,1,H,W), or (B,1,1,1) for one level over the picture (cheaper, the same
                numbers up to rounding).
        """
        height, width = x.shape[-2:]
        x = to_whole_strides(x, self.config.stride)
        if c_noise.shape[-2:] != (1, 1):
            c_noise = to_whole_strides(c_noise, self.config.stride)
        embeddings = self._embeddings(c_noise)
        # Unshuffled together, so that each pixel's noise level stands beside its colours.
        level = c_noise.expand(-1, -1, *x.shape[-2:])
        h = self.stem(F.pixel_unshuffle(torch.cat([x, level], dim=1), self.config.patch))
        first = h
        skips = []
        for i, stage in enumerate(self.encoder):
            h = stage(h, embeddings[i])
            if i < len(self.down):
                skips.append(h)
                h = self.down[i](h)
        for i in reversed(range(len(self.decoder))):
            h = self.decoder[i](self.up[i](h) + skips[i], embeddings[i])
        h = F.pixel_shuffle(self.head(h + first), self.config.patch)
        return h[..., :height, :width]

    def _embeddings(self, c_noise: Tensor) -> list[Tensor]:
        """The σ embedding at every scale, each (B,E,h,w), or (B,E,1,1) for one level."""
        e = self.embed(c_noise)
        uniform = e.shape[-2:] == (1, 1)
        result = []
        for i, project in enumerate(self.embed_scale):
            if not uniform:
                e = F.avg_pool2d(e, self.config.patch if i == 0 else 2)
            result.append(F.silu(project(e)))
        return result

    def residual_kernels(self) -> list[Tensor]:
        """The 3x3 kernels of all residual blocks: the bulk of the weights."""
        blocks = [module for module in self.modules() if isinstance(module, ResidualBlock)]
        return [conv.weight for block in blocks for conv in (block.conv1, block.conv2)]

    @property
    def receptive_radius(self) -> int:
        """Largest distance in pixels from which an input pixel can reach an output pixel."""
        return receptive_radius(self.config)

    @property
    def halo(self) -> int:
        """Margin a crop needs: the receptive radius rounded up to whole strides."""
        return math.ceil(self.receptive_radius / self.config.stride) * self.config.stride


def channels_last(network: _Module) -> _Module:
    """Lay the weights out channels last, which convolutions run fastest with; in place."""
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return network


def receptive_radius(config: UNetConfig) -> int:
    """Exact receptive radius of a `SigmaMapUNet` of this shape, in pixels.

    Walks the network backwards with the interval of cells that one output pixel needs, for
    every position of that pixel within a coarsest cell, and takes the worst side.
    """
    radius = 0
    for position in range(config.stride):
        low, high = _needed_interval(config, position)
        radius = max(radius, position - low, high - position)
    return radius


def _needed_interval(config: UNetConfig, position: int) -> tuple[int, int]:
    patch, blocks = config.patch, config.blocks
    bottom = len(blocks) - 1
    cell = position // patch
    low, high = cell - 1, cell + 1  # the head
    for i in range(bottom):  # decoder, finest first when walking backwards
        low, high = low - 2 * blocks[i], high + 2 * blocks[i]
        low, high = low // 2, high // 2  # transposed 2x2: each fine cell needs its coarse cell
    low, high = low - 2 * blocks[bottom], high + 2 * blocks[bottom]
    for i in reversed(range(bottom)):
        low, high = 2 * low, 2 * high + 1  # strided 2x2
        low, high = low - 2 * blocks[i], high + 2 * blocks[i]
    low, high = low - 1, high + 1  # the stem
    return low * patch, high * patch + patch - 1
