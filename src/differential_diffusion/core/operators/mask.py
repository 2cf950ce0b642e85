"""The mask operator: some pixels are measured, the others are not."""

from __future__ import annotations

import torch
from torch import Tensor

from ...errors import InputError
from .base import LinearOperator

__all__ = ["Mask"]


class Mask(LinearOperator):
    """A x = m x with a known mask m, so everything has a closed form per pixel.

    Args:
        mask: m, broadcastable to (B,C,H,W): 1 where measured, 0 where not; any other factor is
            a gain.

    Raises:
        InputError: a mask that is not (B,C,H,W)-shaped or not finite.
    """

    def __init__(self, mask: Tensor) -> None:
        if mask.ndim != 4 or not bool(mask.isfinite().all()):
            raise InputError(
                "mask must be a finite tensor that broadcasts to (B,C,H,W): reshape or fix it."
            )
        self.mask = mask

    def forward(self, x: Tensor) -> Tensor:
        """A x = m x."""
        return self.mask.to(x) * x

    def adjoint(self, y: Tensor) -> Tensor:
        """Aᵀ y = m y."""
        return self.mask.to(y) * y

    def pseudo_inverse(self, y: Tensor) -> Tensor:
        """A⁺ y = y/m where measured, else 0."""
        m = self.mask.to(y)
        return torch.where(m != 0, y / torch.where(m != 0, m, 1.0), 0.0)

    def prox(
        self, v: Tensor, y: Tensor, variance: Tensor, noise_variance: Tensor | float = 0.0
    ) -> Tensor:
        """The closed form v + V m/(V m² + R) (y - m v), and v where V m² + R = 0.

        See `LinearOperator.prox`; R = 0 is exact here.
        """
        m = self.mask.to(v)
        total = variance * m * m + noise_variance
        gain = torch.where(total > 0, variance * m / torch.where(total > 0, total, 1.0), 0.0)
        return v + gain * (y - m * v)
