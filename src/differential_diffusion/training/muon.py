"""Muon: momentum whose matrix is orthogonalised before the step (Jordan et al., 2024).

torch has one for 2-D parameters that computes in bfloat16, which CPUs without such units
emulate slowly; this one takes convolution kernels, computes in float32, and iterates on the
small Gram matrix.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

# The quintic a x + b x³ + c x⁵ that Jordan et al. tuned to lift small singular values fast.
_A, _B, _C = 3.4445, -4.7750, 2.0315
_ITERATIONS = 5


def orthogonalize(matrices: Tensor) -> Tensor:
    """Nearly U Vᵀ of each matrix M = U S Vᵀ: singular values in about [0.7, 1.2].

    Newton-Schulz iteration X <- (a + b G + c G²) X with G = X Xᵀ. All polynomials of G commute,
    so the iteration runs on G alone, G <- Q² G, and X is multiplied once at the end.

    Args:
        matrices: (N,rows,columns) float32.
    """
    if matrices.shape[-2] > matrices.shape[-1]:
        return orthogonalize(matrices.mT).mT
    x = matrices / matrices.norm(dim=(-2, -1), keepdim=True).clamp(min=1e-12)
    g = x @ x.mT
    identity = torch.eye(g.shape[-1], dtype=g.dtype, device=g.device)
    product = identity.expand_as(g)
    for _ in range(_ITERATIONS):
        q = _A * identity + _B * g + _C * (g @ g)
        product = q @ product
        g = q @ q @ g
    result: Tensor = product @ x
    return result


class Muon(torch.optim.Optimizer):
    """Orthogonalised momentum for convolution kernels and matrices.

        m <- β m + ∇,    W <- (1 - lr λ) W - lr sqrt(max(1, rows/columns)) orth(∇ + β m)

    A kernel (out,in,h,w) is the matrix (out, in·h·w).

    Args:
        params: parameters of two or more dimensions.
        lr: spectral norm of a step.
        momentum: β.
        weight_decay: λ, decoupled.
    """

    def __init__(
        self,
        params: Iterable[Tensor],
        lr: float = 0.02,
        momentum: float = 0.95,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """Update every parameter that has a gradient."""
        for group in self.param_groups:
            by_shape: dict[torch.Size, list[Tensor]] = defaultdict(list)
            for parameter in group["params"]:
                if parameter.grad is not None:
                    by_shape[parameter.shape].append(parameter)
            for parameters in by_shape.values():
                gradients = [p.grad for p in parameters if p.grad is not None]
                self._step_alike(parameters, gradients, group)

    def _step_alike(
        self, parameters: list[Tensor], gradients: list[Tensor], group: dict[str, Any]
    ) -> None:
        """Update parameters of one shape together, as a batch of matrices."""
        updates = []
        for parameter, gradient in zip(parameters, gradients, strict=True):
            state = self.state[parameter]
            if not state:
                state["momentum"] = torch.zeros_like(parameter)
            momentum = state["momentum"].mul_(group["momentum"]).add_(gradient)
            updates.append(torch.add(gradient, momentum, alpha=group["momentum"]).flatten(1))
        steps = orthogonalize(torch.stack(updates))
        rows, columns = steps.shape[-2:]
        rate = group["lr"] * max(1.0, rows / columns) ** 0.5
        for parameter, step in zip(parameters, steps, strict=True):
            parameter.mul_(1 - group["lr"] * group["weight_decay"])
            parameter.sub_(step.view_as(parameter), alpha=rate)
