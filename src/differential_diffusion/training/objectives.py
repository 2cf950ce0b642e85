"""What a network learns to predict, from how noisy a picture, and with what weight.

All objectives of the field are one regression. The state is x = x0 + σ ε; a network sees it scaled,
x_t = α x with s = α σ for the noise in it, and predicts N, from which D = E[x0 | x] follows:

    prediction      N* (what is regressed on)     D
    noise           ε                             x - σ N
    clean           x0                            N
    velocity        α ε - s x0                    α x_t - s N          where α² + s² = 1
    score           -ε / s                        x + α σ² N
    flow            ε - x0                        x_t - s N            where α + s = 1
    edm             (x0 - c_skip x) / c_out       c_skip x + c_out N   with its own c_in

They differ in α, in the law of the levels σ that they are trained on, and in the weight of each. A
level may be one for a picture or a map of one for each pixel.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol

import torch
from torch import Tensor

from ..core.ladder import cosine_betas, linear_betas, sigmas_from_betas
from ..core.precondition import log_level
from ..core.types import Denoiser
from ..errors import InputError

__all__ = [
    "OBJECTIVES",
    "SCALINGS",
    "WEIGHTS",
    "Betas",
    "FlowTimes",
    "Levels",
    "LinearSDE",
    "LogNormal",
    "LogUniform",
    "Objective",
]

Network = Callable[[Tensor, Tensor], Tensor]
Prediction = Literal["noise", "clean", "velocity", "score", "flow", "edm"]
Scaling = Literal["preserving", "sub-preserving", "exploding", "flow"]
Weight = Callable[[Tensor, Tensor], Tensor]
"""w(σ, c_out²): the weight of |N - N*|², given the square of ∂D/∂N."""


SCALINGS: dict[Scaling, Callable[[Tensor], Tensor]] = {
    "preserving": lambda sigma: (1 + sigma * sigma).rsqrt(),
    "sub-preserving": lambda sigma: 2 / (sigma + (sigma * sigma + 4).sqrt()),
    "exploding": torch.ones_like,
    "flow": lambda sigma: 1 / (1 + sigma),
}
"""α of σ: α² + s² = 1 (DDPM, VP); s = 1 - α² (sub-VP); α = 1 (VE); α + s = 1 (rectified flow)."""


class Levels(Protocol):
    """The law of noise levels in training."""

    def sample(self, count: int, rng: torch.Generator) -> Tensor:
        """Levels σ > 0, (count,), float32."""
        ...


def _spread(count: int, rng: torch.Generator) -> Tensor:
    """Uniform in (0,1), one in each of `count` equal parts, in random order: less variance."""
    jitter = torch.rand(count, generator=rng, dtype=torch.float64)
    part: Tensor = torch.randperm(count, generator=rng) + jitter.clamp(1e-9, 1 - 1e-9)
    return part / count


@dataclass(frozen=True)
class LogNormal:
    """ln σ ~ N(mean, deviation²) (EDM; Karras et al., 2022, table 1)."""

    mean: float = -1.2
    deviation: float = 1.2

    def sample(self, count: int, rng: torch.Generator) -> Tensor:
        """See `Levels`."""
        z: Tensor = torch.special.ndtri(_spread(count, rng))
        return (self.mean + self.deviation * z).exp().float()


@dataclass(frozen=True)
class LogUniform:
    """ln σ uniform from σ_min to σ_max, as in VE SDEs; or `count` levels of equal ratio (NCSN)."""

    sigma_min: float = 0.002
    sigma_max: float = 20.0
    levels: int | None = None

    def sample(self, count: int, rng: torch.Generator) -> Tensor:
        """See `Levels`."""
        u = _spread(count, rng)
        if self.levels is not None:
            u = (u * self.levels).floor() / max(1, self.levels - 1)
        return (self.sigma_min * (self.sigma_max / self.sigma_min) ** u).float()


@dataclass(frozen=True)
class Betas:
    """A timestep of a table of betas, each as likely (DDPM; Ho et al., 2020)."""

    schedule: Literal["linear", "cosine"] = "linear"
    timesteps: int = 1000

    def sample(self, count: int, rng: torch.Generator) -> Tensor:
        """See `Levels`."""
        betas = (linear_betas if self.schedule == "linear" else cosine_betas)(self.timesteps)
        index = (_spread(count, rng) * self.timesteps).long().clamp(max=self.timesteps - 1)
        return sigmas_from_betas(betas)[index].float()


@dataclass(frozen=True)
class LinearSDE:
    """t uniform in [start, 1] of an SDE with β from β_min to β_max (Song et al., 2021, appendix C).

    α = exp(-½ ∫β); the noise is s = sqrt(1 - α²), or 1 - α² in the sub-VP SDE.
    """

    beta_min: float = 0.1
    beta_max: float = 20.0
    start: float = 1e-4
    sub: bool = False

    def sample(self, count: int, rng: torch.Generator) -> Tensor:
        """See `Levels`."""
        t = self.start + (1 - self.start) * _spread(count, rng)
        integral = self.beta_min * t + (self.beta_max - self.beta_min) * t * t / 2
        root = torch.expm1(integral)  # 1/α² - 1
        sigma = root / (1 + root).sqrt() if self.sub else root.sqrt()
        return sigma.float()


@dataclass(frozen=True)
class FlowTimes:
    """t of a rectified flow, σ = t/(1 - t): uniform, or its logit normal.

    (Liu et al., 2023; Esser et al., 2024, section 3.1.)
    """

    law: Literal["uniform", "logit-normal"] = "uniform"
    mean: float = 0.0
    deviation: float = 1.0

    def sample(self, count: int, rng: torch.Generator) -> Tensor:
        """See `Levels`."""
        u = _spread(count, rng).clamp(1e-4, 1 - 1e-4)
        if self.law == "uniform":
            return (u / (1 - u)).float()
        z: Tensor = torch.special.ndtri(u)
        return (self.mean + self.deviation * z).exp().float()


def uniform(sigma: Tensor, gain: Tensor) -> Tensor:
    """1: the plain squared error of what is predicted, DDPM's L_simple for noise."""
    del gain
    return torch.ones_like(sigma)


def min_snr(sigma: Tensor, gain: Tensor, most: float = 5.0) -> Tensor:
    """min(1/σ², 5) of the error of D, whatever is predicted (Hang et al., 2023, section 3.4)."""
    return (1 / (sigma * sigma).clamp(min=1e-12)).clamp(max=most) * gain


def edm_weight(sigma: Tensor, gain: Tensor, sigma_data: float = 0.5) -> Tensor:
    """(σ² + σ_data²)/(σ σ_data)² of the error of D (Karras et al., 2022, table 1)."""
    square = (sigma * sigma).clamp(min=1e-12)
    return (square + sigma_data**2) / (square * sigma_data**2) * gain


def of_noise(sigma: Tensor, gain: Tensor) -> Tensor:
    """1/σ² of the error of D, 1 of that of the noise: scores weighted by their variance."""
    return gain / (sigma * sigma).clamp(min=1e-12)


WEIGHTS: dict[str, Weight] = {
    "uniform": uniform,
    "min-snr": min_snr,
    "edm": edm_weight,
    "noise": of_noise,
}


class _Form(NamedTuple):
    """D = skip x + out N(scale x), and N* = clean x0 + noise ε, all of the shape of σ."""

    scale: Tensor
    skip: Tensor
    out: Tensor
    clean: Tensor
    noise: Tensor


@dataclass(frozen=True)
class Objective:
    """One way to train a denoiser.

    Attributes:
        prediction: what the network predicts.
        scaling: α of σ.
        levels: the law of σ.
        weight: of each level, see `WEIGHTS`.
        sigma_data: of EDM's scaling, on [-1,1] data.
        condition: what the network is told of σ.

    Raises:
        InputError: a prediction that its scaling does not allow.
    """

    prediction: Prediction
    scaling: Scaling
    levels: Levels
    weight: Weight = uniform
    sigma_data: float = 0.5
    condition: Callable[[Tensor], Tensor] = log_level

    def __post_init__(self) -> None:
        needed = {"velocity": "preserving", "flow": "flow", "edm": "exploding"}
        wanted = needed.get(self.prediction, self.scaling)
        if self.scaling != wanted:
            raise InputError(
                f"a network of '{self.prediction}' needs the scaling '{wanted}', not "
                f"'{self.scaling}': change one of them."
            )

    def loss(self, network: Network, x0: Tensor, sigma: Tensor, noise: Tensor) -> Tensor:
        """Weighted squared error of N over each picture's noisy pixels, a mean for each, (B,).

        Args:
            network: N, called with α x and the condition.
            x0: (B,C,H,W) in [-1,1].
            sigma: (B,1,H,W), or (B,1,1,1) for one level a picture; where 0, nothing is learnt.
            noise: ε, like `x0`.
        """
        safe = torch.where(sigma > 0, sigma, 1.0)
        form = self._form(safe)
        x = x0 + sigma * noise
        predicted = network(self._form(sigma).scale * x, self.condition(sigma))
        error = (predicted.float() - (form.clean * x0 + form.noise * noise)).square()
        weight = torch.where(sigma > 0, self.weight(safe, form.out.square()), 0.0)
        noisy = (sigma > 0).float().expand(len(x0), 1, *sigma.shape[2:]).mean((1, 2, 3))
        total: Tensor = (weight * error).mean((1, 2, 3)) / noisy.clamp(min=1e-6)
        return total

    def denoiser(self, network: Network) -> Denoiser:
        """D of a network that was trained so; x itself where σ = 0."""

        def denoise(x: Tensor, sigma: Tensor) -> Tensor:
            sigma = sigma.expand(len(x), 1, *sigma.shape[2:])
            form = self._form(sigma)
            d = form.skip * x + form.out * network(form.scale * x, self.condition(sigma))
            return torch.where(sigma > 0, d, x)

        return denoise

    def _form(self, sigma: Tensor) -> _Form:
        one, none = torch.ones_like(sigma), torch.zeros_like(sigma)
        alpha = SCALINGS[self.scaling](sigma)
        s = alpha * sigma
        match self.prediction:
            case "noise":
                return _Form(alpha, one, -sigma, none, one)
            case "clean":
                return _Form(alpha, none, one, one, none)
            case "velocity":
                return _Form(alpha, alpha * alpha, -s, -s, alpha)
            case "score":
                return _Form(alpha, one, s * sigma, none, -1 / s)
            case "flow":
                return _Form(alpha, alpha, -s, -one, one)
            case "edm":
                data = self.sigma_data
                root = (sigma * sigma + data**2).rsqrt()
                skip, out = data**2 * root * root, data * sigma * root
                return _Form(root, skip, out, sigma * root / data, -data * root)


OBJECTIVES: dict[str, Objective] = {
    "ddpm": Objective("noise", "preserving", Betas()),
    "x0": Objective("clean", "preserving", Betas("cosine"), min_snr),
    "v": Objective("velocity", "preserving", Betas("cosine")),
    "dsm": Objective("score", "exploding", LogUniform(0.01, 20.0, levels=100), of_noise),
    "ve": Objective("score", "exploding", LogUniform(0.01, 20.0), of_noise),
    "vp": Objective("score", "preserving", LinearSDE(), of_noise),
    "sub-vp": Objective("score", "sub-preserving", LinearSDE(sub=True), of_noise),
    "edm": Objective("edm", "exploding", LogNormal()),
    "flow": Objective("flow", "flow", FlowTimes()),
}
"""Objectives by name: Ho et al. (2020) for "ddpm", Salimans and Ho (2022) for "x0" and "v", Vincent
(2011) and Song and Ermon (2019) for "dsm", Song et al. (2021) for "ve", "vp" and "sub-vp", Karras
et al. (2022) for "edm", whose weight is 1 on its own scale, and Liu et al. (2023) for "flow"."""
