"""Models of latents that work on pictures: a codec around a denoiser of what it encodes to.

    picture -> latents -> path on the latent grid -> latents -> picture

A cell of latents has the largest strength of its pixels, so that a thin stroke does not fade. Cells
of strength 0 never move, and their pixels come from the picture itself, bit for bit.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..core.grid import mirrored
from ..core.noise import PositionalNoise
from ..core.plan import OnStep, Plan
from ..core.types import Step
from ..errors import InputError
from .autoencoder import cell_of, load_autoencoder
from .blend import blended
from .checkpoint import LatentSpace, load_checkpoint
from .codec import pixels_of, posterior
from .denoiser import DenoiserModel, as_model, in_own_channels
from .device import uses_bf16
from .latent_plan import cell_maximum
from .pipeline_settings import PipelineSettings

__all__ = ["CODEC_FOLDER", "Codec", "LatentModel", "codec_of", "load_own"]

CODEC_FOLDER = "codec"
_KNOWN = {"fade_below", "border", "exact"}
"""Options of a plan that say how what was decoded is put into the picture."""


@dataclass(frozen=True)
class Codec:
    """Pixels to normalised latents and back.

    Attributes:
        vae: an `AutoencoderKL`.
        space: mean and deviation of its latents y.
        sigma_data: deviation of z = σ_data (y - mean) / deviation.
    """

    vae: Any
    space: LatentSpace
    sigma_data: float

    @property
    def cell(self) -> int:
        """Pixels a side of a cell."""
        return cell_of(self.vae)

    @property
    def channels(self) -> int:
        """Channels of the pictures."""
        return int(self.vae.config.in_channels)

    def encode(self, pixels: Tensor) -> Tensor:
        """The most likely z (B,C,h,w), float32 on the CPU, of pixels (B,C,H,W) in [-1, 1].

        Args:
            pixels: of sides that are multiples of `cell`.
        """
        return self.normalised(posterior(self.vae, pixels).mode().float().cpu())

    def decode(self, z: Tensor) -> Tensor:
        """Pixels (B,C,H,W) in [-1, 1], float32 on the CPU, of z, one picture after the other."""
        mean, scale = self._affine(z)
        y = (z / scale + mean).to(self.vae.device)
        return torch.cat([pixels_of(self.vae, one).float().cpu() for one in torch.split(y, 1)])

    def normalised(self, y: Tensor) -> Tensor:
        """Latents of the codec as the network has them: z of y, both (B,C,h,w)."""
        mean, scale = self._affine(y)
        return (y - mean) * scale

    def _affine(self, like: Tensor) -> tuple[Tensor, Tensor]:
        mean, deviation = (
            torch.tensor(values, dtype=torch.float32, device=like.device).view(-1, 1, 1)
            for values in (self.space.mean, self.space.deviation)
        )
        return mean, self.sigma_data / deviation


@dataclass(frozen=True)
class LatentModel:
    """A model of pictures whose sampling takes place on the latents of a codec.

    Attributes:
        inner: the model of latents.
        codec: what makes latents of pictures.
        size: height and width of the pictures that it was trained on, in pixels.
    """

    inner: DenoiserModel
    codec: Codec
    size: tuple[int, int] | None = None

    @property
    def name(self) -> str:
        """What it was loaded as."""
        return self.inner.name

    @property
    def channels(self) -> int:
        """Channels of its pictures."""
        return self.codec.channels

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes that `given` takes."""
        return self.inner.classes

    @property
    def picture_channels(self) -> int:
        """Channels of the picture that it can be told."""
        return self.inner.picture_channels

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        return self.inner.device

    @property
    def card(self) -> dict[str, Any] | None:
        """Provenance and figures."""
        return self.inner.card

    def given(
        self,
        *,
        label: int | str | Sequence[int | str] | None = None,
        vector: Sequence[float] | Tensor | None = None,
        picture: Tensor | None = None,
        guidance_scale: float | None = None,
    ) -> LatentModel:
        """The same model, told what its pictures show, see `DenoiserModel.given`.

        Raises:
            InputError: see there.
        """
        told = self.inner.given(
            label=label, vector=vector, picture=picture, guidance_scale=guidance_scale
        )
        return replace(self, inner=told)

    def label_numbers(self, label: int | str | Sequence[int | str]) -> list[int]:
        """Numbers of one class or several, see `DenoiserModel.label_numbers`."""
        return self.inner.label_numbers(label)

    def run(self, plan: Plan, noise: PositionalNoise, on_step: OnStep | None = None) -> Tensor:
        """Samples of the plan, (n,C,H,W) in [-1,1], float32 on the CPU; see `Model`.

        Args:
            plan: of the picture; `fade_below`, `border` and `exact` among its options are those of
                `PipelineSettings`.
            noise: noise of its seeds is drawn on the latent grid.
            on_step: called with every `Step`, whose `decode` makes pixels of latents.

        Returns: pixels of strength 0 as they are in the plan's picture, bit for bit, if `exact`.

        Raises:
            InputError: for what can be said of pixels alone, or a colour picture for a grey model.
        """
        self._check(plan)
        image = in_own_channels(plan.image, self.channels, self.name)
        channels, (height, width) = plan.image.shape[1], image.shape[-2:]
        if not bool((plan.strength > 0).any()):
            return plan.image.repeat(len(noise.seeds), 1, 1, 1)
        cell = self.codec.cell
        rows, columns = (-(-side // cell) for side in (height, width))
        whole = rows * cell, columns * cell
        everywhere = plan.strength.shape[-2:] == (1, 1)
        strength = plan.strength if everywhere else mirrored(plan.strength, *whole)
        latents = self.codec.encode(mirrored(image, *whole))
        inner = replace(
            plan,
            image=latents,
            strength=strength if everywhere else cell_maximum(strength, rows, columns),
            options={},
        )

        def pixels(z: Tensor) -> Tensor:
            made = self.codec.decode(z)[..., :height, :width]
            return made.expand(-1, channels, -1, -1)

        own = noise.on_grid(latents.shape[1], rows, columns)
        made = pixels(self.inner.run(inner, own, _decoding(on_step, pixels)))
        settings = PipelineSettings(**plan.options)
        if everywhere or not settings.exact:
            return made
        original = plan.image.expand_as(made)
        wanted = plan.strength.expand(len(made), -1, -1, -1)
        return blended(made, original, wanted, settings.fade_below, settings.border)

    def _check(self, plan: Plan) -> None:
        """Refuse what only a model of pixels can do."""
        if bool((plan.noise > 0).any()) or bool((plan.target > 0).any()):
            raise InputError(
                f"the model '{self.name}' works on latents and cannot be told of noise in the "
                "picture: denoise it first, with the bundled prior, or leave noise_level_8bit out"
            )
        if plan.guide is not None:
            raise InputError(
                f"the model '{self.name}' works on latents and cannot be held to a measurement: "
                "use the bundled prior, or another model of pixels"
            )
        if unknown := sorted(plan.options.keys() - _KNOWN):
            raise InputError(
                f"{' and '.join(unknown)} was given, and the model '{self.name}' takes none: leave "
                "it out, or name a Diffusers pipeline with model="
            )


def _decoding(on_step: OnStep | None, decode: Callable[[Tensor], Tensor]) -> OnStep | None:
    """A listener to steps on latents, which are handed on with what decodes them."""
    if on_step is None:
        return None

    def listener(step: Step) -> None:
        on_step(replace(step, decode=decode))

    return listener


def load_own(
    weights: Path, config: Path | None, *, name: str, device: torch.device, precision: str = "auto"
) -> DenoiserModel | LatentModel:
    """Load a checkpoint of ours, of pixels or of latents, as a model of pictures.

    Args:
        weights, config: see `load_checkpoint`.
        name: what to call it.
        device: where to put it.
        precision: "fp32", "bf16", or "auto" (bf16 where the device has units for it); the codec
            computes in float32.

    Raises:
        InputError: for damaged files, an unknown precision, or a codec that is missing.
        MissingExtraError: for a model of latents, without Diffusers.
    """
    half = uses_bf16(precision, device)
    network, described = load_checkpoint(weights, config)
    model = as_model(network.to(device).requires_grad_(False), described, name=name, bf16=half)
    if described.latent is None:
        return model
    folder = weights if weights.is_dir() else (config or weights).parent
    vae = load_autoencoder(codec_of(folder)).to(device)
    codec = Codec(vae, described.latent, described.form.sigma_data)
    if vae.config.latent_channels != model.channels:
        raise InputError(
            f"the codec of '{weights}' has {vae.config.latent_channels} channels of latents, the "
            f"model {model.channels}: copy the folder '{CODEC_FOLDER}' that was saved with it"
        )
    return LatentModel(model, codec, described.size)


def codec_of(folder: Path) -> Path:
    """Where the codec of a checkpoint lies: beside it, or in the finished model of its run.

    Raises:
        InputError: if it is in neither place.
    """
    for place in (folder, folder.resolve().parent.parent / "final"):
        if (place / CODEC_FOLDER).is_dir():
            return place / CODEC_FOLDER
    raise InputError(
        f"'{folder}' is a model of latents without its codec: copy the folder '{CODEC_FOLDER}' "
        "that was saved with it beside its config.json"
    )
