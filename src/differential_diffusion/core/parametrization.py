"""What a network is given and what it predicts: the ways to write one denoiser.

The state is x = x0 + σ ε. A network sees it scaled, x_t = α x with s = α σ for the noise in it, and
predicts N, from which D = E[x0 | x] follows:

    prediction      N* (what it is regressed on)  D
    noise           ε                             x - σ N
    clean           x0                            N
    velocity        α ε - s x0                    α x_t - s N          where α² + s² = 1
    score           -ε                            x + σ N              the score of x_t, times s
    flow            ε - x0                        x_t - s N            where α + s = 1
    edm             (x0 - c_skip x) / c_out       c_skip x + c_out N   with its own c_in

A score is of variance 1/s², so that networks predict it times s (Song and Ermon, "Improved
Techniques for Training Score-Based Generative Models", 2020, technique 3). Where noise explodes,
α = 1, the network sees x / sqrt(σ² + σ_data²), of unit variance. A level may be one for a picture
or a map of one for each pixel.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from ..errors import InputError
from .ladder import cosine_betas, linear_betas, sigmas_from_betas
from .precondition import BetaTimes, Network, log_level
from .types import Denoiser

__all__ = [
    "BETAS",
    "SCALINGS",
    "Form",
    "Parametrization",
    "Prediction",
    "Scaling",
    "Schedule",
    "Told",
    "table_of_sigmas",
]

Prediction = Literal["noise", "clean", "velocity", "score", "flow", "edm"]
Scaling = Literal["preserving", "sub-preserving", "exploding", "flow"]
Schedule = Literal["linear", "cosine"]
Told = Literal["level", "timestep"]

SCALINGS: dict[Scaling, Callable[[Tensor], Tensor]] = {
    "preserving": lambda sigma: (1 + sigma * sigma).rsqrt(),
    "sub-preserving": lambda sigma: 2 / (sigma + (sigma * sigma + 4).sqrt()),
    "exploding": torch.ones_like,
    "flow": lambda sigma: 1 / (1 + sigma),
}
"""α of σ: α² + s² = 1 (DDPM, VP); s = 1 - α² (sub-VP); α = 1 (VE); α + s = 1 (rectified flow)."""

BETAS: dict[Schedule, Callable[[int], Tensor]] = {"linear": linear_betas, "cosine": cosine_betas}
"""Tables of betas by name."""


class Form(NamedTuple):
    """D = skip x + out N(scale x), and N* = clean x0 + noise ε, all of the shape of σ."""

    scale: Tensor
    skip: Tensor
    out: Tensor
    clean: Tensor
    noise: Tensor


@dataclass(frozen=True)
class Parametrization:
    """How a network stands for a denoiser.

    Attributes:
        prediction: what the network predicts.
        scaling: α of σ.
        sigma_data: of EDM's scaling, on [-1,1] data.
        told: what the network is told of σ: "level", see `log_level`, or the "timestep" of a table
            of betas, as networks of Diffusers are.
        schedule, timesteps: that table.

    Raises:
        InputError: a prediction that its scaling does not allow, or an unknown name.
    """

    prediction: Prediction = "edm"
    scaling: Scaling = "exploding"
    sigma_data: float = 0.5
    told: Told = "level"
    schedule: Schedule = "linear"
    timesteps: int = 1000

    def __post_init__(self) -> None:
        needed = {"velocity": "preserving", "flow": "flow", "edm": "exploding"}
        wanted = needed.get(self.prediction, self.scaling)
        if self.scaling != wanted:
            raise InputError(
                f"a network of '{self.prediction}' needs the scaling '{wanted}', not "
                f"'{self.scaling}': change one of them."
            )
        known = {
            "prediction": (*needed, "noise", "clean", "score"),
            "scaling": tuple(SCALINGS),
            "told": ("level", "timestep"),
            "schedule": tuple(BETAS),
        }
        for name, values in known.items():
            if getattr(self, name) not in values:
                raise InputError(
                    f"{name} is {getattr(self, name)!r}: it must be one of {', '.join(values)}."
                )

    def form(self, sigma: Tensor) -> Form:
        """The coefficients at a level."""
        one, none = torch.ones_like(sigma), torch.zeros_like(sigma)
        alpha, data = SCALINGS[self.scaling](sigma), self.sigma_data
        s, root = alpha * sigma, (sigma * sigma + data**2).rsqrt()
        seen = root if self.scaling == "exploding" else alpha
        match self.prediction:
            case "noise":
                return Form(seen, one, -sigma, none, one)
            case "clean":
                return Form(seen, none, one, one, none)
            case "velocity":
                return Form(alpha, alpha * alpha, -s, -s, alpha)
            case "score":
                return Form(seen, one, sigma, none, -one)
            case "flow":
                return Form(alpha, alpha, -s, -one, one)
            case "edm":
                skip, out = data**2 * root * root, data * sigma * root
                return Form(root, skip, out, sigma * root / data, -data * root)

    def condition(self, sigma: Tensor) -> Tensor:
        """What the network is told, of the shape of σ."""
        if self.told == "level":
            return log_level(sigma)
        return _times(self.schedule, self.timesteps)(sigma)

    def denoiser(self, network: Network) -> Denoiser:
        """D of a network, a map of levels allowed; x itself where σ = 0.

        Args:
            network: N, called with α x and the condition, (B,1,H,W) or (B,1,1,1).
        """

        def denoise(x: Tensor, sigma: Tensor) -> Tensor:
            size = (1, 1) if sigma.shape[2:] == (1, 1) else x.shape[2:]
            sigma = sigma.expand(len(x), 1, *size)
            form = self.form(sigma)
            d = form.skip * x + form.out * network(form.scale * x, self.condition(sigma))
            return torch.where(sigma > 0, d, x)

        return denoise


@lru_cache(maxsize=8)
def table_of_sigmas(schedule: Schedule, timesteps: int) -> Tensor:
    """σ of every timestep of a table of betas, rising, (timesteps,) float64; do not write to it."""
    return sigmas_from_betas(BETAS[schedule](timesteps))


@lru_cache(maxsize=8)
def _times(schedule: Schedule, timesteps: int) -> BetaTimes:
    return BetaTimes(BETAS[schedule](timesteps))
