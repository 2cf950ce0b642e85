"""Linear measurements with adjoint, pseudo-inverse and weighted prox."""

from __future__ import annotations

from .base import LinearOperator
from .mask import Mask

__all__ = ["OPERATORS", "LinearOperator", "Mask"]

OPERATORS: dict[str, type[LinearOperator]] = {"mask": Mask}
