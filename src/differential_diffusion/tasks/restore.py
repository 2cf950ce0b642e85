"""Restoration: find noise and damage, then mend both."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from scipy import ndimage
from torch import Tensor

from ..core.ladder import sigma_to_strength
from ..core.noise import PositionalNoise, derive_seed
from ..core.plan import Plan, Run
from ..maps.damage import find_damage
from ..maps.noise import NoiseKind
from ..schema import RestoreRequest, is_auto, strength_word
from .base import (
    Task,
    TaskInput,
    TaskOutput,
    above_floor,
    channels_last_pixels,
    colour_noise,
    denoise_plan,
    draw,
    in_part,
    noise_tensor,
    plan_options,
    strength_tensor,
    unused,
)
from .deblock import deblocked
from .filling import LOST, mean_filling, surroundings, wide
from .unexplained import confirmed, hidden_damage, noise_removed

NO_SAMPLE = "no damage is wide enough to be sampled: {} went unused"

LEAST_REMOVED = 0.65
"""Share of a camera's estimated noise that the model must take away for it to be believed."""

_FILLING_PASSES, _TEXTURE, _STREAM = 8, 1.0, 500
_BLOCKY = 2 / 127.5  # about what quality 85 leaves

MOST_LOOKS = 3
"""How often "deep" looks for what the model cannot explain, if it keeps finding something."""


@dataclass(frozen=True)
class _Found:
    """What is to be mended.

    Attributes:
        noise: σ, (1,1,H,W) or (1,1,1,1).
        damage: strength in [0,1] of damage that leaves nothing of the picture, (1,1,H,W).
        hidden: σ that stands for damage through which the picture shows, (1,1,H,W).
    """

    noise: Tensor
    damage: Tensor
    hidden: Tensor

    @property
    def told(self) -> Tensor:
        """The noise level that the model is told, damage included."""
        return torch.where(self.hidden > 0, torch.hypot(self.hidden, self.noise), self.noise)


def restore(request: RestoreRequest, source: TaskInput, run: Run) -> TaskOutput:
    """A JPEG file's blocks go first; then one pass fills damage, and one takes noise away.

    Damage is filled beside pixels told as noisy as they are, with the mean of the fillings or a
    sample; the last pass takes the posterior mean, which has the least error.
    """
    given, blocks = source, None
    if request.mode != "light":
        blocks = deblocked(source, run, request.seed, _BLOCKY)
    if blocks is not None:
        source = replace(source, image=blocks[0])
    found, looks = _find(request, source, run)
    found = _levelled(request, found)
    noise, damage = found.told, found.damage

    def plan(image: Tensor, told: Tensor) -> Plan:
        still = torch.where(damage > 0, 0.0, told)
        return Plan(image, damage, noise=told, target=still, **plan_options(request))

    def fill_and_denoise(plan: Plan) -> Tensor:
        """Samples of the filling, each then denoised where its noise is still."""
        filled = run(plan) if bool((damage > 0).any()) else plan.image
        return run(denoise_plan(filled, plan.target, plan.seeds[0]))

    mean = None
    if request.estimate == "mean":
        image, told = colour_noise(source, noise, request.seed)
        filled = _filled(plan(image, told), run, source.model_channels)
        mean = run(denoise_plan(filled, torch.where(damage > 0, 0.0, told), request.seed))
    samples = mean
    if samples is None or request.samples > 1:
        blank = replace(source, image=surroundings(source.image, damage >= 1))
        samples = draw(request, blank, noise, plan, fill_and_denoise, one_by_one=True)
    still = (noise > 0) & (damage == 0)
    keep = (damage == 0) & ~still
    touched = torch.maximum(damage, still.float())
    spread = not bool(still.any())  # the second pass takes a mean
    shown = torch.maximum(damage, sigma_to_strength(found.hidden))
    notes = _notes(found, looks)
    if request.estimate == "mean" and samples is mean and not bool(wide(damage >= LOST).any()):
        notes = (*notes, *unused(request, NO_SAMPLE))
    if blocks is not None:
        error = torch.tensor(blocks[1])
        notes = (*notes, f"JPEG blocks: an error of {127.5 * blocks[1]:.1f} of 255 was expected")
        spread = False  # what is free of blocks is a mean
        keep, touched = keep & False, torch.maximum(touched, sigma_to_strength(error))
    output = TaskOutput(samples, keep, touched, found.noise, shown, notes, spread, mean)
    return _in_part(request, given, output)


def _filled(plan: Plan, run: Run, channels: int) -> Tensor:
    """The mean of all fillings; where damage is wide, and the mean flat, a sample drawn from it.

    The mean tells the colours, which a sample from nothing may miss by far, and the sample the
    texture.
    """
    noise, seed = torch.where(plan.strength > 0, 0.0, plan.noise), plan.seeds[0]
    mean = mean_filling(plan.image, plan.strength, plan.noise, run, _FILLING_PASSES, seed)
    broad = wide(plan.strength >= LOST)
    if not bool(broad.any()):
        return mean
    draw = PositionalNoise((derive_seed(seed, _STREAM),), channels, *mean.shape[-2:])
    begun = torch.where(broad, mean + _TEXTURE * draw(0), mean)
    level = torch.where(broad, _TEXTURE, noise)
    nothing = torch.zeros(1, 1, 1, 1)
    again = replace(plan, image=begun, strength=nothing, noise=level, target=noise, seeds=(seed,))
    return torch.where(broad, run(again), mean)


def _find(request: RestoreRequest, source: TaskInput, run: Run) -> tuple[_Found, int]:
    """Noise and damage, and how often the model was asked what it cannot explain."""
    noise, kind = _noise_at_first(request, source, run)
    damage = _damage(request, source, noise, run)
    found = _Found(noise, damage, torch.zeros(1, 1, *source.size))
    found = replace(found, noise=_noise_beside(request, source, found, kind))
    if request.mode == "light" or not is_auto(request.damage):
        return found, 0
    deep, dynamic = request.mode == "deep", request.is_dynamic
    at_first = int(deep)
    most = at_first + (MOST_LOOKS - at_first if deep else 1) * dynamic
    for look in range(most):
        # The first map is of the picture as it is, later ones of what was made of it.
        image = source.image if look < at_first else _mended(source, found, run)
        seen = hidden_damage(
            image,
            found.noise,
            run,
            grey=source.grey,
            known=found.damage > 0,
            beside=found.hidden > 0 if look else None,
        )
        if not bool((seen > 0).any()):
            return found, look + 1
        # What a mending left of an area's offset adds to what it took away.
        found = replace(found, hidden=found.hidden + seen)
        found = replace(found, noise=_noise_beside(request, source, found, kind))
    return found, most


def _mended(source: TaskInput, found: _Found, run: Run) -> Tensor:
    """The picture without what was found so far, its noise still there; fillings in one step."""
    image = source.image
    hole, hidden = found.damage > 0, found.hidden > 0
    still = torch.where(hole, 0.0, found.noise)
    if bool(hole.any()):
        image = run(Plan(image, found.damage, noise=found.noise, target=still, steps=1))
    if not bool(hidden.any()):
        return image
    told = torch.where(hidden & ~hole, found.told, 0.0)
    return torch.where(told > 0, run(denoise_plan(image, told, 0)), image)


def _levelled(request: RestoreRequest, found: _Found) -> _Found:
    """What was found, one strength for all of it where that was asked for."""
    if strength_word(request.pixel_strengths) != "uniform":
        return found
    one = found.noise.square().mean((2, 3), keepdim=True).sqrt()
    damage = ((found.damage > 0) | (found.hidden > 0)).float()
    return _Found(one, damage, torch.zeros_like(damage))


def _in_part(request: RestoreRequest, source: TaskInput, output: TaskOutput) -> TaskOutput:
    """As much of the change as the user's map lets through."""
    if strength_word(request.pixel_strengths):
        return output
    strength = strength_tensor(request.pixel_strengths, source, invert=request.invert)
    return replace(
        output,
        samples=in_part(source, output.samples, strength),
        mean=None if output.mean is None else in_part(source, output.mean, strength),
        keep=output.keep | (strength == 0),
        map=output.map * strength,
    )


def _noise_at_first(
    request: RestoreRequest, source: TaskInput, run: Run
) -> tuple[Tensor, NoiseKind]:
    """The noise map, and its kind: white alone, where the model does not find a camera's."""
    noise = _noise(request, source, "auto")
    if not is_auto(request.noise_level_8bit) or not bool((noise > 0).any()):
        return noise, "auto"
    white = _noise(request, source, "white")
    if torch.equal(noise, white) or noise_removed(source, noise, run) >= LEAST_REMOVED:
        return noise, "auto"
    return white, "white"


def _noise(
    request: RestoreRequest, source: TaskInput, kind: NoiseKind, ignore: Tensor | None = None
) -> Tensor:
    """The noise map, where estimates below the floor count as none."""
    noise = noise_tensor(request.noise_level_8bit, source, ignore, kind)
    if is_auto(request.noise_level_8bit):
        noise = above_floor(noise)
    return noise


def _noise_beside(
    request: RestoreRequest, source: TaskInput, found: _Found, kind: NoiseKind
) -> Tensor:
    """The noise map again, since damage looks like noise: estimated without it, or continued."""
    damaged = (found.damage > 0) | (found.hidden > 0)
    if not bool(damaged.any()):
        return found.noise
    if is_auto(request.noise_level_8bit):
        return _noise(request, source, kind, ignore=damaged)
    if found.noise.shape == damaged.shape:
        return _continue_into(found.noise, damaged)
    return found.noise


def _damage(request: RestoreRequest, source: TaskInput, noise: Tensor, run: Run) -> Tensor:
    """The damage map (1,1,H,W): nothing in mode "light", found by itself, or as given."""
    if request.mode == "light":
        return torch.zeros(1, 1, *source.size)
    if not is_auto(request.damage):
        return strength_tensor(request.damage, source, invert=False)
    pixels = channels_last_pixels(source)
    level = noise.expand(1, 1, *source.size)[0, 0].contiguous().numpy()
    lines = find_damage(pixels, noise=level, dead_pixels=False, patches=False).tensor()
    others = find_damage(pixels, noise=level, scratches=False, dust=False).tensor()
    sure = confirmed((lines > 0) & (others == 0), source.image, noise, run, grey=source.grey)
    return torch.maximum(sure.float(), others)


def _continue_into(noise: Tensor, hole: Tensor) -> Tensor:
    """Replace what was estimated inside `hole` by the nearest level outside it."""
    inside = hole[0, 0].numpy()
    if not inside.any() or inside.all():
        return noise
    rows, columns = ndimage.distance_transform_edt(
        inside, return_distances=False, return_indices=True
    )
    nearest: Tensor = noise[:, :, torch.from_numpy(rows).long(), torch.from_numpy(columns).long()]
    return nearest


def _notes(found: _Found, looks: int) -> tuple[str, ...]:
    damage, hidden = (
        100 * float((part > 0).float().mean()) for part in (found.damage, found.hidden)
    )
    levels = found.noise * 127.5
    said = f"damage: {damage:.2f} % of the pixels"
    if looks:
        plural = "s" * (looks > 1)
        said += f", and {hidden:.2f} % that the model cannot explain, in {looks} look{plural}"
    return (
        said,
        f"noise: {float(levels.mean()):.1f} of 255 on average, {float(levels.max()):.1f} at most",
    )


TASK = Task(RestoreRequest, restore, "find noise and damage in a photograph and mend both")
