"""What moves the weights: optimizers, their schedule, and the average of the weights."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Protocol

import torch
from torch import Tensor

from .config import OptimizerConfig
from .muon import Muon


class Trainable(Protocol):
    """A network whose bulk of weights is told apart."""

    def parameters(self) -> Iterator[torch.nn.Parameter]:
        """All weights."""
        ...

    def residual_kernels(self) -> list[Tensor]:
        """The 3x3 kernels of its residual blocks."""
        ...


def learning_rate_factor(step: int, steps: int, config: OptimizerConfig) -> float:
    """Warm-up times plateau-and-cosine: 1 until the last `decay` share, then to zero at `steps`."""
    warmup = min(1.0, (step + 1) / max(1, config.warmup_steps))
    done = max(0.0, (step / steps - (1 - config.decay)) / config.decay)
    return warmup * 0.5 * (1 + math.cos(math.pi * min(1.0, done)))


def ema_decay(step: int, halflife: float) -> float:
    """Decay whose half-life is `halflife` steps, or a tenth of the steps done if that is less."""
    return float(0.5 ** (1 / max(1e-8, min(halflife, 0.1 * (step + 1)))))


def build_optimizers(network: Trainable, config: OptimizerConfig) -> list[torch.optim.Optimizer]:
    """The optimizers of a run, each group with its `initial_lr`."""
    kernels = network.residual_kernels() if config.name == "muon" else []
    taken = {id(kernel) for kernel in kernels}
    rest = [parameter for parameter in network.parameters() if id(parameter) not in taken]
    optimizers: list[torch.optim.Optimizer] = [
        torch.optim.AdamW(
            rest,
            lr=config.learning_rate,
            betas=config.betas,
            weight_decay=config.weight_decay,
            fused=True,
        )
    ]
    if kernels:
        optimizers.append(
            Muon(kernels, lr=config.muon_learning_rate, weight_decay=config.muon_weight_decay)
        )
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["initial_lr"] = group["lr"]
    return optimizers
