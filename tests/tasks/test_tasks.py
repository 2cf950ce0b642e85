"""Tasks with a scripted model: which plans they make, and what they make of the samples."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from differential_diffusion.core import SOLVERS, sample, wait
from differential_diffusion.core.plan import Plan
from differential_diffusion.errors import InputError
from differential_diffusion.schema import (
    DenoiseRequest,
    EditRequest,
    InpaintRequest,
    RestoreRequest,
    build,
)
from differential_diffusion.tasks import TASKS, TaskInput, TaskOutput


class Script:
    """Records plans and answers each with the image plus the number of the plan."""

    def __init__(self) -> None:
        self.plans: list[Plan] = []

    def __call__(self, plan: Plan) -> Tensor:
        self.plans.append(plan)
        shift = 0.01 * len(self.plans)
        return torch.cat([plan.image + shift + 0.001 * (seed % 10) for seed in plan.seeds])


def source(*, grey: bool = False, size: tuple[int, int] = (24, 40)) -> TaskInput:
    rng = torch.Generator().manual_seed(0)
    channels = 1 if grey else 3
    x = torch.rand(1, channels, *size, generator=rng) - 0.5
    return TaskInput(x.expand(1, 3, *size).contiguous(), grey)


def perform(request: Any, given: TaskInput) -> tuple[TaskOutput, list[Plan]]:
    script = Script()
    return TASKS[request.task].perform(request, given, script), script.plans


def test_edit_is_one_plan_with_the_map_as_given() -> None:
    strength = np.linspace(0, 1, 24 * 40, dtype=np.float32).reshape(24, 40)
    request = build(EditRequest, image="x", strength=strength, seed=4, samples=2, steps=7)
    output, (plan,) = perform(request, source())
    assert torch.equal(plan.strength[0, 0], torch.from_numpy(strength))
    assert plan.seeds == (4, 5)
    assert plan.steps == 7
    assert not plan.noise.any()
    assert torch.equal(output.keep, plan.strength == 0)
    inverted = build(EditRequest, image="x", strength=strength, invert=True)
    _, (plan,) = perform(inverted, source())
    torch.testing.assert_close(plan.strength[0, 0], torch.from_numpy(1 - strength))


def test_inpaint_tells_the_truth_about_known_pixels() -> None:
    mask = np.zeros((24, 40), dtype=np.float32)
    mask[4:9, 6:20] = 1
    mask[15, 15] = 0.3
    request = build(InpaintRequest, image="x", mask=mask, noise_level_8bit=12.75)
    output, (plan,) = perform(request, source())
    known = torch.from_numpy(mask == 0)[None, None]
    assert bool((plan.noise == 0.1).all())  # the truth, also where the mask is soft
    assert bool((plan.target[known] == 0.1).all())  # known noise stays
    assert not plan.target[~known].any()  # the filling ends clean
    assert torch.equal(plan.strength[0, 0], torch.from_numpy(mask))  # soft, not thresholded
    assert torch.equal(output.keep, known)


def test_denoise_is_one_evaluation_of_the_posterior_mean() -> None:
    output, (plan,) = perform(build(DenoiseRequest, image="x", noise_level_8bit=25), source())
    assert plan.steps == 1
    assert plan.path == "together"
    assert not plan.strength.any()
    assert float(plan.noise) == pytest.approx(25 / 127.5)
    assert not plan.target.any()
    assert not output.keep.any()


def test_settings_that_the_posterior_mean_has_no_use_for_are_named() -> None:
    given = {"image": "x", "noise_level_8bit": 20}
    plain, _ = perform(build(DenoiseRequest, **given), source())
    assert plain.notes == ()
    told, plans = perform(build(DenoiseRequest, **given, steps=50, solver="heun"), source())
    assert len(plans) == 1
    assert "one evaluation: steps and solver went unused" in told.notes[0]


def test_denoise_draws_posterior_samples_with_posterior_solvers_only() -> None:
    request = build(DenoiseRequest, image="x", noise_level_8bit=25, samples=3)
    output, (plan,) = perform(request, source())
    assert plan.seeds == (0, 1, 2)
    assert SOLVERS[plan.solver]().law == "posterior"
    assert len(output.samples) == 3
    request = build(DenoiseRequest, image="x", noise_level_8bit=25, samples=3, solver="heun")
    with pytest.raises(InputError, match="does not sample the posterior"):
        perform(request, source())


def test_default_steps_are_enough_for_the_posterior_variance() -> None:
    # A white Gaussian prior of variance v: the posterior's is v σ²/(v + σ²) at every pixel.
    v, request = 0.05, build(DenoiseRequest, image="x", noise_level_8bit=25, samples=2)
    for sigma in (0.1, 0.2, 0.5):
        x, rng = torch.zeros(1, 1, 300, 300), torch.Generator().manual_seed(0)
        path = wait(torch.full((1, 1, 1, 1), sigma), steps=request.steps)
        out = sample(
            lambda x, s: v / (v + s * s) * x,
            x,
            path,
            SOLVERS[request.solver](),
            lambda k, x=x, rng=rng: torch.randn(x.shape, generator=rng),
        )
        assert float(out.var()) == pytest.approx(v * sigma**2 / (v + sigma**2), rel=0.02)


def test_denoise_by_map_keeps_what_has_no_noise() -> None:
    level = np.zeros((24, 40))
    level[:, 20:] = 30
    request = build(DenoiseRequest, image="x", noise_level_8bit=level)
    output, (plan,) = perform(request, source())
    assert bool(output.keep[..., :20].all())
    assert not bool(output.keep[..., 20:].any())
    assert torch.equal(plan.noise[0, 0], torch.from_numpy(level / 127.5).float())


def test_grey_is_made_white_in_the_colour_cube() -> None:
    # √3 σ along the grey axis needs √3 σ across it: the covariance of what the model sees,
    # with the picture's own noise simulated, is 3 σ² times the identity.
    sigma, size = 0.1, (200, 200)
    clean = torch.zeros(1, 3, *size)
    noise = sigma * torch.randn(1, 1, *size, generator=torch.Generator().manual_seed(1))
    request = build(DenoiseRequest, image="x", noise_level_8bit=127.5 * sigma)
    _, (plan,) = perform(request, TaskInput(clean + noise, grey=True))
    assert float(plan.noise) == pytest.approx(math.sqrt(3) * sigma)
    covariance = torch.cov(plan.image[0].flatten(1))
    torch.testing.assert_close(covariance, 3 * sigma**2 * torch.eye(3), rtol=0, atol=0.0006)
    torch.testing.assert_close(plan.image.mean(1), noise[0], rtol=0, atol=1e-6)


def test_restore_fills_first_and_denoises_second() -> None:
    damage = np.zeros((24, 40), dtype=np.float32)
    damage[10:14, 10:30] = 1
    given = {"image": "x", "noise_level_8bit": 20, "damage": damage, "seed": 3}
    request = build(RestoreRequest, **given, estimate="sample")
    output, (fill, denoise) = perform(request, source())
    hole = torch.from_numpy(damage > 0)[None, None]
    level = torch.tensor(20 / 127.5)
    assert bool((fill.noise == level).all())
    torch.testing.assert_close(fill.target, torch.where(hole, 0.0, level))
    assert torch.equal(fill.strength > 0, hole)
    assert denoise.steps == 1
    torch.testing.assert_close(denoise.noise, torch.where(hole, 0.0, level))
    torch.testing.assert_close(denoise.image, fill.image + 0.01 + 0.003)
    assert not output.keep.any()


def test_restore_fills_with_the_mean_and_wide_damage_with_a_sample() -> None:
    damage = np.zeros((40, 60), dtype=np.float32)
    damage[5:8, 5:30] = 1
    request = build(RestoreRequest, image="x", noise_level_8bit=20, damage=damage, seed=3)
    given = TaskInput(torch.rand(1, 3, 40, 60))
    output, plans = perform(request, given)
    assert output.mean is not None
    assert not any(plan.strength.any() for plan in plans)  # nothing is drawn
    level, hole = torch.tensor(20 / 127.5), torch.from_numpy(damage > 0)[None, None]
    told = [float(plan.noise[hole].max()) * 127.5 for plan in plans[:-1]]
    assert told == pytest.approx(sorted(told, reverse=True))
    assert told[0] == pytest.approx(20)
    assert all(bool((plan.noise[~hole] == level).all()) for plan in plans)
    torch.testing.assert_close(plans[-1].noise, torch.where(hole, 0.0, level))
    damage[10:30, 10:40] = 1  # too wide for a mean
    request = build(RestoreRequest, image="x", noise_level_8bit=20, damage=damage, seed=3)
    _, (guess, *fillings, sample, denoise) = perform(request, given)
    broad = torch.zeros(1, 1, 40, 60, dtype=torch.bool)
    broad[..., 10:30, 10:40] = True
    inner = torch.zeros_like(broad)
    inner[..., 14:26, 14:36] = True
    # Far inside, the model's own guess; then the mean of all, and of wide damage a sample from it.
    assert guess.steps == 1
    assert bool((guess.noise[inner] == 20).all())
    made = guess.image[:, :, 20, 25] + 0.01  # by `Script`
    torch.testing.assert_close(fillings[0].image[:, :, 20, 25], made, atol=0.01, rtol=0)
    assert not any(plan.strength.any() for plan in (guess, *fillings, sample))
    assert bool((sample.noise[broad] == 1).all())
    assert not sample.noise[hole & ~broad].any()
    begun = (sample.image - fillings[-1].image)[:, :, broad[0, 0]]
    assert float(begun.std()) == pytest.approx(1, abs=0.1)  # its noise is drawn
    torch.testing.assert_close(
        denoise.image[:, :, 20, 25], sample.image[:, :, 20, 25], atol=0.2, rtol=0
    )
    assert torch.equal(denoise.image[:, :, 6, 20], sample.image[:, :, 6, 20])


def test_restore_light_looks_for_no_damage_and_noise_free_is_kept() -> None:
    request = build(RestoreRequest, image="x", noise_level_8bit=0, mode="light")
    output, plans = perform(request, source())
    assert len(plans) == 1
    assert bool(output.keep.all())


def test_restore_takes_the_noise_inside_holes_from_around_them() -> None:
    level = np.full((24, 40), 10.0)
    damage = np.zeros((24, 40), dtype=np.float32)
    damage[5:15, 5:15] = 1
    level[5:15, 5:15] = 200  # what an estimator makes of a scratch
    request = build(RestoreRequest, image="x", noise_level_8bit=level, damage=damage)
    output, _ = perform(request, source())
    assert output.noise is not None
    assert float(output.noise.max()) == pytest.approx(10 / 127.5)


def test_noise_levels_from_a_file_are_its_grey_levels(tmp_path: Path) -> None:
    level = np.arange(24 * 40, dtype=np.uint8).reshape(24, 40)
    Image.fromarray(level).save(tmp_path / "level.png")
    request = build(DenoiseRequest, image="x", noise_level_8bit=str(tmp_path / "level.png"))
    _, (plan,) = perform(request, source())
    torch.testing.assert_close(plan.noise[0, 0] * 127.5, torch.from_numpy(level).float())


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (-1, "must be finite and not negative"),
        (float("nan"), "must be finite"),
        (300, "0-255 scale"),
        ("loud", "is 'loud'"),
        (np.zeros((3, 3)), "has the shape"),
        (np.zeros((24, 40, 3)), "has the shape"),
        ({}, "is a dict"),
    ],
)
def test_bad_noise_levels_are_named(value: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        perform(build(DenoiseRequest, image="x", noise_level_8bit=value), source())
