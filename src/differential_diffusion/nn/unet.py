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
from .conditions import ConditionEmbedding, Conditions, picture_condition

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
        attention: scales with self-attention, 0 the finest; with any, the network is not local.
        context: gates by a mean over the whole picture, in every block; not local either.
        dropout: share of the features in each block that training leaves out.
        classes: number of classes to condition on, 0 for none.
        vector: numbers to condition on, such as measurements; 0 for none.
        condition_channels: channels of a picture to condition on, put beside the noisy one.
        augmented: whether training tells how each picture was augmented, see `data.augment`.
    """

    in_channels: int = 3
    channels: tuple[int, ...] = (64, 128, 160)
    blocks: tuple[int, ...] = (2, 2, 4)
    patch: int = 2
    embedding_channels: int = 32
    sigma_features: int = 8
    attention: tuple[int, ...] = ()
    context: bool = False
    dropout: float = 0.0
    classes: int = 0
    vector: int = 0
    condition_channels: int = 0
    augmented: bool = False

    def __post_init__(self) -> None:
        for name in ("channels", "blocks", "attention"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
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
        if not all(0 <= scale < len(self.channels) for scale in self.attention):
            raise ValueError(
                f"attention {self.attention} names scales beyond the {len(self.channels)} there are"
            )
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout {self.dropout} is not in [0, 1)")
        if min(self.classes, self.vector, self.condition_channels) < 0:
            raise ValueError("classes, vector and condition_channels must not be negative")

    @property
    def local(self) -> bool:
        """Whether an output pixel depends on a neighbourhood alone."""
        return not (self.attention or self.context)

    @property
    def stride(self) -> int:
        """Pixels per cell of the coarsest scale; crops align to multiples of it."""
        return self.patch << (len(self.channels) - 1)


class SigmaMapUNet(nn.Module):
    """U-Net with per-pixel σ conditioning at every scale, for pictures of any size.

    Local, unless attention or context is asked for: convolutions only, no normalisation. An output
    pixel depends on the input no further away than `receptive_radius`, so a crop aligned to
    `stride` with that halo gives the same numbers as the whole picture.

    The stem gathers patch x patch pixels into channels, with the noise coordinate of each of
    them beside; the σ embedding is average-pooled to every scale, where each residual block
    takes its scale and shift from it. What else is known of the picture (`Conditions`) is added to
    the embedding, but for pictures, which stand beside the noisy one.
    """

    def __init__(self, config: UNetConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or UNetConfig()
        e, ch, p = config.embedding_channels, config.channels, config.patch
        self.embed = SigmaEmbedding(e, config.sigma_features)
        self.embed_scale = nn.ModuleList(nn.Conv2d(e, e, 1) for _ in ch)
        given = config.condition_channels and config.condition_channels + 1
        self.stem = nn.Conv2d((config.in_channels + 1 + given) * p * p, ch[0], 3, padding=1)
        self.encoder = nn.ModuleList(self._stage(scale) for scale in range(len(ch)))
        self.decoder = nn.ModuleList(self._stage(scale) for scale in range(len(ch) - 1))
        self.down = nn.ModuleList(nn.Conv2d(a, b, 2, stride=2) for a, b in pairwise(ch))
        self.up = nn.ModuleList(nn.ConvTranspose2d(b, a, 2, stride=2) for a, b in pairwise(ch))
        self.head = nn.Conv2d(ch[0], config.in_channels * p * p, 3, padding=1)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)  # type: ignore[arg-type]
        needed = config.classes or config.vector or config.augmented
        self.given = ConditionEmbedding(e, len(ch), config) if needed else None

    def _stage(self, scale: int) -> Stage:
        config = self.config

        def make() -> ResidualBlock:
            return ResidualBlock(
                config.channels[scale],
                config.embedding_channels,
                dropout=config.dropout,
                attention=scale in config.attention,
                context=config.context,
            )

        return Stage(config.blocks[scale], make)

    def forward(
        self,
        x: Tensor,
        c_noise: Tensor,
        conditions: Conditions = Conditions(),  # noqa: B008
    ) -> Tensor:
        """Predict (B,C,H,W) from the scaled picture and the noise coordinate.

        Args:
            x: (B,C,H,W), any H and W of at least 1.
            c_noise: (B,1,H,W), or (B,1,1,1) for one level over the picture (cheaper, the same
                numbers up to rounding).
            conditions: what else is known.
        """
        height, width = x.shape[-2:]
        x = to_whole_strides(x, self.config.stride)
        if c_noise.shape[-2:] != (1, 1):
            c_noise = to_whole_strides(c_noise, self.config.stride)
        embeddings = self._embeddings(c_noise, conditions, len(x))
        # Unshuffled together, so that each pixel's noise level stands beside its colours.
        seen = [x, c_noise.expand(-1, -1, *x.shape[-2:])]
        if self.config.condition_channels:
            seen.append(
                picture_condition(conditions, x, self.config.condition_channels, self.config.stride)
            )
        h = self.stem(F.pixel_unshuffle(torch.cat(seen, dim=1), self.config.patch))
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

    def _embeddings(self, c_noise: Tensor, conditions: Conditions, batch: int) -> list[Tensor]:
        """The embedding at every scale, each (B,E,h,w), or (B,E,1,1) for one level."""
        e = self.embed(c_noise)
        given = None if self.given is None else self.given(conditions, batch)
        uniform = e.shape[-2:] == (1, 1)
        result = []
        for i, project in enumerate(self.embed_scale):
            if not uniform:
                e = F.avg_pool2d(e, self.config.patch if i == 0 else 2)
            told = project(e)
            result.append(F.silu(told if given is None else told + given[i]))
        return result

    def residual_kernels(self) -> list[Tensor]:
        """The 3x3 kernels of all residual blocks: the bulk of the weights."""
        blocks = [module for module in self.modules() if isinstance(module, ResidualBlock)]
        return [conv.weight for block in blocks for conv in (block.conv1, block.conv2)]

    def checkpoint_gradients(self) -> None:
        """Compute activations anew when going back, for less memory."""
        for module in self.modules():
            if isinstance(module, Stage):
                module.checkpointed = True

    @property
    def receptive_radius(self) -> int:
        """Largest distance in pixels from which an input pixel can reach an output pixel.

        Of a local network; see `UNetConfig.local`.
        """
        return receptive_radius(self.config)

    @property
    def halo(self) -> int | None:
        """Margin a crop needs: the receptive radius rounded up to whole strides; None if global."""
        if not self.config.local:
            return None
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
