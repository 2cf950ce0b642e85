"""Physics with the names of deepinv's methods, and no more of it."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor


class LinearPhysics:
    """As deepinv has it for all of them: by iteration, and to a coarse tolerance."""

    def A(self, x: Tensor) -> Tensor:
        raise NotImplementedError

    def A_adjoint(self, y: Tensor) -> Tensor:
        raise NotImplementedError

    def A_dagger(self, y: Tensor) -> Tensor:
        raise AssertionError("found by iteration")

    def prox_l2(self, z: Tensor, y: Tensor, gamma: float) -> Tensor:
        raise AssertionError("found by iteration")


class Averaging(LinearPhysics):
    """Means of 2x2 blocks, without closed forms."""

    def A(self, x: Tensor) -> Tensor:
        return F.avg_pool2d(x, 2)

    def A_adjoint(self, y: Tensor) -> Tensor:
        return F.interpolate(y, scale_factor=2) / 4


class Decomposed(LinearPhysics):
    """A mask, with closed forms of its own."""

    def __init__(self, mask: Tensor) -> None:
        self.mask, self.calls = mask, 0

    def A(self, x: Tensor) -> Tensor:
        return self.mask.to(x) * x

    def A_adjoint(self, y: Tensor) -> Tensor:
        return self.mask.to(y) * y

    def A_dagger(self, y: Tensor) -> Tensor:
        self.calls += 1
        return self.A_adjoint(y)

    def prox_l2(self, z: Tensor, y: Tensor, gamma: float) -> Tensor:
        self.calls += 1
        return (self.A_adjoint(y) + z / gamma) / (self.mask.to(z) + 1 / gamma)


class Nonlinear:
    """What has no adjoint."""

    def A(self, x: Tensor) -> Tensor:
        return x.abs()


class Stacked(LinearPhysics):
    """What gives a list."""

    def A(self, x: Tensor) -> Any:
        return [x, x]

    def A_adjoint(self, y: Any) -> Tensor:
        return torch.as_tensor(y[0] + y[1])
