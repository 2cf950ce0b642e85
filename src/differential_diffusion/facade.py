"""Images in, images out: a model with its settings, and the loop of noising and denoising.

    model = DifferentialDiffusionModel()
    model.initialize_parameters(pixel_strengths="adaptive", control_mechanism="dynamic")
    restored = model.restore_image(image, restoration_mode="deep")

A thin face over `enhance`, `restore` and the sampler, which say more and return `Result`s.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from .api import enhance, restore
from .core.ladder import SIGMA_MIN, karras
from .core.noise import PositionalNoise
from .core.plan import Plan, Run
from .engine import run_plan, source_of
from .errors import InputError
from .images import Picture, read
from .models import DenoiserModel, load_model
from .schema import is_auto, strength_word
from .tasks import TaskInput
from .tasks.base import above_floor, colour_noise, noise_tensor, strength_tensor

__all__ = ["DifferentialDiffusionModel", "differential_diffusion_process"]

Forward = Callable[[Any], Tensor]
Reverse = Callable[[Tensor, int], Any]


class DifferentialDiffusionModel:
    """A model of pixels with its settings, whose methods take a picture and return a picture.

    A picture is a path, PIL image, array (H,W[,C]) or tensor (C,H,W), and comes back as the same
    kind (a path as a PIL image), so that ``network(model.enhance_image(image))`` works with any
    callable that takes that kind.

    Args:
        model: a model reference or a loaded model, see `load_model`.
        config, device, precision: as `load_model` takes them.
        seed: of all randomness.

    Raises:
        InputError: for a model that is not there, or is a pipeline.
    """

    def __init__(
        self,
        model: Any = "prior",
        *,
        config: str | Path | None = None,
        device: str | None = None,
        precision: Literal["auto", "fp32", "bf16"] = "auto",
        seed: int = 0,
    ) -> None:
        loaded = load_model(model, config=config, device=device, precision=precision)
        if not isinstance(loaded, DenoiserModel):
            raise InputError(
                f"the model '{loaded.name}' is a pipeline or works on latents, and edits: use "
                "`edit` with it, and here the bundled prior or another model of pixels"
            )
        self.model, self.seed = loaded, seed
        self.initialize_parameters()

    def initialize_parameters(
        self,
        pixel_strengths: Any = "adaptive",
        control_mechanism: Literal["static", "dynamic"] = "dynamic",
    ) -> DifferentialDiffusionModel:
        """Choose where strengths come from, and whether they are looked at again.

        Args:
            pixel_strengths: "adaptive", each pixel's own, from the noise, compression and damage
                that are found in the picture; "uniform", one level of noise for all pixels; or a
                map of how much of the change each pixel gets (as `strength` in `edit`), 1 all, 0
                none, bit for bit.
            control_mechanism: "static", they are found once, or "dynamic", again after each
                mending, from what the model cannot explain. Only restoration mends more than once.

        Returns: this model.

        Raises:
            InputError: for another word.
        """
        named = isinstance(pixel_strengths, str) and not strength_word(pixel_strengths)
        if named and not Path(pixel_strengths).expanduser().is_file():
            raise InputError(
                f"pixel_strengths is '{pixel_strengths}': give 'adaptive', 'uniform' or a map"
            )
        if control_mechanism not in ("static", "dynamic"):
            raise InputError(
                f"control_mechanism is {control_mechanism!r}: give 'static' or 'dynamic'"
            )
        self.pixel_strengths, self.control_mechanism = pixel_strengths, control_mechanism
        return self

    def enhance_image(
        self,
        image: Any,
        enhancement_level: Literal["low", "medium", "high"] = "medium",
        **settings: Any,
    ) -> Any:
        """The picture with less noise and compression, and more detail, see `enhance`.

        Args:
            image: a picture.
            enhancement_level: "low", "medium" or "high".
            settings: as `enhance` takes them.
        """
        given: dict[str, Any] = {"model": self.model, "seed": self.seed, **settings}
        if "level" in given:
            raise InputError("level is enhancement_level here: give it by that name")
        if self._uniform and is_auto(given.get("noise_level_8bit", "auto")):
            given["noise_level_8bit"] = 127.5 * _root_mean_square(
                _noise(source_of(read(image), self.model))
            )
        elif self._mapped:
            given.setdefault("strength", self.pixel_strengths)
        return enhance(image, enhancement_level, **given).image

    def restore_image(
        self,
        image: Any,
        restoration_mode: Literal["light", "standard", "deep"] = "standard",
        **settings: Any,
    ) -> Any:
        """The picture without noise and damage, see `restore`.

        Args:
            image: a picture.
            restoration_mode: "light", "standard" or "deep".
            settings: as `restore` takes them.
        """
        given: dict[str, Any] = {
            "model": self.model,
            "seed": self.seed,
            "pixel_strengths": self.pixel_strengths,
            "control_mechanism": self.control_mechanism,
            **settings,
        }
        if "mode" in given:
            raise InputError("mode is restoration_mode here: give it by that name")
        return restore(image, mode=restoration_mode, **given).image

    def diffusion_steps(self, image: Any, steps: int = 100) -> tuple[Forward, Reverse]:
        """The two halves of a step, for a loop of one's own over one picture.

            σ̂_k² = 2 σ_k² - σ_(k+1)²,    x ← x + sqrt(σ̂_k² - σ_k²) ε                 (forward)
            x ← x + (1 - σ_(k+1)/σ̂_k) (D(x, σ̂_k) - x)                                (reverse)

        Together they are a step of the reverse SDE, to first order, from the pixels' own levels to
        none: the adaptive strengths are the noise that is found in the picture, so that the loop
        draws from the posterior of the picture without it. A map of strengths adds noise first, as
        `edit` does. A pixel of strength 0 stays.

        Args:
            image: the picture that the loop starts from.
            steps: how many there will be, from step 0 on.

        Returns:
            ``forward_diffusion(image)``, which takes the picture or the state (1,C,H,W), and
            ``reverse_denoising(image, step)``, which returns the state and, after the last step,
            the picture as the kind that was given.

        Raises:
            InputError: less than one step, or anything wrong with the picture or the map.
        """
        if steps < 1:
            raise InputError(f"steps is {steps}: give 1 or more")
        picture, run = read(image), partial(run_plan, model=self.model)
        return _Steps(picture, *self._levels(picture), run, self.seed, steps).halves()

    @property
    def _mapped(self) -> bool:
        return strength_word(self.pixel_strengths) is None

    @property
    def _uniform(self) -> bool:
        return strength_word(self.pixel_strengths) == "uniform"

    def _levels(self, picture: Picture) -> tuple[Tensor, Tensor, Tensor]:
        """The picture as the model sees it, its noise, and the levels to start from."""
        source = source_of(picture, self.model)
        noise = _noise(source)
        if self._uniform:
            noise = torch.full((1, 1, 1, 1), _root_mean_square(noise))
        x, noise = colour_noise(source, noise, self.seed)
        if not self._mapped:
            return x, noise, noise
        strength = strength_tensor(self.pixel_strengths, source, invert=False)
        start = torch.maximum(self.model.sigma(strength), noise)
        return x, noise, torch.where(strength > 0, start, 0.0)


class _Steps:
    """A picture on its way down the levels."""

    def __init__(
        self,
        picture: Picture,
        x: Tensor,
        noise: Tensor,
        start: Tensor,
        run: Run,
        seed: int,
        steps: int,
    ) -> None:
        self.picture, self.x, self.run, self.steps = picture, x, run, steps
        self.noise, self.start = noise, start.expand(1, 1, *x.shape[-2:])
        highest = max(float(start.max()), 2 * SIGMA_MIN)
        self.share = karras(steps, sigma_max=highest).float() / highest
        self.draw = PositionalNoise([seed], *x.shape[1:])
        self.step = 0

    def halves(self) -> tuple[Forward, Reverse]:
        return self.forward, self.reverse

    def _level(self, step: int) -> Tensor:
        return self.share[step] * self.start

    def _raised(self, step: int) -> Tensor:
        """σ̂ of a step."""
        return (2 * self._level(step).square() - self._level(step + 1).square()).sqrt()

    def forward(self, image: Any) -> Tensor:
        """Add the noise of this step; in the first, what the picture lacks of the start too."""
        if self.step >= self.steps:
            raise InputError(f"there were {self.steps} steps: ask for more, or stop the loop")
        has = self._level(self.step).square()
        if self.step == 0:
            x, has = self.x, torch.minimum(self.noise.square(), has)
        elif isinstance(image, Tensor) and image.shape == self.x.shape:
            x = image
        else:
            raise InputError("image is not what reverse_denoising returned: give that back")
        added = (self._raised(self.step).square() - has).clamp(min=0).sqrt()
        return torch.where(added > 0, x + added * self.draw(self.step), x)

    def reverse(self, image: Tensor, step: int) -> Any:
        """Go down to the next level; after the last, give the picture back."""
        if step != self.step:
            raise InputError(f"step is {step}, and {self.step} is next: take them in order")
        below, nothing = self._level(step + 1), torch.zeros(1, 1, 1, 1)
        plan = Plan(image, nothing, self._raised(step), below, steps=1, path="together")
        x, self.step = self.run(plan), step + 1
        if self.step < self.steps:
            return x
        return self.picture.replaced(x, (self.start == 0)[0, 0].numpy()).native()


def differential_diffusion_process(
    image: Any,
    steps: int = 100,
    *,
    model: DifferentialDiffusionModel | None = None,
) -> Any:
    """Noise and denoise a picture step by step, each pixel at its own level.

    With the adaptive strengths a noisy picture comes out without its noise, as a sample of what it
    may have been; a clean one stays as it is. See `DifferentialDiffusionModel.diffusion_steps`.

    Args:
        image: a path, PIL image, array (H,W[,C]) or tensor (C,H,W).
        steps: how many.
        model: with its settings; by default the bundled prior and adaptive strengths.

    Returns: the picture, as the kind that was given.

    Raises:
        InputError: less than one step, or anything wrong with the picture.
    """
    model = DifferentialDiffusionModel() if model is None else model
    forward_diffusion, reverse_denoising = model.diffusion_steps(image, steps)
    for step in range(steps):
        image = forward_diffusion(image)
        image = reverse_denoising(image, step)
    return image


def _noise(source: TaskInput) -> Tensor:
    """The noise that is found in the picture, (1,1,H,W); estimates below the floor are none."""
    return above_floor(noise_tensor("auto", source))


def _root_mean_square(noise: Tensor) -> float:
    return float(noise.square().mean().sqrt())
