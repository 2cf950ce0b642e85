"""Guidance: denoiser → denoiser, so that guided ones go wherever plain ones go.

Every wrapper leaves pixels with σ = 0 to the denoiser it wraps: kept pixels do not move.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ..errors import InputError
from .operators import Composition, LinearOperator, Mask
from .types import Denoiser

__all__ = ["classifier_free", "data_consistency", "ddnm", "loss_guidance", "pigdm"]


def classifier_free(
    cond: Denoiser, uncond: Denoiser, scale: float | Tensor, rescale: float = 0.0
) -> Denoiser:
    """Classifier-free guidance (Ho and Salimans, 2022), if wanted with rescaling.

        D  = D_u + w (D_c - D_u)
        D' = x - [φ std(ε_c)/std(ε) + 1 - φ] (x - D),    ε = (x - D)/σ

    Args:
        cond, uncond: denoisers with and without the condition.
        scale: w, 1 for the conditional denoiser; a map (B,1,H,W) guides each pixel as much.
        rescale: φ in [0, 1], against over-exposure at large w (Lin et al., 2024, section 3.4);
            the standard deviations are over the channels and noisy pixels of each image.

    Raises:
        InputError: rescale outside [0, 1].
    """
    if not 0 <= rescale <= 1:
        raise InputError(f"rescale must lie in [0, 1], not {rescale}.")

    def denoise(x: Tensor, sigma: Tensor) -> Tensor:
        d_c, d_u = cond(x, sigma), uncond(x, sigma)
        d = d_u + scale * (d_c - d_u)
        if rescale > 0:
            std_c, std = _noise_std(x - d_c, sigma), _noise_std(x - d, sigma)
            ratio = torch.where(std > 0, std_c / torch.where(std > 0, std, 1.0), 1.0)
            d = x - (rescale * ratio + 1 - rescale) * (x - d)
        return torch.where(sigma > 0, d, d_c)

    return denoise


def _noise_std(residual: Tensor, sigma: Tensor) -> Tensor:
    """Standard deviation of residual/σ over the noisy pixels of each image, (B,1,1,1)."""
    noisy = (sigma > 0).expand_as(residual)
    eps = torch.where(noisy, residual / torch.where(sigma > 0, sigma, 1.0), 0.0)
    count = noisy.sum((1, 2, 3), keepdim=True).clamp(min=1)
    mean = eps.sum((1, 2, 3), keepdim=True) / count
    square = torch.where(noisy, (eps - mean).square(), 0.0)
    return (square.sum((1, 2, 3), keepdim=True) / count).sqrt()


def data_consistency(
    denoise: Denoiser,
    operator: LinearOperator,
    y: Tensor,
    *,
    noise_sigma: float | Tensor = 0.0,
    sigma_data: float = 0.5,
) -> Denoiser:
    """Make the estimate agree with a measurement y = A x0 + noise (DiffPIR, Zhu et al., 2023).

        D' = argmin_z  Σ (z - D)²/(2 V) + Σ (A z - y)²/(2 R)
        V = σ² σ_data²/(σ² + σ_data²),    R = noise_sigma²

    V stands for the variance of x0 about D, and is exact for a white Gaussian prior of
    deviation σ_data (∞ gives V = σ², as published). It is a map: where σ = 0 the pixel is
    certain and stays.

    Args:
        denoise: D(x, σ).
        operator: A.
        y: the measurement, like ``operator.forward(x)``.
        noise_sigma: its noise level, a number or a map like y; 0 holds it exactly.
        sigma_data: standard deviation of the data.

    Raises:
        InputError: a negative noise level, or sigma_data not above 0.
    """
    _check_noise(noise_sigma)
    variance = _variance(sigma_data)

    def consistent(x: Tensor, sigma: Tensor) -> Tensor:
        d = denoise(x, sigma)
        r = torch.as_tensor(noise_sigma).to(x).square()
        return torch.where(sigma > 0, operator.prox(d, y.to(x), variance(sigma), r), d)

    return consistent


def ddnm(
    denoise: Denoiser,
    operator: LinearOperator,
    y: Tensor,
    *,
    noise_sigma: float | Tensor = 0.0,
) -> Denoiser:
    """Give the estimate what was measured, and leave the operator's null space to the model.

        D' = D + λ A⁺ (y - A D),    λ = min(1, σ/σ_y)    (DDNM, Wang et al., 2023, eq. 13 and 17)

    Without noise A D' = y, as far as pixels that may move can hold it: pixels with σ = 0 are no
    unknowns, and A⁺ is the pseudo-inverse over the others. With noise, DDNM+ takes no more of it
    in than the state carries: λ is equation 19 for a whole step (a_t = 1), as a denoiser is not
    told how long the solver's next one is. σ_y is the deviation that the noise has in the picture,
    after A⁺: a number is taken as it is (masks, block averages), a map like y is carried over,
    |A⁺ noise_sigma|, which is exact where each pixel comes from one measurement. An operator
    whose pseudo-inverse amplifies noise, such as a blur, needs `data_consistency` or `pigdm`.

    Args:
        denoise: D(x, σ).
        operator: A.
        y: the measurement, like ``operator.forward(x)``.
        noise_sigma: its noise level, a number or a map like y.

    Raises:
        InputError: a negative noise level.
    """
    _check_noise(noise_sigma)

    def consistent(x: Tensor, sigma: Tensor) -> Tensor:
        d = denoise(x, sigma)
        moving = sigma > 0
        a = operator
        if not bool(moving.all()):
            a = Composition(operator, Mask(moving.expand(-1, 1, *x.shape[-2:]).to(x)))
        carried = torch.as_tensor(noise_sigma).to(x)
        if carried.ndim:
            carried = a.pseudo_inverse(carried.expand_as(y)).abs()
        share = torch.where(carried > sigma, sigma / torch.where(carried > 0, carried, 1.0), 1.0)
        moved = d + share * a.pseudo_inverse(y.to(x) - operator.forward(d))
        return torch.where(moving, moved, d)

    return consistent


def pigdm(
    denoise: Denoiser,
    operator: LinearOperator,
    y: Tensor,
    *,
    noise_sigma: float | Tensor = 0.0,
    sigma_data: float = 0.5,
    variance: Callable[[Tensor], Tensor] | None = None,
) -> Denoiser:
    """Move the estimate by what a measurement says of x, through the denoiser.

        D' = D + σ² (∂D/∂x)ᵀ Aᵀ (A V Aᵀ + R)⁻¹ (y - A D),    R = noise_sigma²

    (ΠGDM, Song et al., 2023, eq. 7, as an estimate by Tweedie's formula.) σ² ∂D/∂x is the
    covariance of x0 given x, so that pixels which were not measured move with those that were, as
    the model has them correlated. V stands for it between the measured values. D' is the posterior
    mean given x and y, exactly, for a Gaussian prior where A V Aᵀ is what A makes of the
    covariance: a white prior, or measured values that are uncorrelated and V their variances.

    Pixels of pictures are correlated, and with their variances alone the estimates overshoot and
    run away. V is therefore the covariance's row sums (Boys et al., 2023), a map that the denoiser
    tells, and no less than a white prior's variance:

        V = max(σ² (∂D/∂x)ᵀ 1, σ² σ_data²/(σ² + σ_data²))

    It takes two backward passes through the denoiser with every evaluation: three times the time,
    and memory for all of its activations.

    Args:
        denoise: D(x, σ), differentiable in x.
        operator: A.
        y: the measurement, like ``operator.forward(x)``.
        noise_sigma: its noise level, a number or a map like y.
        sigma_data: standard deviation of the data.
        variance: σ-map -> V, broadcastable to x, in its place.

    Raises:
        InputError: a negative noise level, sigma_data not above 0, or a denoiser that passes no
            gradient.
    """
    _check_noise(noise_sigma)
    least = _variance(sigma_data)

    def guided(x: Tensor, sigma: Tensor) -> Tensor:
        with torch.enable_grad():
            at = x.detach().requires_grad_()
            estimate = denoise(at, sigma)
            d = estimate.detach()
            # What is certain passes no gradient on.
            moving = torch.where(sigma > 0, estimate, d)
            if not moving.requires_grad:
                raise InputError(
                    "the denoiser passes no gradient: use data_consistency or ddnm instead."
                )
            if variance is None:
                (sums,) = torch.autograd.grad(moving, at, torch.ones_like(d), retain_graph=True)
                v = torch.maximum(sigma * sigma * sums, least(sigma))
            else:
                v = variance(sigma).to(x)
            r = torch.as_tensor(noise_sigma).to(x).square()
            # V Aᵀ (A V Aᵀ + R)⁻¹ (y - A D) is the prox of nothing.
            change = operator.prox(torch.zeros_like(d), y.to(x) - operator.forward(d), v, r)
            pull = torch.where(v > 0, change / torch.where(v > 0, v, 1.0), 0.0)
            (gradient,) = torch.autograd.grad(moving, at, pull)
        return torch.where(sigma > 0, d + sigma * sigma * gradient, d)

    return guided


def loss_guidance(
    denoise: Denoiser,
    loss: Callable[[Tensor], Tensor],
    scale: float | Tensor = 1.0,
    *,
    through_denoiser: bool = True,
    sigma_data: float = 0.5,
) -> Denoiser:
    """Steer the estimate down any differentiable loss of the picture: bring your own network.

        through the denoiser:    D' = D - w σ² ∇_x L(D(x, σ))    (DPS, Chung et al., 2023)
        on the estimate alone:   D' = D - w V  ∇_D L(D),    V = σ² σ_data²/(σ² + σ_data²)

    With w = 1 and L(D(x)) = -log p(y | x) the first is the posterior mean given y, exactly, by
    Tweedie's formula. The second saves the backward pass through the denoiser; it takes
    ∂D/∂x = V/σ², which a white Gaussian prior has. Each pixel is moved by its own σ.

    Args:
        denoise: D(x, σ), differentiable in x if gradients go through it.
        loss: from the estimate (B,C,H,W) in [-1,1] give or take, to one number, or one for
            each image.
        scale: w, a number or a map (B,1,H,W).
        through_denoiser: which of the two.
        sigma_data: standard deviation of the data.

    Raises:
        InputError: a loss that cannot be differentiated, or sigma_data not above 0.
    """
    variance = _variance(sigma_data)

    def guided(x: Tensor, sigma: Tensor) -> Tensor:
        with torch.enable_grad():
            at = x.detach().requires_grad_() if through_denoiser else denoise(x, sigma).detach()
            d = denoise(at, sigma) if through_denoiser else at.requires_grad_()
            # What is certain passes no gradient on, not even one that is infinite there.
            value = loss(torch.where(sigma > 0, d, d.detach())).sum()
            if not value.requires_grad:
                raise InputError(
                    "the loss has no gradient at the estimate: compute it with differentiable"
                    " torch operations."
                )
            (gradient,) = torch.autograd.grad(value, at)
        weight = sigma * sigma if through_denoiser else variance(sigma)
        return torch.where(sigma > 0, d.detach() - scale * weight * gradient, d.detach())

    return guided


def _check_noise(noise_sigma: float | Tensor) -> None:
    if not bool((torch.as_tensor(noise_sigma) >= 0).all()):
        raise InputError("noise_sigma must be 0 or more everywhere: fix the noise level.")


def _variance(sigma_data: float) -> Callable[[Tensor], Tensor]:
    """V = σ² σ_data²/(σ² + σ_data²), which for σ_data = ∞ is σ²."""
    if not sigma_data > 0:
        raise InputError(f"sigma_data must be above 0, not {sigma_data}.")
    precision = sigma_data**-2
    return lambda sigma: sigma * sigma / (1 + sigma * sigma * precision)
