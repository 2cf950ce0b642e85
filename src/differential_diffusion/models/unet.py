"""Unconditional U-Nets of Diffusers as denoisers of ours.

A `UNet2DModel` is told one timestep, or one noise level, for the whole picture, and predicts noise,
picture, velocity or score. Its scheduler says which. `core.precondition` makes a denoiser of the
two, and a run lifts that to maps (`core.lift`).

    scheduler with betas     pictures in [-1,1]    told t      σ_t = sqrt((1 - ᾱ_t) / ᾱ_t)
    ScoreSdeVeScheduler      pictures in [0,1]     told σ/2    its levels are σ/2
    KarrasVeScheduler        pictures in [0,1]     told σ/2    its levels are σ

with σ, here as everywhere, on the scale of pictures in [-1,1].
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from ..core.grid import to_whole_strides
from ..core.ladder import log_linear, sigmas_from_betas
from ..core.path import PATHS, Path
from ..core.plan import Plan
from ..core.precondition import BetaTimes, Network, epsilon, score, velocity, x0
from ..core.types import Denoiser
from ..errors import InputError
from .denoiser import LiftedModel

__all__ = ["Convention", "UNetModel", "convention_of", "from_unet"]

PREDICTIONS: dict[str, Callable[[Network, BetaTimes], Denoiser]] = {
    "epsilon": epsilon,
    "sample": x0,
    "v_prediction": velocity,
}
"""Adapters by a scheduler's `prediction_type`."""

KARRAS_VE_LEVELS = 1000
"""KarrasVeScheduler knows the ends of its schedule and no steps."""


@dataclass(frozen=True)
class UNetModel(LiftedModel):
    """A U-Net that knows one noise level for the whole picture, lifted to maps when it runs.

    `denoiser` takes one level for each image and refuses maps; `run` takes any map.

    Attributes:
        levels: σ of the schedule's T timesteps, rising, (T,) float64.
    """

    levels: Tensor = field(default_factory=lambda: torch.empty(0), compare=False, kw_only=True)

    def sigma(self, strength: Tensor) -> Tensor:
        """σ of the timestep at a fraction of the schedule, interpolated in ln σ.

            σ(s) = σ_t,    t = s T - 1 ≥ 0,    and s T σ_0 below that

        The timesteps of Diffusers' "trailing" spacing, N steps of them, are those of s = i/N.

        Raises:
            InputError: a strength outside [0, 1] or not finite.
        """
        if not bool(((strength >= 0) & (strength <= 1)).all()):
            raise InputError(
                "strength must lie in [0, 1] everywhere and hold no NaN: clip or fix it."
            )
        t = strength.to("cpu", torch.float64) * len(self.levels) - 1
        below = t.floor().clamp(0, len(self.levels) - 2).long()
        logs = self.levels.log()
        within = torch.lerp(logs[below], logs[below + 1], t - below).exp()
        return torch.where(t < 0, (t + 1) * self.levels[0], within).to(strength)

    def path(self, plan: Plan) -> Path:
        """The σ-maps that `run` will walk through, on the device."""
        strength = 1 - torch.arange(plan.steps + 1, dtype=torch.float64) / plan.steps
        start, target = plan.start(self.sigma).to(self.device), plan.target.to(self.device)
        return PATHS[plan.path](start, target, self.sigma(strength))


@dataclass(frozen=True)
class Convention:
    """What a scheduler says of its network.

    Attributes:
        levels: σ of its timesteps, rising, (T,) float64.
        adapt: makes the network, called (x, t or σ) with one condition for each image, a denoiser
            that takes one level for each image.
    """

    levels: Tensor
    adapt: Callable[[Network], Denoiser]


def convention_of(scheduler: Any) -> Convention:
    """The convention of a Diffusers scheduler.

    Raises:
        InputError: for schedulers and prediction types that are not known here.
    """
    kind = type(scheduler).__name__
    if kind in ("ScoreSdeVeScheduler", "KarrasVeScheduler"):
        return _variance_exploding(scheduler.config, of_unit_range=kind == "ScoreSdeVeScheduler")
    if isinstance(getattr(scheduler, "betas", None), Tensor):
        return _variance_preserving(scheduler.betas.double(), scheduler.config)
    raise InputError(
        f"the scheduler {kind} has no betas, so that its noise levels are not known: use the "
        "DDPM, DDIM, PNDM, ScoreSdeVe or KarrasVe scheduler that the U-Net was trained with"
    )


def from_unet(unet: Any, scheduler: Any, *, name: str, bf16: bool = False) -> UNetModel:
    """A loaded U-Net with its scheduler as a model, on the device that it is on.

    Args:
        unet: a Diffusers `UNet2DModel`.
        scheduler: the Diffusers scheduler that it was trained with.
        name: what to call it.
        bf16: whether to compute in bfloat16.

    Raises:
        InputError: for U-Nets that need more than a picture and a time, and for schedulers that
            are not known here.
    """
    config = unet.config
    _check(unet, getattr(scheduler.config, "variance_type", None), name)
    convention = convention_of(scheduler)
    stride = 2 ** (len(config.block_out_channels) - 1)
    inner = convention.adapt(_network(unet, stride, bf16))
    device = unet.device

    def denoiser(x: Tensor, sigma: Tensor) -> Tensor:
        """Whatever dtype and device x has, the network computes on its own."""
        return inner(x.to(device), sigma.to(device, x.dtype)).to(x)

    return UNetModel(
        name=name,
        denoiser=denoiser,
        channels=config.in_channels,
        stride=stride,
        halo=None,
        device=device,
        sigma_min=float(convention.levels[0]),
        sigma_max=float(convention.levels[-1]),
        card={
            "scheduler": type(scheduler).__name__,
            "prediction_type": getattr(scheduler.config, "prediction_type", "score"),
            "timesteps": len(convention.levels),
            "sample_size": config.sample_size,
        },
        levels=convention.levels,
        network=unet,
    )


def _variance_preserving(betas: Tensor, config: Any) -> Convention:
    kind = getattr(config, "prediction_type", "epsilon")
    if kind not in PREDICTIONS:
        raise InputError(
            f"the scheduler's prediction_type is {kind!r}: only {', '.join(PREDICTIONS)} are known"
        )
    if bool(betas[-1] == 1):
        if kind == "epsilon":
            raise InputError(
                "the scheduler ends at zero signal, where predicted noise says nothing of the "
                "picture: set its rescale_betas_zero_snr to false, or use a model that predicts "
                "v or the sample"
            )
        # σ is infinite at the last timestep: a run begins at twice the level before.
        before = sigmas_from_betas(betas[:-1])[-1].square()
        betas = torch.cat([betas[:-1], 1 - (1 + before) / (1 + 4 * before).view(1)])
    times = BetaTimes(betas)
    levels = sigmas_from_betas(betas)
    return Convention(levels, lambda net: _limited(PREDICTIONS[kind](net, times), config))


def _limited(denoise: Denoiser, config: Any) -> Denoiser:
    """The denoiser within the range that the scheduler limits its estimates of the picture to."""
    if getattr(config, "thresholding", False):
        ratio, most = config.dynamic_thresholding_ratio, config.sample_max_value

        def limit(estimate: Tensor) -> Tensor:
            """Dynamic thresholding (Saharia et al., 2022, section 2.3)."""
            s = torch.quantile(estimate.abs().flatten(1), ratio, dim=1).clamp(1, most)
            s = s.view(-1, 1, 1, 1)
            return torch.maximum(torch.minimum(estimate, s), -s) / s

    elif getattr(config, "clip_sample", False):
        most = getattr(config, "clip_sample_range", 1.0)

        def limit(estimate: Tensor) -> Tensor:
            return estimate.clamp(-most, most)

    else:
        return denoise
    return lambda x, sigma: torch.where(sigma > 0, limit(denoise(x, sigma)), x)


def _variance_exploding(config: Any, *, of_unit_range: bool) -> Convention:
    """The network gives the score of y = (x + 1)/2 at σ/2: that of x is half of it."""
    scale = 2.0 if of_unit_range else 1.0
    low, high = scale * config.sigma_min, scale * config.sigma_max
    count = getattr(config, "num_train_timesteps", KARRAS_VE_LEVELS)
    levels = log_linear(count - 1, low, high, final_zero=False).flip(0)

    def adapt(network: Network) -> Denoiser:
        return score(lambda x, sigma: network((x + 1) / 2, sigma.clamp(low, high) / 2) / 2)

    return Convention(levels, adapt)


def _network(unet: Any, stride: int, bf16: bool) -> Network:
    """The U-Net as a function of pictures of any size and one time for each image."""
    device, dtype, channels = unet.device, unet.dtype, unet.config.in_channels
    by_table = unet.config.time_embedding_type == "learned"

    def network(x: Tensor, t: Tensor) -> Tensor:
        height, width = x.shape[-2:]
        whole = to_whole_strides(x, stride).to(dtype)
        t = t.round().long() if by_table else t
        with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
            out: Tensor = unet(whole, t, return_dict=False)[0]
        return out[:, :channels, :height, :width].to(x)

    return network


def _check(unet: Any, variance_type: str | None, name: str) -> None:
    """That the U-Net predicts one picture from a picture and a time."""
    config = unet.config
    channels, out = config.in_channels, config.out_channels
    learned = (variance_type or "").startswith("learned")  # then the second half is the variance
    if channels not in (1, 3) or out not in ((channels, 2 * channels) if learned else (channels,)):
        raise InputError(
            f"the U-Net of '{name}' makes {out} channels of {channels}: only those that make "
            "pictures of 1 or 3 channels of such pictures can be used"
        )
    if config.class_embed_type is not None or config.num_class_embeds is not None:
        raise InputError(f"the U-Net of '{name}' needs class labels: use an unconditional one")
    if any(isinstance(m, torch.nn.Dropout) and m.training and m.p > 0 for m in unet.modules()):
        raise InputError(f"the U-Net of '{name}' is being trained, with dropout: call its eval()")
