"""One operator after another."""

from __future__ import annotations

from torch import Tensor

from .base import LinearOperator

__all__ = ["Composition"]


class Composition(LinearOperator):
    """A x = B (C x): such as a blur, then down-sampling.

    Args:
        outer: B.
        inner: C, whose measurements are pictures for B.
    """

    def __init__(self, outer: LinearOperator, inner: LinearOperator) -> None:
        self.outer, self.inner = outer, inner

    def forward(self, x: Tensor) -> Tensor:
        """A x = B C x."""
        return self.outer.forward(self.inner.forward(x))

    def adjoint(self, y: Tensor) -> Tensor:
        """Aᵀ y = Cᵀ Bᵀ y."""
        return self.inner.adjoint(self.outer.adjoint(y))
