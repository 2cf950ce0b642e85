"""A model made of a denoiser that takes a σ-map: the prior, and every checkpoint of ours."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path as FilePath
from typing import Any

import torch
from torch import Tensor

from ..core.guidance import classifier_free
from ..core.ladder import strength_to_sigma
from ..core.lift import lift
from ..core.noise import PositionalNoise
from ..core.path import PATHS, Path
from ..core.plan import OnStep, Plan
from ..core.sample import sample_steps
from ..core.solvers import SOLVERS
from ..core.types import Denoiser
from ..core.views import average_views
from ..errors import InputError
from ..nn import Conditions, UNetConfig
from .checkpoint import CheckpointConfig, load_checkpoint
from .device import uses_bf16
from .network import Network


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
        classes: names of the classes that `given` takes.
        size: height and width of the pictures that it was trained on, in pixels.
        conditioned: the denoiser under conditions, of a model that takes any.
        conditions, guidance_scale: what `given` told it.
        network: what the denoiser computes with, where it is one.
        numbers, picture_channels: how many numbers, and channels of a picture, it can be told.
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
    classes: tuple[str, ...] = ()
    size: tuple[int, int] | None = None
    conditioned: Callable[[Conditions], Denoiser] | None = field(default=None, repr=False)
    conditions: Conditions = field(default=Conditions(), repr=False, compare=False)
    guidance_scale: float = 1.0
    numbers: int = 0
    picture_channels: int = 0
    network: torch.nn.Module | None = field(default=None, repr=False, compare=False)

    def given(
        self,
        *,
        label: int | str | Sequence[int | str] | None = None,
        vector: Sequence[float] | Tensor | None = None,
        picture: Tensor | None = None,
        guidance_scale: float | None = None,
    ) -> DenoiserModel:
        """The same model, told what its pictures show; what it was told before stays.

        Args:
            label: a class by name or number, for all samples or one for each.
            vector: the numbers that it was trained to be told, (V,), or (n,V) for n samples.
            picture: the picture that it was trained to be told, (1 or n,K,H,W) in [-1,1].
            guidance_scale: 1 follows what was learnt; above, samples show the condition more and
                differ less (classifier-free guidance, at twice the evaluations). By default as
                before, at first 1.

        Raises:
            InputError: for a condition that the model does not take or know, or guidance without
                any.
        """
        scale = self.guidance_scale if guidance_scale is None else guidance_scale
        unchanged = label is None and vector is None and picture is None
        if unchanged and scale == self.guidance_scale:
            return self
        if self.conditioned is None:
            raise InputError(
                f"the model '{self.name}' was trained without conditions: leave label, vector, "
                "picture and guidance_scale out"
            )
        for name, value, most in (
            ("vector", vector, self.numbers),
            ("picture", picture, self.picture_channels),
        ):
            if value is None:
                continue
            if most == 0:
                what = "numbers" if name == "vector" else "picture"
                raise InputError(f"the model '{self.name}' takes no {what}: leave {name} out")
            found = _batched(value, 2 if name == "vector" else 4).shape[1]
            if found != most:
                raise InputError(
                    f"{name} has {found} entries and the model '{self.name}' takes {most}: give "
                    "as many"
                )
        given = {
            "labels": None if label is None else torch.tensor(self.label_numbers(label)),
            "vector": None if vector is None else _batched(vector, 2),
            "picture": None if picture is None else _batched(picture, 4),
        }
        conditions = self.conditions._replace(
            **{name: value.to(self.device) for name, value in given.items() if value is not None}
        )
        told = self.conditioned(conditions)
        if scale != 1:
            if all(condition is None for condition in conditions):
                raise InputError(
                    f"guidance_scale is {scale:g} and the model '{self.name}' is told nothing: "
                    "give a label, vector or picture too, or leave it out"
                )
            told = classifier_free(told, self.conditioned(Conditions()), scale)
        halo = self.halo if picture is None else None
        return replace(self, denoiser=told, halo=halo, conditions=conditions, guidance_scale=scale)

    def label_numbers(self, label: int | str | Sequence[int | str]) -> list[int]:
        """Numbers of one class or several.

        Raises:
            InputError: for a class that the model does not know.
        """
        if not self.classes:
            raise InputError(f"the model '{self.name}' knows no classes: leave label out")
        names = [label] if isinstance(label, int | str) else list(label)
        numbers = []
        for name in names:
            number = self.classes.index(name) if name in self.classes else name
            if isinstance(number, str) and number.isdecimal():
                number = int(number)
            if not isinstance(number, int) or not 0 <= number < len(self.classes):
                near = difflib.get_close_matches(str(name), self.classes, n=1)
                hint = f"did you mean '{near[0]}'?" if near else "it knows " + self._shown()
                raise InputError(f"the model '{self.name}' knows no class {name!r}: {hint}")
            numbers.append(number)
        return numbers

    def _shown(self) -> str:
        some = ", ".join(self.classes[:10])
        return some if len(self.classes) <= 10 else f"{some} and {len(self.classes) - 10} more"

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


@dataclass(frozen=True)
class LiftedModel(DenoiserModel):
    """A network that knows one noise level for the whole picture, lifted to maps when it runs.

    `denoiser` takes one level for each image; `run` takes any map.
    """

    def run(self, plan: Plan, noise: PositionalNoise, on_step: OnStep | None = None) -> Tensor:
        """Sample the plan, see `DenoiserModel.run`.

        Raises:
            InputError: if the picture is in colour and the model knows grey ones only.
        """
        own = replace(plan, image=in_own_channels(plan.image, self.channels, self.name))
        reference, start_noise = own.image.to(self.device), noise(0).to(self.device)
        lifted = self.with_denoiser(lift(self.denoiser, reference, start_noise))
        samples = DenoiserModel.run(lifted, own, noise, on_step)
        return samples.expand(-1, plan.image.shape[1], -1, -1)


def in_own_channels(image: Tensor, channels: int, name: str) -> Tensor:
    """A grey picture's equal channels as one, where the model has one.

    Raises:
        InputError: if the picture is in colour and the model knows grey ones only.
    """
    if channels > 1:
        return image
    if not bool((image == image[:, :1]).all()):
        raise InputError(
            f"the model '{name}' knows grey pictures only and this one is in colour: "
            "convert it to grey, or use a model of colour pictures"
        )
    return image[:, :1]


def from_checkpoint(
    weights: FilePath,
    config: FilePath | None,
    *,
    name: str,
    device: torch.device,
    precision: str = "auto",
) -> DenoiserModel:
    """Load a checkpoint of ours as a model, one of latents as a model of these.

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
    return as_model(network, described, name=name, bf16=half)


def as_model(
    network: Network, described: CheckpointConfig, *, name: str, bf16: bool = False
) -> DenoiserModel:
    """A network with its description as a model, on the device that it is on."""
    parameter = next(network.parameters())
    device, dtype = parameter.device, parameter.dtype
    forward = _autocast(network, device) if bf16 else network
    shape = described.network

    def conditioned(conditions: Conditions) -> Denoiser:
        inner = described.form.denoiser(lambda x, c: forward(x, c, conditions))

        def denoiser(x: Tensor, sigma: Tensor) -> Tensor:
            """Whatever dtype and device x has, the network computes on its own."""
            return inner(x.to(device, dtype), sigma.to(device, dtype)).to(x)

        return denoiser

    numbers = shape.vector if isinstance(shape, UNetConfig) else 0
    told = shape.condition_channels if isinstance(shape, UNetConfig) else 0
    kind = DenoiserModel if described.maps else LiftedModel
    return kind(
        name=name,
        denoiser=conditioned(Conditions()),
        channels=shape.in_channels,
        stride=shape.stride,
        halo=network.halo if described.maps else None,
        device=device,
        sigma_min=described.sigma_min,
        sigma_max=described.sigma_max,
        rho=described.rho,
        s_noise=described.s_noise,
        card=described.card,
        classes=described.classes,
        size=described.size,
        conditioned=conditioned if shape.classes or numbers or told else None,
        numbers=numbers,
        picture_channels=told,
        network=network,
    )


def _autocast(network: Network, device: torch.device) -> Callable[..., Tensor]:
    """Run the network's convolutions in bfloat16 and hand back float32."""

    def run(*inputs: Any) -> Tensor:
        with torch.autocast(device.type, torch.bfloat16):
            out: Tensor = network(*inputs)
            return out.float()

    return run


def _batched(values: Sequence[float] | Tensor, dimensions: int) -> Tensor:
    """One condition as a batch of one."""
    tensor = torch.as_tensor(values, dtype=torch.float32)
    return tensor[None] if tensor.ndim < dimensions else tensor
