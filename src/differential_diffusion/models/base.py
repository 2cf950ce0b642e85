"""The contract of a model."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from torch import Tensor

from ..core.noise import PositionalNoise
from ..core.plan import OnStep, Plan


@runtime_checkable
class Model(Protocol):
    """Something that runs plans: a denoiser of ours, or a foreign pipeline with its own loop."""

    @property
    def name(self) -> str:
        """What it was loaded as."""
        ...

    @property
    def channels(self) -> int:
        """Channels of the tensors it works on."""
        ...

    def run(self, plan: Plan, noise: PositionalNoise, on_step: OnStep | None = None) -> Tensor:
        """Samples (n,C,H,W) in [-1,1], float32 on the CPU, one for each seed of the plan."""
        ...
