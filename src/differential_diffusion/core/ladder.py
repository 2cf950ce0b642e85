"""Scalar noise ladders: the levels σ_0 > σ_1 > ... > σ_N that a run walks down.

Every ladder is a 1-D float64 tensor of N + 1 levels. It ends in 0 exactly, or, with
`final_zero=False`, in the smallest level its schedule knows.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from ..errors import InputError

__all__ = [
    "LADDERS",
    "cosine_betas",
    "flow",
    "flow_times",
    "karras",
    "linear_betas",
    "log_linear",
    "scaled_linear_betas",
    "sigma_to_strength",
    "sigmas_from_betas",
    "strength",
    "strength_to_sigma",
    "vp",
    "vp_cosine",
    "vp_linear",
]

SIGMA_MIN, SIGMA_MAX, RHO = 0.002, 20.0, 7.0

Spacing = Literal["trailing", "leading", "linspace"]


def strength_to_sigma(
    strength: Tensor | float,
    sigma_min: float = SIGMA_MIN,
    sigma_max: float = SIGMA_MAX,
    rho: float = RHO,
) -> Tensor:
    """Noise level of a strength.

        σ(0) = 0 exactly, and for s > 0
        σ(s) = (σ_min^(1/ρ) + s (σ_max^(1/ρ) - σ_min^(1/ρ)))^ρ

    The spacing is that of Karras et al. (2022), eq. 5, read as a function of strength.

    Args:
        strength: any shape, in [0, 1]: 0 must not change, 1 may change completely.

    Returns: σ of the same shape and dtype (float64 for a number).

    Raises:
        InputError: a strength outside [0, 1] or not finite, or limits out of order.
    """
    s = torch.as_tensor(strength, dtype=None if isinstance(strength, Tensor) else torch.float64)
    if not bool(((s >= 0) & (s <= 1)).all()):
        raise InputError("strength must lie in [0, 1] everywhere and hold no NaN: clip or fix it.")
    low, high = _roots(sigma_min, sigma_max, rho)
    # In float64, hence on the CPU (not every device has it), so that maps in float32 meet the
    # levels of the ladder to the last digit.
    exact = s.to("cpu", torch.float64)
    sigma = torch.where(exact > 0, (low + exact * (high - low)) ** rho, 0.0)
    return sigma.to(s)


def sigma_to_strength(
    sigma: Tensor | float,
    sigma_min: float = SIGMA_MIN,
    sigma_max: float = SIGMA_MAX,
    rho: float = RHO,
) -> Tensor:
    """Strength of a noise level, the inverse of `strength_to_sigma`.

    Levels between 0 and σ_min have strength 0, levels above σ_max have strength 1.

    Args:
        sigma: any shape, σ ≥ 0.

    Returns: strength in [0, 1] of the same shape and dtype (float64 for a number).

    Raises:
        InputError: a negative or NaN level, or limits out of order.
    """
    v = torch.as_tensor(sigma, dtype=None if isinstance(sigma, Tensor) else torch.float64)
    if not bool((v >= 0).all()):
        raise InputError("sigma must be 0 or more everywhere and hold no NaN: fix the noise level.")
    low, high = _roots(sigma_min, sigma_max, rho)
    exact = v.to("cpu", torch.float64)
    return ((exact ** (1 / rho) - low) / (high - low)).clamp(0, 1).to(v)


def strength(
    n: int,
    sigma_min: float = SIGMA_MIN,
    sigma_max: float = SIGMA_MAX,
    rho: float = RHO,
    final_zero: bool = True,
) -> Tensor:
    """The ladder of equal strength steps: σ_i = σ(1 - i/n), from σ_max to 0 (or σ_min)."""
    _check_steps(n)
    s = 1 - torch.arange(n + 1, dtype=torch.float64) / n
    sigma = strength_to_sigma(s, sigma_min, sigma_max, rho)
    if not final_zero:
        sigma[-1] = sigma_min
    return sigma


def karras(
    n: int,
    sigma_min: float = SIGMA_MIN,
    sigma_max: float = SIGMA_MAX,
    rho: float = RHO,
    final_zero: bool = True,
) -> Tensor:
    """The ladder of Karras et al. (2022), eq. 5: equal steps of σ^(1/ρ) down to σ_min, then 0."""
    low, high = _roots(sigma_min, sigma_max, rho)
    return _finish((high + _ramp(n, final_zero) * (low - high)) ** rho, final_zero)


def log_linear(
    n: int, sigma_min: float = SIGMA_MIN, sigma_max: float = SIGMA_MAX, final_zero: bool = True
) -> Tensor:
    """The geometric ladder of Song et al. (2021), "VE": equal steps of ln σ, then 0."""
    _check_limits(sigma_min, sigma_max)
    high, low = math.log(sigma_max), math.log(sigma_min)
    return _finish(torch.exp(high + _ramp(n, final_zero) * (low - high)), final_zero)


def linear_betas(timesteps: int = 1000, start: float = 1e-4, end: float = 0.02) -> Tensor:
    """β_t rising linearly, (timesteps,) (Ho et al., 2020)."""
    return torch.linspace(start, end, timesteps, dtype=torch.float64)


def scaled_linear_betas(
    timesteps: int = 1000, start: float = 0.00085, end: float = 0.012
) -> Tensor:
    """β_t with linearly rising root, (timesteps,) (Rombach et al., 2022)."""
    return torch.linspace(start**0.5, end**0.5, timesteps, dtype=torch.float64) ** 2


def cosine_betas(timesteps: int = 1000, offset: float = 0.008, largest: float = 0.999) -> Tensor:
    """β_t of the cosine schedule, (timesteps,) (Nichol and Dhariwal, 2021, eq. 17)."""
    t = torch.linspace(0, 1, timesteps + 1, dtype=torch.float64)
    alpha_bar = torch.cos((t + offset) / (1 + offset) * math.pi / 2) ** 2
    return (1 - alpha_bar[1:] / alpha_bar[:-1]).clamp(max=largest)


def sigmas_from_betas(betas: Tensor) -> Tensor:
    """σ_t = sqrt((1 - ᾱ_t) / ᾱ_t), ᾱ_t = Π (1 - β), rising with t, (T,) float64.

    A variance-preserving model sees x_t = √ᾱ_t x0 + √(1 - ᾱ_t) ε = √ᾱ_t (x0 + σ_t ε).
    β = 1 (zero terminal SNR) gives σ = ∞: that model starts from pure noise in its own pair
    (α, σ) = (0, 1).

    Raises:
        InputError: betas that are not one row of numbers in (0, 1].
    """
    betas = torch.as_tensor(betas, dtype=torch.float64)
    if betas.ndim != 1 or not len(betas) or not bool(((betas > 0) & (betas <= 1)).all()):
        raise InputError("betas must be a 1-D array of numbers in (0, 1]: check the schedule.")
    alpha_bar = torch.cumprod(1 - betas, 0)
    return ((1 - alpha_bar) / alpha_bar).sqrt()


def vp(
    n: int,
    betas: Tensor,
    spacing: Spacing = "trailing",
    steps_offset: int = 0,
    final_zero: bool = True,
) -> Tensor:
    """The ladder of a variance-preserving schedule, at n of its T timesteps, then 0.

    Args:
        betas: (T,), see `sigmas_from_betas`.
        spacing: which timesteps, named as in Diffusers (Lin et al., 2024, table 2): "trailing"
            takes T, T - T/n, ... and so begins at the noisiest; "leading" ends at the cleanest;
            "linspace" does both, interpolating σ between timesteps.
        steps_offset: added to the timesteps of "leading".
        final_zero: whether to end in 0, or in the schedule's cleanest timestep.

    Raises:
        InputError: n out of 1...T, an unknown spacing, or an infinite first level.
    """
    sigmas = sigmas_from_betas(betas)
    total, count = len(sigmas), n if final_zero else n + 1
    _check_steps(n)
    if count > total:
        raise InputError(f"steps must be at most the schedule's {total} timesteps, not {count}.")
    index = torch.arange(count, dtype=torch.float64)
    if spacing == "trailing":
        t = (total - index * (total / n)).round() - 1
    elif spacing == "leading":
        t = (count - 1 - index) * (total // count) + steps_offset
    elif spacing == "linspace":
        t = torch.linspace(total - 1, 0, count, dtype=torch.float64)
    else:
        raise InputError(f"spacing must be trailing, leading or linspace, not {spacing!r}.")
    t = t.clamp(0, total - 1)
    below = t.floor().long()
    above = t.ceil().long()
    ladder = torch.lerp(sigmas[below], sigmas[above], t - below)
    if not bool(ladder.isfinite().all()):
        raise InputError(
            "betas end in zero terminal SNR, where sigma is infinite: use spacing='leading' or"
            " rescale the schedule."
        )
    return _finish(ladder, final_zero)


def vp_linear(n: int, spacing: Spacing = "trailing", final_zero: bool = True) -> Tensor:
    """The ladder of DDPM's linear betas, see `vp`."""
    return vp(n, linear_betas(), spacing, final_zero=final_zero)


def vp_cosine(n: int, spacing: Spacing = "trailing", final_zero: bool = True) -> Tensor:
    """The ladder of the cosine betas, see `vp`."""
    return vp(n, cosine_betas(), spacing, final_zero=final_zero)


def flow_times(n: int, t_max: float = 1.0, t_min: float = 0.0, shift: float = 1.0) -> Tensor:
    """Times of a rectified flow from shift(t_max) to shift(t_min), (n+1,) float64.

        shift(t) = s t / (1 + (s - 1) t)

    In the model's own pair (α, σ) = (1 - t, t) they are finite throughout: at t = 1 the state
    is pure noise. (Liu et al., 2023; the shift is Esser et al., 2024, eq. 23.)
    """
    _check_steps(n)
    if not (0 <= t_min < t_max <= 1) or not 0 < shift < math.inf:
        raise InputError("flow times need 0 <= t_min < t_max <= 1 and a positive, finite shift.")
    t = torch.linspace(t_max, t_min, n + 1, dtype=torch.float64)
    return shift * t / (1 + (shift - 1) * t)


def flow(
    n: int,
    t_max: float = 0.98,
    t_min: float = 0.002,
    shift: float = 1.0,
    final_zero: bool = True,
) -> Tensor:
    """The ladder of a rectified flow, σ = t / (1 - t), see `flow_times`.

    σ is infinite at t = 1, so the ladder begins at t_max < 1 (before the shift). It ends at
    t = 0, or at t_min.
    """
    if t_max >= 1:
        raise InputError("t_max must be below 1, where sigma is infinite: use flow_times instead.")
    t = flow_times(n, t_max, 0.0 if final_zero else t_min, shift)
    return t / (1 - t)


def _roots(sigma_min: float, sigma_max: float, rho: float) -> tuple[float, float]:
    _check_limits(sigma_min, sigma_max)
    if not 0 < rho < math.inf:
        raise InputError(f"rho must be positive and finite, not {rho}.")
    return sigma_min ** (1 / rho), sigma_max ** (1 / rho)


def _check_limits(sigma_min: float, sigma_max: float) -> None:
    if not 0 < sigma_min < sigma_max < math.inf:
        raise InputError(
            f"noise levels need 0 < sigma_min < sigma_max < inf, not {sigma_min} and {sigma_max}."
        )


def _check_steps(n: int) -> None:
    if isinstance(n, bool) or not isinstance(n, int) or n < 1:
        raise InputError(f"steps must be a whole number of at least 1, not {n!r}.")


def _ramp(n: int, final_zero: bool) -> Tensor:
    """From 0 to 1 in n numbers, or n + 1."""
    _check_steps(n)
    return torch.linspace(0, 1, n if final_zero else n + 1, dtype=torch.float64)


def _finish(sigmas: Tensor, final_zero: bool) -> Tensor:
    return torch.cat([sigmas, sigmas.new_zeros(1)]) if final_zero else sigmas


LADDERS: dict[str, Callable[..., Tensor]] = {
    "strength": strength,
    "karras": karras,
    "vp_linear": vp_linear,
    "vp_cosine": vp_cosine,
    "log_linear": log_linear,
    "flow": flow,
}
