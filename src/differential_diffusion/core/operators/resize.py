"""Down-sampling by whole factors: averages of blocks, and the bicubic kernel as MATLAB has it."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ...errors import InputError
from .base import LinearOperator

__all__ = ["BlockAverage", "Separable", "bicubic"]


class BlockAverage(LinearOperator):
    """A x = means of blocks of f x f pixels: all in closed form.

    Args:
        factor: f, which the sides of pictures must be multiples of.

    Raises:
        InputError: a factor below 1.
    """

    def __init__(self, factor: int) -> None:
        if factor < 1:
            raise InputError(f"factor is {factor}: give a whole number from 1 on.")
        self.factor = factor

    def forward(self, x: Tensor) -> Tensor:
        """A x: the mean of each block."""
        return F.avg_pool2d(x, self.factor)

    def adjoint(self, y: Tensor) -> Tensor:
        """Aᵀ y = y/f² at each pixel of the block."""
        return self._spread(y) / self.factor**2

    def pseudo_inverse(self, y: Tensor) -> Tensor:
        """A⁺ y = y at each pixel of the block."""
        return self._spread(y)

    def prox(
        self, v: Tensor, y: Tensor, variance: Tensor, noise_variance: Tensor | float = 0.0
    ) -> Tensor:
        """The closed form v + V/f² (y - A v)/(mean(V)/f² + R), and v where that divides by 0."""
        full = variance.expand(*variance.shape[:2], *v.shape[-2:])
        total = self.forward(full) / self.factor**2 + noise_variance
        z = torch.where(total > 0, (y - self.forward(v)) / torch.where(total > 0, total, 1.0), 0.0)
        return v + variance * self.adjoint(z)

    def _spread(self, y: Tensor) -> Tensor:
        return y.repeat_interleave(self.factor, -2).repeat_interleave(self.factor, -1)


class Separable(LinearOperator):
    """A x = R x Cᵀ in each channel: one matrix along columns of pixels, one along rows.

    Closed forms by the matrices' own decompositions, the prox where one variance and one noise
    level hold for all of an image.

    Args:
        rows: R, (h,H).
        columns: C, (w,W).
    """

    def __init__(self, rows: Tensor, columns: Tensor) -> None:
        self.rows, self.columns = rows, columns

    def forward(self, x: Tensor) -> Tensor:
        """A x = R x Cᵀ."""
        return self.rows.to(x) @ x @ self.columns.to(x).mT

    def adjoint(self, y: Tensor) -> Tensor:
        """Aᵀ y = Rᵀ y C."""
        return self.rows.to(y).mT @ y @ self.columns.to(y)

    def pseudo_inverse(self, y: Tensor) -> Tensor:
        """A⁺ y = R⁺ y C⁺ᵀ."""
        rows, columns = (torch.linalg.pinv(m.double()).to(y) for m in (self.rows, self.columns))
        inverse: Tensor = rows @ y @ columns.mT
        return inverse

    def prox(
        self, v: Tensor, y: Tensor, variance: Tensor, noise_variance: Tensor | float = 0.0
    ) -> Tensor:
        """By R Rᵀ = P s Pᵀ and C Cᵀ = Q t Qᵀ, with one V and one noise level N an image.

            v + V Aᵀ P [Pᵀ (y - A v) Q / (V s tᵀ + N)] Qᵀ

        See `LinearOperator.prox` for maps.
        """
        noise = torch.as_tensor(noise_variance).to(v)
        if variance.shape[1:] != (1, 1, 1) or noise.numel() > 1:
            return super().prox(v, y, variance, noise_variance)
        (s, p), (t, q) = (
            (values.clamp(min=0).to(v), vectors.to(v))
            for values, vectors in (
                torch.linalg.eigh(m.double() @ m.double().mT) for m in (self.rows, self.columns)
            )
        )
        total = variance * s[:, None] * t + noise
        residual = p.mT @ (y - self.forward(v)) @ q
        # What nearly no picture shows is left alone, as a pseudo-inverse would.
        least = 1e-12 * total.amax((-2, -1), keepdim=True)
        z = torch.where(total > least, residual / torch.where(total > least, total, 1.0), 0.0)
        return v + variance * self.adjoint(p @ z @ q.mT)


def bicubic(height: int, width: int, factor: int) -> Separable:
    """Bicubic down-sampling with antialiasing, as MATLAB's imresize does it.

    Args:
        height, width: of the large picture, multiples of the factor.
        factor: of both sides.

    Raises:
        InputError: sides that are no multiples.
    """
    if height % factor or width % factor:
        raise InputError(
            f"{height} x {width} pixels are no multiple of {factor}: crop the picture."
        )
    return Separable(*(_bicubic_matrix(side, factor) for side in (height, width)))


def _bicubic_matrix(side: int, factor: int) -> Tensor:
    """(side/factor, side): Keys' kernel with a = -1/2, widened by the factor, mirrored at the ends.

    (Keys, 1981, equation 4.)
    """
    centres = (torch.arange(side // factor, dtype=torch.float64) + 0.5) * factor - 0.5
    first = (centres - 2 * factor).floor().long()
    taps = first[:, None] + torch.arange(4 * factor + 2)
    x = ((centres[:, None] - taps) / factor).abs()
    near = 1.5 * x**3 - 2.5 * x**2 + 1
    far = -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2
    weights = torch.where(x <= 1, near, torch.where(x <= 2, far, 0.0))
    weights = weights / weights.sum(1, keepdim=True)
    mirrored = taps % (2 * side)
    places = torch.minimum(mirrored, 2 * side - 1 - mirrored)
    return torch.zeros(side // factor, side, dtype=torch.float64).scatter_add_(1, places, weights)
