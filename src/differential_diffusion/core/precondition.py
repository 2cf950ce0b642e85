"""Adapters from what a network predicts to the denoised picture: network → `Denoiser`.

Inside the package the state is x = x0 + σ ε and the condition is a σ-map. A network has its own
pair (α, σ'), x_t = α x0 + σ' ε = α x with σ = σ'/α, and its own time; both stop here:

    variance preserving   α = 1/sqrt(1 + σ²)    t from a table of betas
    rectified flow        α = 1/(1 + σ)         t = σ/(1 + σ)
    variance exploding    α = 1                 t = σ

Where σ = 0 every adapter returns x, whatever finite number the network gives.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ..errors import InputError
from .ladder import sigmas_from_betas
from .types import Denoiser

__all__ = [
    "SIGMA_FLOOR",
    "BetaTimes",
    "Network",
    "edm",
    "edm_inputs",
    "edm_target",
    "epsilon",
    "flow",
    "log_level",
    "score",
    "velocity",
    "x0",
]

SIGMA_FLOOR = 2e-3
"""The noise level that an EDM network is told for all levels below it, 0 included."""

Network = Callable[[Tensor, Tensor], Tensor]
"""(x, condition) -> (B,C,H,W), with x (B,C,H,W) scaled as the network wants it."""


def log_level(sigma: Tensor) -> Tensor:
    """c_noise, what an EDM network is told of σ: ln max(σ, SIGMA_FLOOR) / 4."""
    return sigma.clamp(min=SIGMA_FLOOR).log() / 4


def edm_inputs(x: Tensor, sigma: Tensor, sigma_data: float = 0.5) -> tuple[Tensor, Tensor]:
    """What an EDM network is given: c_in x, and c_noise (Karras et al., 2022, table 1).

        c_in = 1/sqrt(σ² + σ_data²),    c_noise = ln max(σ, SIGMA_FLOOR) / 4

    Args:
        x: (B,C,H,W).
        sigma: broadcastable to (B,1,H,W).

    Returns: c_in x, (B,C,H,W), and c_noise, (B,1,H,W), or (B,1,1,1) for one level an image.
    """
    sigma = _conform(sigma, x)
    c_in = (sigma * sigma + sigma_data**2).rsqrt()
    return c_in * x, log_level(sigma)


def edm(network: Network, sigma_data: float = 0.5) -> Denoiser:
    """Denoiser of an EDM network F, σ per pixel (Karras et al., 2022, eq. 7).

        D = c_skip x + c_out F(c_in x, c_noise)
        c_skip = σ_data²/(σ² + σ_data²),    c_out = σ σ_data/sqrt(σ² + σ_data²)

    Args:
        network: F, called as in `edm_inputs`.
        sigma_data: standard deviation of the data, per pixel.
    """

    def denoise(x: Tensor, sigma: Tensor) -> Tensor:
        total = sigma * sigma + sigma_data**2
        c_skip = sigma_data**2 / total
        c_out = sigma * sigma_data * total.rsqrt()
        return c_skip * x + c_out * network(*edm_inputs(x, sigma, sigma_data))

    return denoise


def edm_target(x0: Tensor, eps: Tensor, sigma: Tensor, sigma_data: float = 0.5) -> Tensor:
    """What an EDM network should return for x = x0 + σ ε, so that D = x0.

        F* = (x0 - c_skip x)/c_out = (σ x0 - σ_data² ε) / (σ_data sqrt(σ² + σ_data²))

    Unit variance at every σ, and finite at σ = 0, where c_out = 0.

    Args:
        x0, eps: (B,C,H,W).
        sigma: broadcastable to (B,1,H,W).
    """
    total = sigma * sigma + sigma_data**2
    return (sigma * x0 - sigma_data**2 * eps) * total.rsqrt() / sigma_data


class BetaTimes:
    """Timestep of a noise level in a variance-preserving table, by interpolation in ln σ.

    Levels beyond the table get its first or last timestep.

    Args:
        betas: (T,), T ≥ 2, see `core.ladder.sigmas_from_betas`.
    """

    def __init__(self, betas: Tensor) -> None:
        self.log_sigmas = sigmas_from_betas(betas).log()
        if len(self.log_sigmas) < 2:
            raise InputError("betas must have at least two timesteps: give the whole schedule.")

    def __call__(self, sigma: Tensor) -> Tensor:
        """Fractional timestep in [0, T - 1], of the shape of σ."""
        table = self.log_sigmas.to(sigma)
        log_sigma = sigma.log().clamp(table[0], table[-1])
        above = torch.searchsorted(table, log_sigma.contiguous()).clamp(1, len(table) - 1)
        low, high = table[above - 1], table[above]
        return above - 1 + (log_sigma - low) / (high - low)


def epsilon(network: Network, times: BetaTimes, *, per_pixel: bool = False) -> Denoiser:
    """Denoiser of a variance-preserving network that predicts the noise (Ho et al., 2020).

        D = x - σ ε(α x, t)

    Args:
        network: ε(x_t, t), with t (B,), or (B,1,H,W) if `per_pixel`.
        times: the network's timesteps.
        per_pixel: whether the network takes a map of times. If not, the denoiser takes one σ
            for each image, and raises InputError for other σ-maps; see `core.lift`.
    """

    def denoise(x: Tensor, sigma: Tensor) -> Tensor:
        alpha = (1 + sigma * sigma).rsqrt()
        return x - sigma * network(alpha * x, _time(times(sigma), x, per_pixel))

    return denoise


def x0(network: Network, times: BetaTimes, *, per_pixel: bool = False) -> Denoiser:
    """Denoiser of a variance-preserving network that predicts the clean picture.

        D = x0(α x, t)    where σ > 0, else x

    Arguments and errors as in `epsilon`.
    """

    def denoise(x: Tensor, sigma: Tensor) -> Tensor:
        alpha = (1 + sigma * sigma).rsqrt()
        return torch.where(sigma > 0, network(alpha * x, _time(times(sigma), x, per_pixel)), x)

    return denoise


def velocity(network: Network, times: BetaTimes, *, per_pixel: bool = False) -> Denoiser:
    """Denoiser of a variance-preserving network that predicts v (Salimans and Ho, 2022).

        v = α ε - σ' x0,    D = α (α x) - σ' v(α x, t),    σ' = α σ

    Arguments and errors as in `epsilon`.
    """

    def denoise(x: Tensor, sigma: Tensor) -> Tensor:
        alpha = (1 + sigma * sigma).rsqrt()
        v = network(alpha * x, _time(times(sigma), x, per_pixel))
        return alpha * (alpha * x) - alpha * sigma * v

    return denoise


def score(network: Network, times: BetaTimes | None = None, *, per_pixel: bool = False) -> Denoiser:
    """Denoiser of a network that predicts the score, by Tweedie's formula.

        variance exploding:    D = x + σ² s(x, σ)
        variance preserving:   D = x + σ²α s(α x, t),    s the score of x_t = α x

    (Song et al., 2021; the second from s = -ε/σ' with σ' = α σ.)

    Args:
        network: s, given (x, σ), or (α x, t) with `times`.
        times: the timesteps of a variance-preserving network.
        per_pixel: as in `epsilon`.
    """

    def denoise(x: Tensor, sigma: Tensor) -> Tensor:
        if times is None:
            return x + sigma * sigma * network(x, _time(sigma, x, per_pixel))
        alpha = (1 + sigma * sigma).rsqrt()
        s = network(alpha * x, _time(times(sigma), x, per_pixel))
        return x + sigma * sigma * alpha * s

    return denoise


def flow(network: Network, *, time_scale: float = 1.0, per_pixel: bool = False) -> Denoiser:
    """Denoiser of a rectified flow (Liu et al., 2023), x_t = (1 - t) x0 + t ε.

        v = ε - x0,    t = σ/(1 + σ),    D = x_t - t v(x_t, t),    x_t = x/(1 + σ)

    σ is infinite at t = 1: begin a run just below, see `core.ladder.flow`.

    Args:
        network: v(x_t, t), with t (B,), or (B,1,H,W) if `per_pixel`.
        time_scale: what the network calls t = 1, such as 1000.
        per_pixel: as in `epsilon`.
    """

    def denoise(x: Tensor, sigma: Tensor) -> Tensor:
        t = sigma / (1 + sigma)
        x_t = x / (1 + sigma)
        return x_t - t * network(x_t, _time(time_scale * t, x, per_pixel))

    return denoise


def _conform(sigma: Tensor, x: Tensor) -> Tensor:
    """σ as (B,1,H,W) of x, or as (B,1,1,1) if it has one level an image."""
    if sigma.shape[2:] == (1, 1):
        return sigma.expand(len(x), 1, 1, 1)
    return sigma.expand(len(x), 1, *x.shape[2:])


def _time(t: Tensor, x: Tensor, per_pixel: bool) -> Tensor:
    """The network's condition: a map (B,1,H,W), or one number for each image, (B,)."""
    if per_pixel:
        return t.expand(len(x), 1, *x.shape[2:])
    low, high = t.amin((1, 2, 3)), t.amax((1, 2, 3))
    if not bool((low == high).all()):
        raise InputError(
            "this network takes one noise level for each picture but the σ-map varies within one:"
            " wrap its denoiser in core.lift."
        )
    return high.expand(len(x))
