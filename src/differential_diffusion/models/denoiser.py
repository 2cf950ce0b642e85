"""A model made of a denoiser that takes a σ-map: the prior, and every checkpoint of ours."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path as FilePath
from typing import Any

import torch
from torch import Tensor

from ..core.ladder import strength_to_sigma
from ..core.noise import PositionalNoise
from ..core.path import PATHS, Path
from ..core.plan import OnStep, Plan
from ..core.precondition import edm
from ..core.sample import sample_steps
from ..core.solvers import SOLVERS
from ..core.types import Denoiser
from ..core.views import average_views
from ..errors import InputError
from .checkpoint import load_checkpoint
from .device import uses_bf16


@dataclass(frozen=True)
class DenoiserModel:
    """A σ-map denoiser with its strength scale, run by our own sampler.

    Attributes:
        name: what the model was loaded as.
        denoiser: (x, sigma) -> E[x0 | x], in the dtype and on the device of x.
        channels: image channels.
        stride: crops must start at multiples of it, in pixels.
        halo: margin that makes a crop exact, in pixels; None if the model is not local.
        device: where the denoiser computes.
        sigma_min, sigma_max, rho: the strength-to-σ scale (Karras).
        s_noise: scale of the noise that stochastic solvers renew, 1 for an exact denoiser. A
            trained one takes away a little too much, so that samples vary too little; slightly
            more noise makes up for it (Karras et al., 2022, section 4).
        card: provenance and figures.
    """

    name: str
    denoiser: Denoiser
    channels: int
    stride: int
    halo: int | None
    device: torch.device
    sigma_min: float = 0.002
    sigma_max: float = 20.0
    rho: float = 7.0
    s_noise: float = 1.0
    card: dict[str, Any] | None = None

    def sigma(self, strength: Tensor) -> Tensor:
        """σ(strength): 0 at 0, then Karras from sigma_min to sigma_max."""
        return strength_to_sigma(strength, self.sigma_min, self.sigma_max, self.rho)

    def with_denoiser(self, denoiser: Denoiser, *, halo: int | None = None) -> DenoiserModel:
        """The same model around another denoiser, such as a guided or lifted one.

        Args:
            denoiser: the other one.
            halo: margin that makes a crop exact, as `self.halo` where the other is as local;
                None, to be given whole pictures, where it holds some itself.
        """
        return replace(self, denoiser=denoiser, halo=halo)

    def averaged(self, views: int) -> DenoiserModel:
        """The same model, each estimate the mean over turned and mirrored views.

        Args:
            views: 1 to 8, see `core.average_views`.

        Raises:
            InputError: if the model is not local: what it holds of the picture would not turn
                with it.
        """
        if views == 1:
            return self
        if self.halo is None:
            raise InputError(
                f"views is {views}, and the model '{self.name}' is not local, so that it cannot "
                "be shown turned pictures: leave views out"
            )
        averaged = average_views(self.denoiser, views, stride=self.stride)
        return self.with_denoiser(averaged, halo=self.halo)

    def path(self, plan: Plan) -> Path:
        """The σ-maps that `run` will walk through, on the device."""
        return PATHS[plan.path](
            plan.start(self.sigma).to(self.device),
            plan.target.to(self.device),
            plan.steps,
            sigma_min=self.sigma_min,
            sigma_max=self.sigma_max,
            rho=self.rho,
        )

    def run(self, plan: Plan, noise: PositionalNoise, on_step: OnStep | None = None) -> Tensor:
        """Sample the plan; (n,C,H,W) float32 on the CPU, kept pixels untouched.

        Args:
            plan: what to do.
            noise: draw 0 is the starting noise, draw k + 1 the solver's k-th.
            on_step: called with every `Step`.

        Raises:
            InputError: if the plan has options, which are a pipeline's.
        """
        if plan.options:
            raise InputError(
                f"{' and '.join(plan.options)} was given, and the model '{self.name}' takes none: "
                "leave it out, or name a Diffusers pipeline with model="
            )
        x = self._noised(plan, noise).to(self.device)
        path = self.path(plan)
        denoiser = self.denoiser if plan.guide is None else plan.guide(self.denoiser)

        def draw(k: int) -> Tensor:
            return self.s_noise * noise(k + 1).to(self.device)

        with torch.no_grad():
            for step in sample_steps(denoiser, x, path, SOLVERS[plan.solver](), draw):
                x = step.x
                if on_step is not None:
                    on_step(step)
        return x.cpu()

    def _noised(self, plan: Plan, noise: PositionalNoise) -> Tensor:
        """The picture with the noise that its pixels lack, (n,C,H,W)."""
        fresh = plan.start(self.sigma).square().sub_(plan.noise.square()).clamp_(min=0).sqrt_()
        x = plan.image.expand(len(plan.seeds), -1, -1, -1)
        return torch.where(fresh > 0, x + fresh * noise(0), x) if bool((fresh > 0).any()) else x


def from_checkpoint(
    weights: FilePath,
    config: FilePath | None,
    *,
    name: str,
    device: torch.device,
    precision: str = "auto",
) -> DenoiserModel:
    """Load a checkpoint of ours as a model.

    Args:
        weights, config: see `load_checkpoint`.
        name: what to call it.
        device: where to put it.
        precision: "fp32", "bf16", or "auto" (bf16 where the device has units for it).

    Raises:
        InputError: for damaged files or an unknown precision.
    """
    half = uses_bf16(precision, device)
    network, described = load_checkpoint(weights, config)
    network = network.to(device).requires_grad_(False)
    inner = edm(_autocast(network, device) if half else network, described.sigma_data)

    def denoiser(x: Tensor, sigma: Tensor) -> Tensor:
        """Whatever dtype and device x has, the network computes on its own."""
        return inner(x.to(device, torch.float32), sigma.to(device, torch.float32)).to(x)

    return DenoiserModel(
        name=name,
        denoiser=denoiser,
        channels=described.network.in_channels,
        stride=described.network.stride,
        halo=network.halo,
        device=device,
        sigma_min=described.sigma_min,
        sigma_max=described.sigma_max,
        rho=described.rho,
        s_noise=described.s_noise,
        card=described.card,
    )


def _autocast(
    network: Callable[[Tensor, Tensor], Tensor], device: torch.device
) -> Callable[[Tensor, Tensor], Tensor]:
    """Run the network's convolutions in bfloat16 and hand back float32."""

    def run(x: Tensor, c_noise: Tensor) -> Tensor:
        with torch.autocast(device.type, torch.bfloat16):
            return network(x, c_noise).float()

    return run
