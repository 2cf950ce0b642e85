"""Building blocks of the σ-map U-Net: all convolutional, hence local."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class SigmaEmbedding(nn.Module):
    """Sinusoidal features of the noise coordinate, learned per pixel by 1x1 convolutions.

    ``features(c)`` is (sin ω_k c, cos ω_k c) with angular frequencies ω_k spaced
    geometrically between `lowest` and `highest`; then ``1x1 -> SiLU``.

    Args:
        channels: output channels.
        frequencies: number of ω_k.
        lowest, highest: range of ω_k in radians per unit of the noise coordinate.
    """

    def __init__(
        self, channels: int, frequencies: int = 8, lowest: float = 0.5, highest: float = 16.0
    ) -> None:
        super().__init__()
        omega = torch.logspace(math.log2(lowest), math.log2(highest), frequencies, base=2.0)
        self.register_buffer("omega", omega.view(1, -1, 1, 1), persistent=False)
        self.project = nn.Conv2d(2 * frequencies, channels, 1)

    omega: Tensor

    def forward(self, c_noise: Tensor) -> Tensor:
        """Embed `c_noise` (B,1,H,W), any real values, as (B,channels,H,W)."""
        angle = c_noise * self.omega
        return F.silu(self.project(torch.cat([angle.sin(), angle.cos()], dim=1)))


class ResidualBlock(nn.Module):
    """x + conv(silu((1 + scale) conv(x) + shift)), with scale and shift from the σ embedding.

    There is no normalisation: statistics taken over pixels would make every output depend on
    every input, and pixels of different noise levels would disturb each other.
    """

    def __init__(self, channels: int, embedding_channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.film = nn.Conv2d(embedding_channels, 2 * channels, 1)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)
        nn.init.zeros_(self.conv2.weight)
        nn.init.zeros_(self.conv2.bias)  # type: ignore[arg-type]
        nn.init.zeros_(self.film.weight)
        nn.init.zeros_(self.film.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        """(B,C,h,w) and an embedding (B,E,h,w) or (B,E,1,1) give (B,C,h,w)."""
        scale, shift = self.film(embedding).chunk(2, dim=1)
        h = torch.addcmul(shift, self.conv1(x), 1 + scale)
        out: Tensor = x + self.conv2(F.silu(h))
        return out


class Stage(nn.ModuleList):
    """Residual blocks at one scale, one after the other."""

    def __init__(self, blocks: int, channels: int, embedding_channels: int) -> None:
        super().__init__(ResidualBlock(channels, embedding_channels) for _ in range(blocks))

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        """As `ResidualBlock.forward`."""
        for block in self:
            x = block(x, embedding)
        return x
