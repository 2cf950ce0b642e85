"""Solvers: from one σ-map to the next, written elementwise so that every pixel has its own σ.

Throughout, σ is the map now, s the next one, r = s/σ, D = D(x, σ) the denoised picture and ε
fresh noise. A pixel that does not move (s = σ, in particular σ = 0) has r = 1 and keeps its
value bit for bit.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..errors import InputError
from .types import Denoiser, Law, Noise, Solver

__all__ = ["DDIM", "SOLVERS", "Churn", "DPMpp2M", "Heun", "PredictorCorrector"]


def _ratio(sigma: Tensor, sigma_next: Tensor) -> tuple[Tensor, Tensor]:
    """Which pixels move, and r = s/σ with r = 1 where they do not; never 0/0."""
    moving = sigma_next < sigma
    return moving, torch.where(moving, sigma_next, 1.0) / torch.where(moving, sigma, 1.0)


def _check_eta(eta: float) -> None:
    if not 0 <= eta <= 1:
        raise InputError(f"eta must lie in [0, 1], not {eta}.")


@dataclass(frozen=True)
class DDIM(Solver):
    """DDIM with η (Song, Meng and Ermon, 2021, eq. 12 and 16), in σ coordinates.

        q = r sqrt(1 - η² (1 - r²))
        x ← x + (1 - q) (D - x) + η s sqrt(1 - r²) ε

    η = 0 is Euler's method on the probability-flow ODE; η = 1 is ancestral sampling (DDPM),
    the reverse SDE.

    Raises:
        InputError: eta outside [0, 1].
    """

    eta: float = 0.0

    order = 1
    evaluations_per_step = 1

    def __post_init__(self) -> None:
        _check_eta(self.eta)

    @property
    def law(self) -> Law:
        """The posterior for η = 1 alone."""
        return "posterior" if self.eta == 1 else "marginal"

    @property
    def draws(self) -> int:
        """One, unless η = 0."""
        return int(self.eta > 0)

    def step(
        self,
        denoise: Denoiser,
        x: Tensor,
        sigma: Tensor,
        sigma_next: Tensor,
        noise: Noise,
        state: Any,
    ) -> tuple[Tensor, Tensor, Any]:
        """Take x from σ to s, see `Solver.step`."""
        moving, r = _ratio(sigma, sigma_next)
        denoised = denoise(x, sigma)
        renewed = self.eta**2 * (1 - r * r)
        x_next = torch.lerp(x, denoised, 1 - r * (1 - renewed).sqrt())
        if self.stochastic:
            x_next = x_next + sigma_next * renewed.sqrt() * noise(0)
        return torch.where(moving, x_next, x), denoised, state


@dataclass(frozen=True)
class Heun(Solver):
    """Heun's method on the probability-flow ODE (Karras et al., 2022, algorithm 1).

    x' = x + (1 - r) (D - x)
    x ← x + ½ [(1 - r) (D - x) + (1 - r)/r (D(x', s) - x')]    where s > 0, else x'
    """

    order = 2
    law = "marginal"
    evaluations_per_step = 2

    def step(
        self,
        denoise: Denoiser,
        x: Tensor,
        sigma: Tensor,
        sigma_next: Tensor,
        noise: Noise,
        state: Any,
    ) -> tuple[Tensor, Tensor, Any]:
        """Take x from σ to s, see `Solver.step`."""
        moving, r = _ratio(sigma, sigma_next)
        denoised = denoise(x, sigma)
        first = (1 - r) * (denoised - x)
        predicted = torch.where(moving, x + first, x)
        corrected = moving & (sigma_next > 0)
        if not bool(corrected.any()):  # the second evaluation would be thrown away
            return predicted, denoised, state
        slope = (1 - r) / torch.where(corrected, r, 1.0)
        second = slope * (denoise(predicted, sigma_next) - predicted)
        return torch.where(corrected, x + (first + second) / 2, predicted), denoised, state


@dataclass(frozen=True)
class Churn(Solver):
    """EDM's stochastic sampler (Karras et al., 2022, algorithm 2): add noise, then Heun.

        γ = min(s_churn / N, √2 - 1)  where the pixel moves and s_tmin ≤ σ ≤ s_tmax, else 0
        σ' = (1 + γ) σ
        x' = x + s_noise sqrt(σ'² - σ²) ε,  then a Heun step of x' from σ' to s

    N is the length of the whole ladder. With s_churn = 0 this is `Heun`.

    Raises:
        InputError: a negative s_churn or s_noise, or s_tmin above s_tmax.
    """

    s_churn: float = 40.0
    s_tmin: float = 0.0
    s_tmax: float = float("inf")
    s_noise: float = 1.0

    order = 2
    law = "marginal"
    evaluations_per_step = 2

    def __post_init__(self) -> None:
        if not (self.s_churn >= 0 and self.s_noise >= 0 and 0 <= self.s_tmin <= self.s_tmax):
            raise InputError("churn needs s_churn >= 0, s_noise >= 0 and 0 <= s_tmin <= s_tmax.")

    @property
    def draws(self) -> int:
        """One, unless s_churn = 0."""
        return int(self.s_churn > 0)

    def start(self, steps: int) -> float:
        """γ, the relative rise of σ in a step."""
        return min(self.s_churn / steps, 2**0.5 - 1)

    def step(
        self,
        denoise: Denoiser,
        x: Tensor,
        sigma: Tensor,
        sigma_next: Tensor,
        noise: Noise,
        state: float,
    ) -> tuple[Tensor, Tensor, float]:
        """Take x from σ to s, see `Solver.step`."""
        churned = (sigma_next < sigma) & (sigma >= self.s_tmin) & (sigma <= self.s_tmax)
        sigma_hat = torch.where(churned, sigma * (1 + state), sigma)
        if self.stochastic:
            added = (sigma_hat * sigma_hat - sigma * sigma).clamp(min=0).sqrt()
            x = torch.where(churned, x + self.s_noise * added * noise(0), x)
        x, denoised, _ = Heun().step(denoise, x, sigma_hat, sigma_next, noise, None)
        return x, denoised, state


class History(NamedTuple):
    """What DPM-Solver++(2M) remembers of the step before: D, and h or, for no step, ∞."""

    denoised: Tensor
    h: Tensor


@dataclass(frozen=True)
class DPMpp2M(Solver):
    """DPM-Solver++(2M), and with η = 1 its SDE form (Lu et al., 2022, algorithm 2).

        h  = ln(σ/s),   q = r^(1+η)
        D' = D + h / (2 h_last) (D - D_last)
        x ← x + (1 - q) (D' - x) + s sqrt(1 - r^(2η)) ε

    First order, D' = D, in a pixel's first moving step and where s = 0; also in its second, if
    the first was cut short because the pixel joined between two levels. With η = 1 it samples
    the posterior in far fewer steps than ancestral sampling, whose variance errs by the step
    where this one's errs by its square.

    Raises:
        InputError: eta outside [0, 1].
    """

    eta: float = 0.0

    order = 2
    evaluations_per_step = 1

    def __post_init__(self) -> None:
        _check_eta(self.eta)

    @property
    def law(self) -> Law:
        """The posterior for η = 1 alone."""
        return "posterior" if self.eta == 1 else "marginal"

    @property
    def draws(self) -> int:
        """One, unless η = 0."""
        return int(self.eta > 0)

    def forget(self, state: History, where: Tensor) -> History:
        """The history without the pixels in `where`: they are first order in the next step."""
        return History(state.denoised, torch.where(where, torch.inf, state.h))

    def step(
        self,
        denoise: Denoiser,
        x: Tensor,
        sigma: Tensor,
        sigma_next: Tensor,
        noise: Noise,
        state: History | None,
    ) -> tuple[Tensor, Tensor, History]:
        """Take x from σ to s, see `Solver.step`."""
        moving, r = _ratio(sigma, sigma_next)
        denoised = denoise(x, sigma)
        h = -torch.where(r > 0, r, 1.0).log()  # 0 where there is no second order
        estimate = denoised
        if state is not None:
            estimate = denoised + h / (2 * state.h) * (denoised - state.denoised)
        x_next = x + (1 - r ** (1 + self.eta)) * (estimate - x)
        if self.stochastic:
            x_next = x_next + sigma_next * (1 - r ** (2 * self.eta)).sqrt() * noise(0)
        history = History(denoised, torch.where(h > 0, h, torch.inf))
        return torch.where(moving, x_next, x), denoised, history


@dataclass(frozen=True)
class PredictorCorrector(Solver):
    """A `DDIM` step, then Langevin steps at the new level (Song et al., 2021, algorithm 2).

        x ← DDIM(η) from σ to s, then `corrections` times, where s > 0:
        x ← x + τ/2 (D(x, s) - x)/s² + √τ ε,    τ = δ (1 - r²) s²

    τ is a map: each pixel's step follows its own level, where the published choice, one norm
    over the picture, would move kept pixels. It shrinks with the step, so that its bias, which
    is up to τ/4 in the variance, vanishes as steps grow.

    Raises:
        InputError: eta outside [0, 1], delta outside (0, 2), or less than one correction.
    """

    eta: float = 0.0
    delta: float = 0.5
    corrections: int = 1

    order = 1
    law = "marginal"

    def __post_init__(self) -> None:
        _check_eta(self.eta)
        if not 0 < self.delta < 2:
            raise InputError(f"delta must lie between 0 and 2, not {self.delta}.")
        if self.corrections < 1:
            raise InputError(f"corrections must be at least 1, not {self.corrections}.")

    @property
    def evaluations_per_step(self) -> int:
        """One for the predictor, one for each correction."""
        return 1 + self.corrections

    @property
    def draws(self) -> int:
        """One for the predictor, one for each correction."""
        return 1 + self.corrections

    def step(
        self,
        denoise: Denoiser,
        x: Tensor,
        sigma: Tensor,
        sigma_next: Tensor,
        noise: Noise,
        state: Any,
    ) -> tuple[Tensor, Tensor, Any]:
        """Take x from σ to s, see `Solver.step`."""
        x, denoised, _ = DDIM(self.eta).step(denoise, x, sigma, sigma_next, noise, None)
        _, r = _ratio(sigma, sigma_next)
        delta = self.delta * (1 - r * r)
        corrected = (delta > 0) & (sigma_next > 0)
        if not bool(corrected.any()):  # the evaluations would be thrown away
            return x, denoised, state
        for j in range(1, self.draws):
            drift = delta / 2 * (denoise(x, sigma_next) - x)
            x = torch.where(corrected, x + drift + delta.sqrt() * sigma_next * noise(j), x)
        return x, denoised, state


SOLVERS: dict[str, Callable[..., Solver]] = {
    "ddim": DDIM,
    "euler": partial(DDIM, eta=0.0),
    "ancestral": partial(DDIM, eta=1.0),
    "heun": Heun,
    "dpmpp_2m": DPMpp2M,
    "dpmpp_2m_sde": partial(DPMpp2M, eta=1.0),
    "churn": Churn,
    "predictor_corrector": PredictorCorrector,
}
