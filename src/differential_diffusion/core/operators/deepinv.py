"""Linear physics of deepinv (Tachella et al., 2023), on pictures in [-1,1]."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ...errors import InputError
from .base import FLOOR, LinearOperator

__all__ = ["DeepinvPhysics"]


class DeepinvPhysics(LinearOperator):
    """A x = `physics.A(x)`; deepinv itself is not imported.

    deepinv's pictures lie in [0,1], u = (x + 1)/2, and so y = A u + n is affine in x. Doubled and
    less what a white picture gives, it is linear with the same A:

        2 y - A 1 = A x + 2 n

    `measured` is the left side; a noise level on deepinv's scale is to be doubled. Closed forms are
    deepinv's where a physics has its own (masks, Fourier, singular values): `A_dagger`, and
    `prox_l2` where one variance and one noise level hold for the whole batch. Those that it would
    find by iteration, to a coarse tolerance by default, are found here.

    Args:
        physics: with the methods `A` and `A_adjoint`, on tensors.

    Raises:
        InputError: physics without these, such as one that is not linear.
    """

    def __init__(self, physics: Any) -> None:
        for name in ("A", "A_adjoint"):
            if not callable(getattr(physics, name, None)):
                raise InputError(
                    f"{type(physics).__name__} has no {name}: give a linear physics of deepinv."
                )
        self.physics = physics

    def measured(self, y: Tensor) -> Tensor:
        """What was measured of a picture in [0,1], as the measurement of the same in [-1,1].

        Args:
            y: what the physics gave, (B,...).
        """
        white = torch.ones_like(self.physics.A_adjoint(y))
        return 2 * y - self.forward(white)

    def forward(self, x: Tensor) -> Tensor:
        """A x."""
        return _tensor(self.physics.A(x))

    def adjoint(self, y: Tensor) -> Tensor:
        """Aᵀ y."""
        return _tensor(self.physics.A_adjoint(y))

    def pseudo_inverse(self, y: Tensor) -> Tensor:
        """A⁺ y."""
        if not _own(self.physics, "A_dagger"):
            return super().pseudo_inverse(y)
        return _tensor(self.physics.A_dagger(y))

    def prox(
        self, v: Tensor, y: Tensor, variance: Tensor, noise_variance: Tensor | float = 0.0
    ) -> Tensor:
        """By deepinv, argmin_x γ/2 ‖A x - y‖² + ‖x - v‖²/2 with γ = V/R; see `LinearOperator`."""
        noise = torch.as_tensor(noise_variance)
        one = variance.numel() == 1 and noise.numel() == 1 and bool(variance > 0)
        if not one or not _own(self.physics, "prox_l2"):
            return super().prox(v, y, variance, noise_variance)
        return _tensor(self.physics.prox_l2(v, y, float(variance) / max(float(noise), FLOOR)))


def _own(physics: Any, name: str) -> bool:
    """Whether a physics has a method of its own, and not that of all linear ones."""
    method = getattr(type(physics), name, None)
    return method is not None and method.__qualname__ != f"LinearPhysics.{name}"


def _tensor(value: Any) -> Tensor:
    if not isinstance(value, Tensor):
        raise InputError(
            f"the physics gives a {type(value).__name__}: stack its measurements in one tensor."
        )
    return value
