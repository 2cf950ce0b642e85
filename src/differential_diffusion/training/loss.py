"""The training loss under random σ fields, in the network's own output space."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from ..core.precondition import edm_inputs, edm_target


def sigma_map_loss(
    network: Callable[[Tensor, Tensor], Tensor],
    x0: Tensor,
    sigma: Tensor,
    noise: Tensor,
    sigma_data: float,
) -> Tensor:
    """Mean squared error of F over each picture's noisy pixels, and over pictures.

        x = x0 + σ ε,    F* = (σ x0 - σ_data² ε) / (σ_data sqrt(σ² + σ_data²))
        loss = mean over pictures of mean over {σ > 0} of |F(c_in x, c_noise) - F*|²

    This is EDM's loss (Karras et al. 2022, eq. 8) with λ(σ) = 1/c_out², written where no weight
    is infinite; at σ = 0 the target is noise that left no trace in x, so those pixels are out.
    A picture with a small hole counts as much as one that is noisy all over.

    Args:
        network: F, called with (c_in x, c_noise).
        x0: (B,C,H,W) in [-1,1].
        sigma: (B,1,H,W), at least 0.
        noise: ε, like `x0`.
        sigma_data: standard deviation of the data.
    """
    x = x0 + sigma * noise
    f = network(*edm_inputs(x, sigma, sigma_data))
    error = (f.float() - edm_target(x0, noise, sigma, sigma_data)).square()
    noisy = (sigma > 0).to(error.dtype)
    count = noisy.expand_as(error).sum((1, 2, 3)).clamp(min=1)
    return ((error * noisy).sum((1, 2, 3)) / count).mean()
