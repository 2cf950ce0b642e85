"""What a network learns, from how noisy a picture, and with what weight.

All objectives of the field are one regression: of what a `Parametrization` predicts, at levels
drawn from some law, with a weight for each level. They differ in these three. A level may be one
for a picture or a map of one for each pixel.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Literal, NamedTuple, Protocol

import torch
from torch import Tensor

from ..core.parametrization import Parametrization, Schedule, table_of_sigmas
from ..core.precondition import Network
from ..errors import InputError

__all__ = [
    "OBJECTIVES",
    "WEIGHTS",
    "Betas",
    "FlowTimes",
    "Levels",
    "LinearSDE",
    "LogNormal",
    "LogUniform",
    "Objective",
    "Regression",
    "squared_error",
]

Weight = Callable[[Tensor, Tensor], Tensor]
"""w(σ, (∂D/∂N)²): the weight of |N - N*|²."""


class Levels(Protocol):
    """The law of noise levels in training."""

    @property
    def reach(self) -> float:
        """The largest level, or infinity."""
        ...

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
    reach: ClassVar[float] = math.inf

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

    @property
    def reach(self) -> float:
        """See `Levels`."""
        return self.sigma_max

    def sample(self, count: int, rng: torch.Generator) -> Tensor:
        """See `Levels`."""
        u = _spread(count, rng)
        if self.levels is not None:
            u = (u * self.levels).floor() / max(1, self.levels - 1)
        return (self.sigma_min * (self.sigma_max / self.sigma_min) ** u).float()


@dataclass(frozen=True)
class Betas:
    """A timestep of a table of betas, each as likely (DDPM; Ho et al., 2020)."""

    schedule: Schedule = "linear"
    timesteps: int = 1000

    @property
    def reach(self) -> float:
        """See `Levels`."""
        return float(table_of_sigmas(self.schedule, self.timesteps)[-1])

    def sample(self, count: int, rng: torch.Generator) -> Tensor:
        """See `Levels`."""
        index = (_spread(count, rng) * self.timesteps).long().clamp(max=self.timesteps - 1)
        return table_of_sigmas(self.schedule, self.timesteps)[index].float()


@dataclass(frozen=True)
class LinearSDE:
    """t uniform in [start, 1] of an SDE with β from β_min to β_max (Song et al., 2021, appendix C).

    α = exp(-½ ∫β); the noise is s = sqrt(1 - α²), or 1 - α² in the sub-VP SDE.
    """

    beta_min: float = 0.1
    beta_max: float = 20.0
    start: float = 1e-4
    sub: bool = False

    @property
    def reach(self) -> float:
        """See `Levels`."""
        return float(self._sigma(torch.ones((), dtype=torch.float64)))

    def sample(self, count: int, rng: torch.Generator) -> Tensor:
        """See `Levels`."""
        return self._sigma(self.start + (1 - self.start) * _spread(count, rng)).float()

    def _sigma(self, t: Tensor) -> Tensor:
        integral = self.beta_min * t + (self.beta_max - self.beta_min) * t * t / 2
        root = torch.expm1(integral)  # 1/α² - 1
        return root / (1 + root).sqrt() if self.sub else root.sqrt()


@dataclass(frozen=True)
class FlowTimes:
    """t of a rectified flow, σ = t/(1 - t): uniform, or its logit normal.

    (Liu et al., 2023; Esser et al., 2024, section 3.1.)
    """

    law: Literal["uniform", "logit-normal"] = "uniform"
    mean: float = 0.0
    deviation: float = 1.0
    reach: ClassVar[float] = math.inf

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


def balanced(sigma: Tensor, gain: Tensor, sigma_data: float = 0.5) -> Tensor:
    """EDM's weight over 1 + ln²(σ/σ_data)/3, the inverse of what error is attainable.

    The error of EDM's F is least at σ = σ_data and grows towards both ends, where detail or all
    drowns in noise. Weighted by its inverse, every level pulls alike, as in Karras et al.,
    "Analyzing and Improving the Training Dynamics of Diffusion Models", CVPR 2024, eq. 21, where
    the curve is learned; this one fits the bundled prior from σ = 0.02 to 3 on photographs.
    """
    return edm_weight(sigma, gain, sigma_data) / (1 + (sigma / sigma_data).log().square() / 3)


WEIGHTS: dict[str, Weight] = {
    "uniform": uniform,
    "min-snr": min_snr,
    "edm": edm_weight,
    "noise": of_noise,
    "balanced": balanced,
}


class Regression(NamedTuple):
    """What a loss is given.

    Attributes:
        predicted, target: N and N*, (B,C,H,W); the target means nothing where σ = 0.
        denoised, x0: D and the truth, likewise.
        sigma: (B,1,H,W) or (B,1,1,1).
        weight: of the squared error of N at each level, like `sigma`; 0 where σ = 0.
    """

    predicted: Tensor
    target: Tensor
    denoised: Tensor
    x0: Tensor
    sigma: Tensor
    weight: Tensor


Loss = Callable[[Regression], Tensor]
"""A loss for each picture of a batch, (B,)."""


def squared_error(regression: Regression) -> Tensor:
    """sqrt(q) times the mean over the noisy pixels of w |N - N*|², for each picture, (B,).

    q is the picture's share of noisy pixels. Its root keeps the noise of the gradient even: a
    picture with a small hole would otherwise, at the weight of a picture, have thirty times the
    squared gradient of one at a middle level, and drown it; by the pixel, at a weight of q, it
    would hardly count.
    """
    error = (regression.predicted - regression.target).square()
    share = (regression.sigma > 0).float().mean((1, 2, 3))
    total: Tensor = (regression.weight * error).mean((1, 2, 3))
    return total / share.sqrt().clamp(min=1e-6)


@dataclass(frozen=True)
class Objective:
    """One way to train a denoiser.

    Attributes:
        form: what the network is given and predicts.
        levels: the law of σ.
        weight: of each level, see `WEIGHTS`.
        error: of the prediction.
    """

    form: Parametrization
    levels: Levels
    weight: Weight = uniform
    error: Loss = squared_error

    def loss(self, network: Network, x0: Tensor, sigma: Tensor, noise: Tensor) -> Tensor:
        """The loss of each picture, (B,).

        Args:
            network: N, called with α x and the condition.
            x0: (B,C,H,W) in [-1,1].
            sigma: (B,1,H,W), or (B,1,1,1) for one level a picture; where 0, nothing is learnt.
            noise: ε, like `x0`.

        Raises:
            InputError: if `error` gives something else.
        """
        form, x = self.form.form(sigma), x0 + sigma * noise
        predicted = network(form.scale * x, self.form.condition(sigma)).to(x0.dtype)
        weight = self.weight(torch.where(sigma > 0, sigma, 1.0), form.out.square())
        losses = self.error(
            Regression(
                predicted,
                form.clean * x0 + form.noise * noise,
                torch.where(sigma > 0, form.skip * x + form.out * predicted, x0),
                x0,
                sigma,
                torch.where(sigma > 0, weight, 0.0),
            )
        )
        if not isinstance(losses, Tensor) or losses.shape != (len(x0),):
            got = tuple(losses.shape) if isinstance(losses, Tensor) else type(losses).__name__
            raise InputError(
                f"the loss gave {got} for a batch of {len(x0)}: give one number for each picture, "
                f"a tensor of the shape ({len(x0)},)"
            )
        return losses


OBJECTIVES: dict[str, Objective] = {
    "ddpm": Objective(Parametrization("noise", "preserving"), Betas()),
    "x0": Objective(Parametrization("clean", "preserving"), Betas("cosine"), min_snr),
    "v": Objective(Parametrization("velocity", "preserving"), Betas("cosine")),
    "dsm": Objective(Parametrization("score"), LogUniform(0.01, 20.0, levels=100), of_noise),
    "ve": Objective(Parametrization("score"), LogUniform(0.01, 20.0), of_noise),
    "vp": Objective(Parametrization("score", "preserving"), LinearSDE(), of_noise),
    "sub-vp": Objective(Parametrization("score", "sub-preserving"), LinearSDE(sub=True), of_noise),
    "edm": Objective(Parametrization(), LogNormal()),
    "flow": Objective(Parametrization("flow", "flow"), FlowTimes()),
}
"""Objectives by name: Ho et al. (2020) for "ddpm", Salimans and Ho (2022) for "x0" and "v", Vincent
(2011) and Song and Ermon (2019) for "dsm", Song et al. (2021) for "ve", "vp" and "sub-vp", Karras
et al. (2022) for "edm", whose weight is 1 on its own scale, and Liu et al. (2023) for "flow"."""

RANGES: dict[str, tuple[float, float]] = {
    "ddpm": (0.01, 150.0),
    "x0": (0.01, 80.0),
    "v": (0.01, 80.0),
    "dsm": (0.01, 20.0),
    "ve": (0.01, 20.0),
    "vp": (0.01, 140.0),
    "sub-vp": (0.01, 140.0),
    "edm": (0.002, 20.0),
    "flow": (0.002, 80.0),
}
"""The least and the largest σ that a model of each objective is sampled over: within what its
levels reach, and large enough for pictures of a few hundred pixels to drown."""
