"""Restoration: find noise and damage, then mend both."""

from __future__ import annotations

import torch
from scipy import ndimage
from torch import Tensor

from ..core.plan import Plan, Run
from ..maps.damage import find_damage
from ..schema import RestoreRequest, is_auto
from .base import (
    Task,
    TaskInput,
    TaskOutput,
    channels_last_pixels,
    denoise_plan,
    draw,
    noise_tensor,
    plan_options,
    strength_tensor,
)

NOISE_FLOOR_8BIT = 1.5
"""Estimated noise below this is taken for none, so that clean areas stay as they are."""


def restore(request: RestoreRequest, source: TaskInput, run: Run) -> TaskOutput:
    """Two passes: fill the damage beside pixels told as noisy as they are, then denoise.

    The second pass takes the posterior mean, which has the least error; the filling of the
    first is a sample, which looks like the picture.
    """
    noise = _noise(request, source)
    damage = _damage(request, source, noise)
    if bool((damage > 0).any()):
        # Damage looks like noise: estimate again without it, or continue a given map into it.
        if is_auto(request.noise_level_8bit):
            noise = _noise(request, source, ignore=damage > 0)
        elif noise.shape == damage.shape:
            noise = _continue_into(noise, damage > 0)

    def fill_and_denoise(plan: Plan) -> Tensor:
        """Samples of the filling, each then denoised where its noise is still."""
        filled = run(plan) if bool((plan.strength > 0).any()) else plan.image
        return run(denoise_plan(filled, plan.target, plan.seeds[0]))

    def plan(image: Tensor, told: Tensor) -> Plan:
        still = torch.where(damage > 0, 0.0, told)
        return Plan(image, damage, noise=told, target=still, **plan_options(request))

    samples = draw(request, source, noise, plan, fill_and_denoise, one_by_one=True)
    still = (noise > 0) & (damage == 0)
    keep = (damage == 0) & ~still
    touched = torch.maximum(damage, still.float())
    spread = not bool(still.any())  # the second pass takes a mean
    return TaskOutput(samples, keep, touched, noise, damage, _notes(damage, noise), spread)


def _noise(request: RestoreRequest, source: TaskInput, ignore: Tensor | None = None) -> Tensor:
    """The noise map, where estimates below the floor count as none."""
    noise = noise_tensor(request.noise_level_8bit, source, ignore)
    if is_auto(request.noise_level_8bit):
        noise = torch.where(noise < NOISE_FLOOR_8BIT / 127.5, 0.0, noise)
    return noise


def _damage(request: RestoreRequest, source: TaskInput, noise: Tensor) -> Tensor:
    """The damage map (1,1,H,W): nothing in mode "light", found by itself, or as given."""
    if request.mode == "light":
        return torch.zeros(1, 1, *source.size)
    if not is_auto(request.damage):
        return strength_tensor(request.damage, source, invert=False)
    pixels = channels_last_pixels(source)
    level = noise.expand(1, 1, *source.size)[0, 0].contiguous().numpy()
    return find_damage(pixels, noise=level).tensor()


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


def _notes(damage: Tensor, noise: Tensor) -> tuple[str, ...]:
    share = 100 * float((damage > 0).float().mean())
    levels = noise * 127.5
    return (
        f"damage: {share:.2f} % of the pixels",
        f"noise: {float(levels.mean()):.1f} of 255 on average, {float(levels.max()):.1f} at most",
    )


TASK = Task(RestoreRequest, restore, "find noise and damage in a photograph and mend both")
