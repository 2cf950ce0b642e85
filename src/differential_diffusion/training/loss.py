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
    """Weighted squared error of F over each picture's noisy pixels, mean over pictures.

        x = x0 + σ ε,    F* = (σ x0 - σ_data² ε) / (σ_data sqrt(σ² + σ_data²))
        loss = mean over pictures of  sqrt(q) mean over {σ > 0} of w(σ) |F(c_in x, c_noise) - F*|²

    where q is the picture's share of noisy pixels. With w = 1 and q = 1 this is EDM's loss
    (Karras et al. 2022, eq. 8) with λ(σ) = 1/c_out², written where no weight is infinite; at
    σ = 0 the target is noise that left no trace in x, so those pixels are out.

    w (`level_weight`) and sqrt(q) keep the noise of the gradient even. A picture with a small
    hole would otherwise, at the weight of a picture, have thirty times the squared gradient of
    one at a middle level, and drown it; by the pixel, at a weight of q, it would hardly count.

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
    share = (sigma > 0).float().mean((1, 2, 3))
    total = (level_weight(sigma, sigma_data) * error).mean((1, 2, 3))
    return (total / share.sqrt().clamp(min=1e-6)).mean()


def level_weight(sigma: Tensor, sigma_data: float) -> Tensor:
    """w(σ) = 1 / (1 + ln²(σ/σ_data) / 3), and 0 at σ = 0: the inverse of what is attainable.

    The error of F is least at σ = σ_data and grows towards both ends, where detail or everything
    drowns in noise. Weighted by its inverse, every level pulls alike, as in Karras et al.,
    "Analyzing and Improving the Training Dynamics of Diffusion Models", CVPR 2024, eq. 21, where
    the curve is learned; this one fits the bundled prior from σ = 0.02 to 3 on photographs.
    """
    return 1 / (1 + (sigma / sigma_data).log().square() / 3)
