"""What a task receives and returns."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from ..core.noise import PositionalNoise, derive_seed
from ..core.operators import Coefficients, JpegFormat
from ..core.plan import Plan, Run
from ..core.solvers import SOLVERS
from ..errors import InputError
from ..maps import StrengthMap, from_file, from_image, make_map
from ..maps.noise import NoiseKind, estimate_noise
from ..schema import MapSpec, PromptedRequest, Request, is_auto

NOISE_FLOOR_8BIT = 1.5
"""Estimated noise below this is taken for none, so that clean areas stay as they are."""

_CHROMA_STREAM = 3


@dataclass(frozen=True)
class TaskInput:
    """The picture a task works on.

    Attributes:
        image: (1,C,H,W) in [-1,1]; grey pictures come with three equal channels.
        grey: whether the picture is grey.
        model_channels: channels of the pictures that the model knows.
        jpeg: how the JPEG file that it was read from holds it, if it was, or a text why that is
            not understood.
        coefficients: reads them from that file; None where they cannot be read.
        denoises: whether the model gives means of any noise, as a pipeline does not.
    """

    image: Tensor
    grey: bool = False
    model_channels: int = 3
    jpeg: JpegFormat | str | None = None
    coefficients: Callable[[], Coefficients | None] = lambda: None
    denoises: bool = True

    @property
    def size(self) -> tuple[int, int]:
        """(H, W)."""
        return self.image.shape[-2], self.image.shape[-1]


@dataclass(frozen=True)
class TaskOutput:
    """What a task made.

    Attributes:
        samples: (n,C,H,W).
        keep: (1,1,H,W) bool: pixels that must come out as they went in.
        map: (1,1,H,W) in [0,1]: how much each pixel was allowed to change.
        noise: σ found or given, (1,1,H,W) or (1,1,1,1), where the task deals with noise.
        damage: (1,1,H,W) in [0,1], damage found or given, where the task deals with damage.
        notes: sentences for the user.
        spread: whether the samples differ as much as they should: by the posterior of the noise
            that is in the picture, or by the noise that was added.
        mean: (1,C,H,W), an estimate of the posterior mean that is better than that of the samples.
        coloured: whether a grey picture got colours.
    """

    samples: Tensor
    keep: Tensor
    map: Tensor
    noise: Tensor | None = None
    damage: Tensor | None = None
    notes: tuple[str, ...] = ()
    spread: bool = True
    mean: Tensor | None = None
    coloured: bool = False


@dataclass(frozen=True)
class Task:
    """A task: its request type and the function that turns requests into plans."""

    request: type[Request]
    perform: Callable[[Any, TaskInput, Run], TaskOutput]
    description: str = field(default="")


def channels_last_pixels(source: TaskInput) -> NDArray[np.float32]:
    """The picture as the map sources take it: (H,W,C) in [-1,1], one channel if it is grey."""
    planes = source.image[0, :1] if source.grey else source.image[0]
    return planes.permute(1, 2, 0).contiguous().numpy()


def strength_tensor(value: Any, source: TaskInput, *, invert: bool) -> Tensor:
    """A strength map from whatever the user gave, (1,1,H,W)."""
    if isinstance(value, MapSpec):
        value = make_map(value.source, channels_last_pixels(source), value.params)
    strength = StrengthMap.of(value, *source.size)
    return (strength.invert() if invert else strength).tensor()


def in_part(source: TaskInput, mended: Tensor, strength: Tensor) -> Tensor:
    """As much of what was mended as the strength says: x + s (x' - x), and x bit for bit at 0.

    Args:
        source: the picture x.
        mended: x', (n,C,H,W).
        strength: s in [0,1], (1,1,H,W).
    """
    return torch.where(strength > 0, torch.lerp(source.image, mended, strength), source.image)


def numbers(
    value: Any,
    name: str,
    *,
    scale: float,
    file: str,
    other: str,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """A number, numbers, or a grey picture or its file, whose range stands for 0 to `scale`.

    Args:
        value: as the user gave it.
        name: of the setting.
        scale: what white stands for.
        file, other: what to ask for in place of a file that is not there, and of another type.
        dtype: of the result.

    Raises:
        InputError: for a file that is not there, or what holds no numbers.
    """
    if isinstance(value, str | Path) and not Path(value).expanduser().exists():
        raise InputError(f"{name} is '{value}': give {file}")
    if isinstance(value, str | Path | Image.Image):
        grey = from_image(value) if isinstance(value, Image.Image) else from_file(value)
        value = scale * grey.array
    try:
        return torch.as_tensor(value, dtype=dtype, device="cpu").detach()
    except (TypeError, ValueError, RuntimeError):
        raise InputError(f"{name} is a {type(value).__name__}: give {other}") from None


def noise_tensor(
    value: Any, source: TaskInput, ignore: Tensor | None = None, kind: NoiseKind = "auto"
) -> Tensor:
    """σ on [-1,1] from a level on the 8-bit scale: number, map (H,W), image file, or "auto".

    The full range of a file's grey levels, whatever its type, stands for 0 to 255. Pixels of
    `ignore`, (1,1,H,W) bool, such as damage, do not count in an estimate, which is of `kind`, see
    `estimate_noise`. Returns (1,1,1,1) for a number, else (1,1,H,W).

    Raises:
        InputError: for a negative, non-finite or wrongly sized level.
    """
    if is_auto(value):
        pixels = channels_last_pixels(source)
        left_out = None if ignore is None else ignore[0, 0].numpy()
        sigma = estimate_noise(pixels, kind=kind, ignore=left_out)
        return torch.from_numpy(sigma)[None, None].float()
    level = numbers(
        value,
        "noise_level_8bit",
        scale=255,
        file="a number, a map, its file, or 'auto'",
        other="a number, a map of numbers, or 'auto'",
    )
    if level.ndim not in (0, 2) or (level.ndim == 2 and tuple(level.shape) != source.size):
        raise InputError(
            f"noise_level_8bit has the shape {tuple(level.shape)}: give one number or a map of "
            f"the picture's {source.size[0]}x{source.size[1]} (rows x columns)"
        )
    if not bool(torch.isfinite(level).all()) or bool((level < 0).any()):
        raise InputError("noise_level_8bit must be finite and not negative: check the values")
    sigma_max_8bit = 255.0
    if bool((level > sigma_max_8bit).any()):
        raise InputError(f"noise_level_8bit exceeds {sigma_max_8bit:g}: it is on the 0-255 scale")
    return (level / 127.5).reshape(1, 1, *(level.shape if level.ndim == 2 else (1, 1)))


def above_floor(noise: Tensor) -> Tensor:
    """Estimated σ, 0 where it is below the floor."""
    return torch.where(noise < NOISE_FLOOR_8BIT / 127.5, 0.0, noise)


def colour_noise(source: TaskInput, noise: Tensor, seed: int) -> tuple[Tensor, Tensor]:
    """Picture and σ as an RGB model must see them.

    A grey value with noise σ, copied to three channels, lies on the axis (1,1,1)/√3 of the
    colour cube with noise √3 σ, and with none across it. Independent chroma noise of √3 σ
    makes it white in all three directions: x = y + √3 σ (ε - mean ε), told as √3 σ.
    """
    if not needs_colour_noise(source, noise):
        return source.image, noise
    told: Tensor = 3**0.5 * noise
    chroma = PositionalNoise([derive_seed(seed, _CHROMA_STREAM)], 3, *source.size)(0)
    chroma -= chroma.mean(dim=1, keepdim=True)
    return chroma.mul_(told).add_(source.image), told


def needs_colour_noise(source: TaskInput, noise: Tensor) -> bool:
    """Whether an RGB model must be shown more than the picture: it is grey and noisy."""
    return source.grey and source.model_channels > 1 and bool((noise > 0).any())


def posterior_solvers() -> list[str]:
    """Names of the solvers that sample p(x0 | x) from noise that is already in the picture."""
    return [name for name, make in SOLVERS.items() if make().law == "posterior"]


def spreads(request: Request, noise: Tensor) -> bool:
    """Whether samples from a picture with this noise in it differ as the posterior does.

    A solver of another law draws one and the same picture from noise that is already there.
    """
    return request.solver in posterior_solvers() or not bool((noise > 0).any())


def draw(
    request: Request,
    source: TaskInput,
    noise: Tensor,
    plan: Callable[[Tensor, Tensor], Plan],
    run: Run,
    *,
    one_by_one: bool = False,
) -> Tensor:
    """The request's samples of the plan made from the picture and its σ as the model sees them.

    Sample k is what seed + k alone gives: a grey picture's chroma noise is of its own seed too.
    """
    seeds = seeds_of(request)
    if not one_by_one and not needs_colour_noise(source, noise):
        return run(replace(plan(source.image, noise), seeds=seeds))
    samples = [
        run(replace(plan(*colour_noise(source, noise, seed)), seeds=(seed,))) for seed in seeds
    ]
    return torch.cat(samples) if len(samples) > 1 else samples[0]


SAMPLING = "steps", "solver", "path", "guidance"
"""Settings of samples, which a mean has no use for."""

MEAN_ALONE = "the mean takes passes: {} went unused; samples use them"
SAMPLE_ALONE = "a sample takes steps: {} went unused; the mean uses them"


def unused(request: Request, said: str, names: tuple[str, ...] = SAMPLING) -> tuple[str, ...]:
    """What the user should know of settings that went unused, if any were changed.

    Args:
        request: that may set them.
        said: the sentence, with {} for their names.
        names: of the settings.
    """
    fields = type(request).model_fields
    given = [
        name
        for name in names
        if name in request.model_fields_set and getattr(request, name) != fields[name].default
    ]
    return (said.format(" and ".join(given)),) if given else ()


def seeds_of(request: Request) -> tuple[int, ...]:
    """The seeds of the request's samples: seed, seed + 1, ..."""
    return tuple(request.seed + k for k in range(request.samples))


def plan_options(request: Request) -> dict[str, Any]:
    """The fields of a plan that every request sets."""
    return {
        "seeds": seeds_of(request),
        "steps": request.steps,
        "solver": request.solver,
        "path": request.path,
        "options": request.pipeline_options() if isinstance(request, PromptedRequest) else {},
    }


def denoise_plan(image: Tensor, noise: Tensor, seed: int) -> Plan:
    """One evaluation of the posterior mean: from the noise that is there to none."""
    return Plan(
        image,
        torch.zeros(1, 1, 1, 1),
        noise=noise,
        seeds=(seed,),
        steps=1,
        path="together",
    )
