"""What a model is asked to do, in the theory's own terms: the border between tasks and models."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor

from ..errors import InputError
from .types import Denoiser, Step

OnStep = Callable[[Step], None]


@dataclass(frozen=True)
class Plan:
    """One run of a model over a picture: how noisy each pixel is, becomes, and ends.

    The pixel starts at level max(σ(strength), noise): it carries `noise` already and gets the
    missing variance as fresh noise,

        x_p = image_p + sqrt(max(σ(strength_p), noise_p)² - noise_p²) ε_p

    and is led to `target`. A pixel of strength 0 whose target equals its noise stays.

    Attributes:
        image: (1,C,H,W) in [-1,1].
        strength: in [0,1], (1,1,H,W), or (1,1,1,1) for the same everywhere.
        noise: σ already in `image`, shaped in one of these two ways.
        target: σ to leave in the result, likewise.
        seeds: one sample is drawn for each.
        steps: length of the whole ladder.
        solver: a name in `SOLVERS`.
        path: a name in `PATHS`.
        guide: wraps the model's denoiser, such as `data_consistency` does; a model of the whole
            picture, as measurements need it.
        options: settings that only some backends know, passed through untouched.
    """

    image: Tensor
    strength: Tensor
    noise: Tensor = field(default_factory=lambda: torch.zeros(1, 1, 1, 1))
    target: Tensor = field(default_factory=lambda: torch.zeros(1, 1, 1, 1))
    seeds: tuple[int, ...] = (0,)
    steps: int = 20
    solver: str = "ddim"
    path: str = "wait"
    guide: Callable[[Denoiser], Denoiser] | None = None
    options: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.image.ndim != 4 or self.image.shape[0] != 1:
            raise InputError(f"image has the shape {tuple(self.image.shape)}: give (1,C,H,W)")
        full = (1, 1, *self.image.shape[-2:])
        for name in ("strength", "noise", "target"):
            shape = tuple(getattr(self, name).shape)
            if shape not in (full, (1, 1, 1, 1)):
                raise InputError(f"{name} has the shape {shape}, the picture needs {full}")
        if not self.seeds:
            raise InputError("seeds is empty: give one for each sample")

    def start(self, sigma_of: Callable[[Tensor], Tensor]) -> Tensor:
        """The σ-map to start from, given the model's strength-to-σ scale."""
        return torch.maximum(sigma_of(self.strength), self.noise)


class Run(Protocol):
    """What a task is given: runs a plan on some model."""

    def __call__(self, plan: Plan) -> Tensor:
        """Samples (n,C,H,W), one for each seed of the plan, in [-1,1] give or take."""
        ...
