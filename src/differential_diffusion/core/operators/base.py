"""Linear measurements y = A x + noise: what an operator has to say of itself."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable

import torch
from torch import Tensor

__all__ = ["LinearOperator", "conjugate_gradients"]

FLOOR = 1e-8
"""Least noise variance in `LinearOperator.prox`: keeps its system regular."""


class LinearOperator(ABC):
    """A linear map A from pictures (B,C,H,W) to measurements (B,...).

    `forward` and `adjoint` define it; the rest follows by conjugate gradients, to be
    overridden where there is a closed form.
    """

    @abstractmethod
    def forward(self, x: Tensor) -> Tensor:
        """A x."""

    @abstractmethod
    def adjoint(self, y: Tensor) -> Tensor:
        """Aᵀ y: <A x, y> = <x, Aᵀ y> for all x and y, summed over everything but the batch."""

    def pseudo_inverse(self, y: Tensor) -> Tensor:
        """A⁺ y: of the x that minimise ‖A x - y‖, the one with the least norm."""
        return conjugate_gradients(lambda x: self.adjoint(self.forward(x)), self.adjoint(y))

    def prox(
        self, v: Tensor, y: Tensor, variance: Tensor, noise_variance: Tensor | float = 0.0
    ) -> Tensor:
        """The picture that best agrees with both v and the measurement, weighted per pixel.

            argmin_x  Σ (x - v)²/(2 V) + Σ (A x - y)²/(2 R)
                = v + V Aᵀ (A V Aᵀ + R)⁻¹ (y - A v)

        which is the posterior mean of x ~ N(v, V) given y = A x + N(0, R). Variances stand
        for weights, so that a kept pixel (infinite weight) is V = 0: it is eliminated from the
        unknowns and returned as it is. R = 0 holds the measurement exactly; here, without a
        closed form, R is at least 1e-8.

        Args:
            v: (B,C,H,W).
            y: like ``forward(v)``.
            variance: V ≥ 0, broadcastable to v.
            noise_variance: R ≥ 0, broadcastable to y.
        """
        r = torch.as_tensor(noise_variance).to(v).clamp(min=FLOOR)

        def system(z: Tensor) -> Tensor:
            return self.forward(variance * self.adjoint(z)) + r * z

        z = conjugate_gradients(system, y - self.forward(v))
        return v + variance * self.adjoint(z)


def conjugate_gradients(
    system: Callable[[Tensor], Tensor],
    b: Tensor,
    iterations: int = 500,
    nearly_solved: Callable[[Tensor], Tensor] | None = None,
    tolerance: float | None = None,
) -> Tensor:
    """Solve M z = b for each image, M symmetric and positive semi-definite (Hestenes, 1952).

    From z = 0, so that of several solutions the one with the least norm is found. Stops when
    all residuals are small enough.

    Args:
        system: z -> M z, on (B,...).
        b: (B,...).
        iterations: at most.
        nearly_solved: b -> P b with P symmetric, positive definite and near M's inverse, which
            saves iterations.
        tolerance: what ‖M z - b‖/‖b‖ is small enough; by default at rounding level.
    """
    dims = tuple(range(1, b.ndim))

    def dot(p: Tensor, q: Tensor) -> Tensor:
        return (p * q).sum(dims, keepdim=True)

    precondition = (lambda r: r) if nearly_solved is None else nearly_solved
    z, residual = torch.zeros_like(b), b
    scaled = precondition(residual)
    direction, agreement = scaled, dot(residual, scaled)
    norm = dot(residual, residual)
    enough = norm * (10 * torch.finfo(b.dtype).eps if tolerance is None else tolerance) ** 2
    for _ in range(iterations):
        if bool((norm <= enough).all()):
            break
        m_direction = system(direction)
        curvature = dot(direction, m_direction)
        going = (norm > enough) & (curvature > 0)
        step = torch.where(going, agreement / torch.where(going, curvature, 1.0), 0.0)
        z = z + step * direction
        residual = residual - step * m_direction
        scaled = precondition(residual)
        agreement_next = dot(residual, scaled)
        ratio = torch.where(going, agreement_next / torch.where(going, agreement, 1.0), 0.0)
        direction = scaled + ratio * direction
        agreement = agreement_next
        norm = torch.where(going, dot(residual, residual), 0.0)
    return z
