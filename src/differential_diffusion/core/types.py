"""The nouns of the theory: a denoiser, a solver, the record of a step."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol, runtime_checkable

from torch import Tensor

if TYPE_CHECKING:
    from .noise import Window

__all__ = ["Denoiser", "Focusable", "Law", "Noise", "Solver", "Step"]

Law = Literal["posterior", "marginal"]

Noise = Callable[[int], Tensor]
"""`noise(k)` is the k-th draw of standard normal noise, (B,C,H,W); the same k, the same draw."""


class Denoiser(Protocol):
    """The posterior mean of the picture given noise of known level: D(x, σ) = E[x0 | x].

    The shape contract of the package, stated once:

    x: (B,C,H,W), x = x0 + σ ε with ε standard normal.
    sigma: the σ-map, broadcastable to (B,1,H,W), σ ≥ 0 on the scale of x.
    returns: (B,C,H,W) in the dtype of x; where σ = 0 it equals x.
    """

    def __call__(self, x: Tensor, sigma: Tensor, /) -> Tensor:
        """E[x0 | x], (B,C,H,W)."""
        ...


@runtime_checkable
class Focusable(Protocol):
    """A denoiser that can save work when told which pixels a step moves."""

    def focus(self, moving: Tensor, /) -> None:
        """Estimates are needed only where `moving`, bool (B or 1,1,H or 1,W or 1), is true.

        Called by the sampling loop before each step.
        """
        ...


@dataclass(frozen=True)
class Step:
    """What one step of a sampling run did.

    Attributes:
        index: number of this step, from 0.
        count: steps of the run, so that the last has index count - 1.
        x: state after the step, (B,C,H,W).
        denoised: the model's first estimate of the clean picture in this step, (B,C,H,W).
        sigma: σ-map before the step, broadcastable to (B,1,H,W).
        sigma_next: σ-map of `x`.
        evaluations: model calls since the run began.
        window: the part of the picture that `x` covers; None for all of it.
        decode: makes pixels (B,C,H,W) in [-1,1] of `x` or `denoised` where they are latents.
    """

    index: int
    count: int
    x: Tensor
    denoised: Tensor
    sigma: Tensor
    sigma_next: Tensor
    evaluations: int
    window: Window | None = None
    decode: Callable[[Tensor], Tensor] | None = None


class Solver(ABC):
    """One way of going from a σ-map to the next, pixel by pixel.

    A solver is plain data. What it remembers between steps is the `state`, which `start` makes
    and `step` hands on, so one solver serves any number of runs.
    """

    @property
    @abstractmethod
    def order(self) -> int:
        """The error of a run with N steps falls as N**-order.

        It is the error of the end point or, where the solver is stochastic, that of the mean
        and covariance of the law it samples.
        """

    @property
    @abstractmethod
    def law(self) -> Law:
        """What is sampled from one fixed noisy picture, in the limit of many steps.

        "posterior": p(x0 | x). "marginal": p(x0) only when x is drawn anew each time.
        """

    @property
    @abstractmethod
    def evaluations_per_step(self) -> int:
        """Model calls in a step, at most."""

    @property
    def draws(self) -> int:
        """Noise draws in a step."""
        return 0

    @property
    def stochastic(self) -> bool:
        """Whether the solver adds noise."""
        return self.draws > 0

    def start(self, steps: int) -> Any:
        """State before the first step of a run on a ladder of `steps` steps."""
        return None

    def forget(self, state: Any, where: Tensor) -> Any:
        """The state with nothing remembered of the pixels in the mask `where`.

        The loop calls it after a step in which those pixels joined part-way, see `Path.joined`:
        what changed in that step says nothing about the next one.
        """
        return state

    @abstractmethod
    def step(
        self,
        denoise: Denoiser,
        x: Tensor,
        sigma: Tensor,
        sigma_next: Tensor,
        noise: Noise,
        state: Any,
    ) -> tuple[Tensor, Tensor, Any]:
        """Take x, (B,C,H,W), from σ to σ_next ≤ σ, both broadcastable to (B,1,H,W).

        A pixel with σ_next = σ keeps its value bit for bit. `noise(j)`, j < `draws`, are the
        draws of this step, like x.

        Returns: x at σ_next, the first model estimate of the step, the state.
        """
