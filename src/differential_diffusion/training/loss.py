"""The training loss under random σ fields, in the network's own output space."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ..core.precondition import edm_inputs, edm_target


def sigma_map_loss(
    network: Callable[[Tensor, Tensor], Tensor],
    x0: Tensor,
    sigma: Tensor,
    noise: Tensor,
    sigma_data: float,
    count: Tensor | None = None,
) -> Tensor:
    """Mean squared error of F over the pixels that carry noise.

        x = x0 + σ ε,    F* = (σ x0 - σ_data² ε) / (σ_data sqrt(σ² + σ_data²))
        loss = mean over {σ > 0} of |F(c_in x, c_noise) - F*|²

    This is EDM's loss (Karras et al. 2022, eq. 8) with λ(σ) = 1/c_out², written where no weight
    is infinite; at σ = 0 the target is noise that left no trace in x, so those pixels are out.

    Args:
        network: F, called with (c_in x, c_noise).
        x0: (B,C,H,W) in [-1,1].
        sigma: (B,1,H,W), at least 0.
        noise: ε, like `x0`.
        sigma_data: standard deviation of the data.
        count: number of noisy pixels to divide by; those of `sigma` by default. Processes that
            share a batch give its total, over their number.
    """
    x = x0 + sigma * noise
    f = network(*edm_inputs(x, sigma, sigma_data))
    error = (f.float() - edm_target(x0, noise, sigma, sigma_data)).square()
    noisy = (sigma > 0).to(error.dtype)
    count = noisy.sum() if count is None else count
    return torch.sum(error * noisy) / (count.clamp(min=1) * x0.shape[1])
