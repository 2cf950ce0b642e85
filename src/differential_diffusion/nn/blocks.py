"""Building blocks of the σ-map U-Net: local ones, and those that look at the whole picture."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint


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


class SelfAttention(nn.Module):
    """x + project(attention over all positions), of features normalised at each position.

    Queries and keys are normalised too, which keeps attention from saturating (Karras et al., 2024,
    section 2.3). Every output depends on every input, so a network with it is not local.

    Args:
        channels: of the features.
        head_channels: of each head, at most: the largest divisor of `channels` that is no more.
    """

    def __init__(self, channels: int, head_channels: int = 32) -> None:
        super().__init__()
        sizes = range(min(head_channels, channels), 0, -1)
        self.head_channels = next(size for size in sizes if channels % size == 0)
        self.qkv = nn.Conv2d(channels, 3 * channels, 1)
        self.project = nn.Conv2d(channels, channels, 1)
        nn.init.zeros_(self.project.weight)
        nn.init.zeros_(self.project.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        """(B,C,h,w) gives (B,C,h,w)."""
        b, c, h, w = x.shape
        qkv = self.qkv(_normalised(x, dim=1)).view(b, 3, -1, self.head_channels, h * w)
        q, k, v = qkv.transpose(-1, -2).unbind(1)  # each (B,heads,hw,channels of a head)
        attended = F.scaled_dot_product_attention(_normalised(q), _normalised(k), v)
        out: Tensor = x + self.project(attended.transpose(-1, -2).reshape(b, c, h, w))
        return out


class GlobalContext(nn.Module):
    """x times gates of its channels, told of by an attended mean over all positions.

    (Cao et al., "Global Context Networks", 2020, with gates in place of sums.)
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.attend = nn.Conv2d(channels, 1, 1)
        self.inner = nn.Linear(channels, max(8, channels // 4))
        self.gate = nn.Linear(max(8, channels // 4), channels)
        nn.init.zeros_(self.gate.weight)
        nn.init.zeros_(self.gate.bias)

    def forward(self, x: Tensor) -> Tensor:
        """(B,C,h,w) gives (B,C,h,w)."""
        share = self.attend(x).flatten(2).softmax(dim=-1)
        mean = (x.flatten(2) * share).sum(-1)
        out: Tensor = x * (1 + self.gate(F.silu(self.inner(mean))))[..., None, None]
        return out


def _normalised(x: Tensor, dim: int = -1) -> Tensor:
    """X over the root of its mean square along `dim`."""
    wide = x.to(torch.promote_types(x.dtype, torch.float32))
    return x * (wide.square().mean(dim, keepdim=True) + 1e-6).rsqrt().to(x.dtype)


class ResidualBlock(nn.Module):
    """x + conv(silu((1 + scale) conv(x) + shift)), with scale and shift from the σ embedding.

    There is no normalisation: statistics taken over pixels would make every output depend on
    every input, and pixels of different noise levels would disturb each other.

    Args:
        channels, embedding_channels: of the features and of the σ embedding.
        dropout: share of the inner features that training leaves out.
        attention, context: follow it by `SelfAttention`, by `GlobalContext`: then it is not local.
    """

    def __init__(
        self,
        channels: int,
        embedding_channels: int,
        *,
        dropout: float = 0.0,
        attention: bool = False,
        context: bool = False,
    ) -> None:
        super().__init__()
        self.dropout = dropout
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.film = nn.Conv2d(embedding_channels, 2 * channels, 1)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)
        nn.init.zeros_(self.conv2.weight)
        nn.init.zeros_(self.conv2.bias)  # type: ignore[arg-type]
        nn.init.zeros_(self.film.weight)
        nn.init.zeros_(self.film.bias)  # type: ignore[arg-type]
        self.whole = nn.Sequential()
        if attention:
            self.whole.append(SelfAttention(channels))
        if context:
            self.whole.append(GlobalContext(channels))

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        """(B,C,h,w) and an embedding (B,E,h,w) or (B,E,1,1) give (B,C,h,w)."""
        scale, shift = self.film(embedding).chunk(2, dim=1)
        h = torch.addcmul(shift, self.conv1(x), 1 + scale)
        h = F.silu(h)
        if self.dropout > 0:
            h = F.dropout(h, self.dropout, self.training)
        out: Tensor = self.whole(x + self.conv2(h))
        return out


class Stage(nn.ModuleList):
    """Residual blocks at one scale, one after the other.

    Attributes:
        checkpointed: compute activations anew when going back, for less memory.
    """

    def __init__(self, blocks: int, make: Callable[[], ResidualBlock]) -> None:
        super().__init__(make() for _ in range(blocks))
        self.checkpointed = False

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        """As `ResidualBlock.forward`."""
        for block in self:
            if self.checkpointed and torch.is_grad_enabled():
                x = checkpoint(block, x, embedding, use_reentrant=False)
            else:
                x = block(x, embedding)
        return x
