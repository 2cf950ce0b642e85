"""What a network may be told besides the noise: a class, numbers, a picture, an augmentation."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..core.grid import to_whole_strides

if TYPE_CHECKING:
    from .unet import UNetConfig

AUGMENTATIONS = 9
"""Numbers that tell of an augmentation, see `data.augment`; all 0 where there was none."""


class Conditions(NamedTuple):
    """What is known of each picture of a batch; None where nothing is.

    Attributes:
        labels: (B,) classes from 0; the number of classes, or None, for "not known".
        vector: (B,V) numbers.
        picture: (B,K,H,W) in [-1,1].
        augmentation: (B,9), see `data.augment`; None for none.
        keep: (B,) bool, whether vector and picture are known; None for all that are given.
    """

    labels: Tensor | None = None
    vector: Tensor | None = None
    picture: Tensor | None = None
    augmentation: Tensor | None = None
    keep: Tensor | None = None


class ConditionEmbedding(nn.Module):
    """Class, numbers and augmentation as what each scale adds to its σ embedding.

    Args:
        channels: of the embedding.
        scales: how many there are.
        config: of the network.
    """

    def __init__(self, channels: int, scales: int, config: UNetConfig) -> None:
        super().__init__()
        self.classes, self.vector = config.classes, config.vector
        self.augmented = config.augmented
        inner = 2 * channels
        self.label = nn.Embedding(config.classes + 1, inner) if config.classes else None
        self.number = nn.Linear(config.vector + 1, inner) if config.vector else None
        self.augmentation = nn.Linear(AUGMENTATIONS, inner, bias=False) if self.augmented else None
        self.mix = nn.Linear(inner, inner)
        self.project = nn.ModuleList(nn.Linear(inner, channels) for _ in range(scales))

    def forward(self, conditions: Conditions, batch: int) -> list[Tensor]:
        """What to add at each scale, each (B,channels,1,1)."""
        h = self.mix.weight.new_zeros(batch, self.mix.in_features)
        if self.label is not None:
            labels = conditions.labels
            unknown = torch.full((batch,), self.classes, device=h.device)
            h = h + self.label(unknown if labels is None else labels.expand(batch))
        if self.number is not None:
            h = h + self.number(self._numbers(conditions, h))
        if self.augmentation is not None and conditions.augmentation is not None:
            h = h + self.augmentation(conditions.augmentation.to(h))
        h = F.silu(self.mix(F.silu(h)))
        return [project(h)[..., None, None] for project in self.project]

    def _numbers(self, conditions: Conditions, like: Tensor) -> Tensor:
        """The numbers, and 1 where they are known; all 0 where not, (B,V+1), of the dtype given."""
        if conditions.vector is None:
            return like.new_zeros(len(like), self.vector + 1)
        vector = conditions.vector.to(like).expand(len(like), -1)
        known = torch.cat([vector, torch.ones_like(vector[:, :1])], dim=1)
        return known if conditions.keep is None else known * conditions.keep[:, None]


def picture_condition(conditions: Conditions, x: Tensor, channels: int, stride: int) -> Tensor:
    """The picture to condition on and 1 where it is known; all 0 where not, (B,K+1,H,W)."""
    if conditions.picture is None:
        return x.new_zeros(len(x), channels + 1, *x.shape[-2:])
    picture = to_whole_strides(conditions.picture, stride).expand(len(x), -1, -1, -1)
    known = torch.cat([picture, torch.ones_like(picture[:, :1])], dim=1)
    return known if conditions.keep is None else known * conditions.keep[:, None, None, None]
