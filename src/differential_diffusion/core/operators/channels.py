"""Sums over the channels of a pixel: grey values, and what a colour filter lets through."""

from __future__ import annotations

import torch
from torch import Tensor

from ...errors import InputError
from .base import LinearOperator

__all__ = ["BAYER_PATTERNS", "LUMA", "ChannelSum", "bayer", "grey"]

LUMA = (0.299, 0.587, 0.114)
"""Weights of red, green and blue in a grey value (ITU-R BT.601)."""

BAYER_PATTERNS = ("RGGB", "BGGR", "GRBG", "GBRG")
"""Colours of the first two pixels of the first two rows."""


class ChannelSum(LinearOperator):
    """A x = Σ_c w_c x_c at each pixel, (B,C,H,W) to (B,1,H,W): all in closed form.

    Args:
        weights: w, (1,C,1,1) for the same everywhere, or (1,C,H,W).

    Raises:
        InputError: weights that are not shaped so, or not finite.
    """

    def __init__(self, weights: Tensor) -> None:
        if weights.ndim != 4 or len(weights) != 1 or not bool(weights.isfinite().all()):
            raise InputError("weights must be finite, (1,C,1,1) or (1,C,H,W): reshape or fix them.")
        self.weights = weights

    def forward(self, x: Tensor) -> Tensor:
        """A x = Σ_c w_c x_c."""
        return (self.weights.to(x) * x).sum(1, keepdim=True)

    def adjoint(self, y: Tensor) -> Tensor:
        """Aᵀ y = w y."""
        return self.weights.to(y) * y

    def pseudo_inverse(self, y: Tensor) -> Tensor:
        """A⁺ y = w y / Σ_c w_c², and 0 where no channel counts."""
        w = self.weights.to(y)
        total = w.square().sum(1, keepdim=True)
        return torch.where(total > 0, w * y / torch.where(total > 0, total, 1.0), 0.0)

    def prox(
        self, v: Tensor, y: Tensor, variance: Tensor, noise_variance: Tensor | float = 0.0
    ) -> Tensor:
        """The closed form v + V w (y - A v)/(Σ_c V w_c² + R), and v where that divides by 0."""
        w = self.weights.to(v)
        total = (variance * w.square()).sum(1, keepdim=True) + noise_variance
        gain = torch.where(total > 0, variance * w / torch.where(total > 0, total, 1.0), 0.0)
        return v + gain * (y - self.forward(v))


def grey() -> ChannelSum:
    """Colours to grey values, as `LUMA` weighs them."""
    return ChannelSum(torch.tensor(LUMA, dtype=torch.float64).view(1, 3, 1, 1))


def bayer(pattern: str, height: int, width: int) -> ChannelSum:
    """What a Bayer colour filter array lets through: one colour at each pixel.

    Args:
        pattern: in `BAYER_PATTERNS`.
        height, width: of the picture.

    Raises:
        InputError: a pattern that is none.
    """
    if pattern not in BAYER_PATTERNS:
        raise InputError(
            f"the pattern '{pattern}' is not known: use one of {', '.join(BAYER_PATTERNS)}."
        )
    weights = torch.zeros(1, 3, height, width)
    for place, colour in enumerate(pattern):
        weights[:, "RGB".index(colour), place // 2 :: 2, place % 2 :: 2] = 1
    return ChannelSum(weights)
