"""The mean of all fillings: against the closed form, and better than interpolation."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import ndimage
from skimage.restoration import inpaint_biharmonic
from typer.testing import CliRunner

import differential_diffusion as dd
from differential_diffusion.cli import app
from differential_diffusion.core.oracle import Gaussian
from differential_diffusion.core.plan import Plan
from differential_diffusion.data.images import load_images
from differential_diffusion.engine import run_plan
from differential_diffusion.models import DenoiserModel, load_model
from differential_diffusion.schema import InpaintRequest, build
from differential_diffusion.tasks import TASKS, TaskInput, filling


def smooth_pictures(side: int) -> Gaussian:
    """A Gaussian prior whose pixels agree with their neighbours."""
    row, column = torch.meshgrid(*2 * [torch.arange(side, dtype=torch.float64)], indexing="ij")
    place = torch.stack([row.flatten(), column.flatten()], 1)
    near = torch.exp(-torch.cdist(place, place) / 4)
    covariance = 0.25 * torch.kron(torch.eye(3, dtype=torch.float64), near)
    return Gaussian(torch.zeros(3, side, side, dtype=torch.float64), covariance)


def test_it_nears_the_conditional_mean_of_a_gaussian() -> None:
    oracle = smooth_pictures(8)
    white = torch.randn(192, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    truth = (torch.linalg.cholesky(oracle.covariance) @ white).view(1, 3, 8, 8)
    hole = torch.rand(8, 8, generator=torch.Generator().manual_seed(1)) < 0.5
    exact = oracle.conditional(truth, ~hole[None, None]).mean
    prior = load_model("prior")
    assert isinstance(prior, DenoiserModel)
    model = replace(prior, denoiser=oracle, halo=None, stride=1)
    errors = []
    for passes in (3, 300):
        request = build(
            InpaintRequest, image="x", mask=hole.numpy(), estimate="mean", passes=passes
        )
        given = TaskInput(torch.where(hole, 0.0, truth).float())
        output = TASKS["inpaint"].perform(request, given, partial(run_plan, model=model))
        assert torch.equal(output.keep[0, 0], ~hole)
        errors.append(float((output.samples - exact)[:, :, hole].square().mean().sqrt()))
    assert errors[1] < 0.02 < errors[0]


def test_every_pixel_is_told_the_truth() -> None:
    mask = np.zeros((12, 16), np.float32)
    mask[3:6, 4:9], mask[8, 8] = 1, 0.1
    plans: list[Plan] = []

    def run(plan: Plan) -> torch.Tensor:
        plans.append(plan)
        return plan.image + len(plans)

    image = torch.rand(1, 3, 12, 16)
    request = build(
        InpaintRequest, image="x", mask=mask, estimate="mean", passes=5, noise_level_8bit=12.75
    )
    output = TASKS["inpaint"].perform(request, TaskInput(image), run)
    assert len(plans) == 5
    for plan in plans:
        assert torch.equal(plan.strength[0, 0] > 0, torch.from_numpy(mask == np.float32(0.1)))
        assert float(plan.strength.max()) == pytest.approx(0.1)  # noise for the soft pixel alone
        assert not plan.target[0, 0][mask > 0].any()
        assert bool((plan.noise[0, 0][mask < 1] == 0.1).all())  # the truth about the rest,
        assert bool((plan.target[0, 0][mask == 0] == 0.1).all())  # which keeps its noise
        assert torch.equal(plan.image[:, :, mask < 1], image[:, :, mask < 1])
    assert len({plan.seeds for plan in plans}) == 5
    levels = [float(plan.noise[0, 0, 4, 5]) * 127.5 for plan in plans]
    assert levels == pytest.approx(list(20 * (1 / 20) ** np.linspace(0, 1, 5)), rel=1e-5)
    soft = output.samples[:, :, 8, 8]  # of all passes the mean
    torch.testing.assert_close(soft, image[:, :, 8, 8] + 3)


def test_a_model_that_draws_samples_alone_gives_their_mean() -> None:
    def run(plan: Plan) -> torch.Tensor:
        assert plan.strength.any()
        return torch.stack([torch.full(plan.image.shape[1:], 0.1 * s) for s in plan.seeds])

    request = build(InpaintRequest, image="x", mask=np.ones((4, 4)), estimate="mean", samples=3)
    given = TaskInput(torch.zeros(1, 3, 4, 4), denoises=False)
    output = TASKS["inpaint"].perform(request, given, run)
    assert output.mean is None
    assert len(output.samples) == 3


def test_half_of_the_pixels_by_a_decibel_better_than_biharmonic(shared_data: Path) -> None:
    gains = []
    for index in (3, 8, 30, 42):
        photo = load_images(shared_data / "cbsd68.tar").images[index].pixels[60:156, 60:156]
        hole = np.random.default_rng(0).random((96, 96)) < 0.5
        blank = np.where(hole[..., None], 0, photo).astype(np.uint8)
        peer = inpaint_biharmonic(blank / 255, hole, channel_axis=-1) * 255
        result = dd.inpaint(blank, hole, estimate="mean")
        assert (result.image[~hole] == photo[~hole]).all()
        error = [
            np.square(x[hole] - photo[hole].astype(float)).mean() for x in (peer, result.image)
        ]
        gains.append(10 * np.log10(error[0] / error[1]))
    assert np.mean(gains) > 1


def test_the_command_and_grey_pictures(tmp_path: Path) -> None:
    ramp = np.linspace(40, 200, 24)[None].repeat(20, 0).astype(np.uint8)
    hole = np.zeros((20, 24), np.uint8)
    hole[6:9, 5:12] = 255
    Image.fromarray(np.where(hole, 0, ramp).astype(np.uint8)).save(tmp_path / "a.png")
    Image.fromarray(hole).save(tmp_path / "hole.png")
    command = ["inpaint", str(tmp_path / "a.png"), "-m", str(tmp_path / "hole.png"), "--json"]
    command += ["--estimate", "mean", "--passes", "6", "-o", str(tmp_path / "b.png")]
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 0, done.stderr
    assert json.loads(done.stdout)["evaluations"] == 6
    with Image.open(tmp_path / "b.png") as made:
        assert made.mode == "L"
        pixels = np.asarray(made).astype(int)
    assert np.abs(pixels - ramp.astype(int)).max() <= 6
    assert (pixels[hole == 0] == ramp[hole == 0]).all()


def test_a_surface_in_parts_is_that_of_the_whole() -> None:
    rng = np.random.default_rng(2)
    pixels = np.tanh(ndimage.gaussian_filter(rng.normal(0, 6, (70, 90, 3)), (4, 4, 0)))
    pixels = pixels.astype(np.float32)
    hole = rng.random((70, 90)) < 0.6
    whole = filling._surface(pixels, hole)
    expected = inpaint_biharmonic((pixels + 1) / 2 * ~hole[..., None], hole, channel_axis=-1)
    np.testing.assert_allclose(whole[hole], expected[hole] * 2 - 1, atol=1e-5)
    parts = filling._surface(pixels, hole, tile=32)
    assert (parts[~hole] == pixels[~hole]).all()
    # scikit-image keeps to the range of the values around, which are those of a part.
    np.testing.assert_allclose(parts, whole, atol=0.05)
    assert np.mean(np.abs(parts - whole) > 1e-4) < 0.01


def test_wide_holes_begin_with_the_models_guess_and_thin_ones_do_without() -> None:
    plans: list[Plan] = []

    def run(plan: Plan) -> torch.Tensor:
        plans.append(plan)
        return torch.where(plan.noise > 1, 0.7, plan.image)

    image, strength = torch.zeros(1, 3, 30, 40), torch.zeros(1, 1, 30, 40)
    strength[..., 3:7, 2:35] = 1
    noise = torch.full((1, 1, 1, 1), 0.1)
    filling.mean_filling(image, strength, noise, run, 2)
    assert len(plans) == 2  # no pixel lies farther than two from what is known
    strength[..., 10:22, 10:30] = 1
    filling.mean_filling(image, strength, noise, run, 1)
    guess, first = plans[2:]
    assert guess.steps == 1
    assert not guess.strength.any()  # nothing is drawn
    assert bool((guess.noise[strength > 0] == 20).all())
    assert bool((guess.noise[strength == 0] == 0.1).all())  # noise of known pixels is told,
    assert bool((guess.target[strength == 0] == 0.1).all())  # and stays
    assert bool((first.image[..., 14:18, 14:26] == 0.7).all())  # four pixels from the border on
    assert not first.image[..., 11, 10:30].any()
    assert not first.image[..., 3:7, 2:35].any()


@pytest.mark.parametrize("estimate", ["mean", "sample"])
@pytest.mark.parametrize("task", ["inpaint", "restore"])
def test_what_lies_under_a_hole_does_not_count(task: str, estimate: Any) -> None:
    rng = np.random.default_rng(1)
    pixels = ndimage.gaussian_filter(rng.normal(0, 400, (72, 80, 3)), (3, 3, 0)) + 120
    hole = np.zeros((72, 80), np.float32)
    hole[6:66, 8:70], hole[2, 3] = 1, 1
    made = []
    for under in (0, 255):
        blank = np.where(hole[..., None] > 0, under, pixels).clip(0, 255).astype(np.uint8)
        settings: dict[str, Any] = {"estimate": estimate, "steps": 3, "seed": 4}
        if task == "inpaint":
            result = dd.inpaint(blank, hole, **settings)
        else:
            result = dd.restore(blank, damage=hole, noise_level_8bit=0, **settings)
        made.append(result.image)
    np.testing.assert_array_equal(*made)


def test_the_mean_does_not_depend_on_the_seed() -> None:
    picture = ndimage.gaussian_filter(np.random.default_rng(1).random((40, 40, 3)), (2, 2, 0))
    hole = np.zeros((40, 40), np.float32)
    hole[5:35, 5:30] = 1
    one, other = (
        dd.inpaint(picture, hole, estimate="mean", seed=seed, passes=2).image for seed in (0, 1)
    )
    np.testing.assert_array_equal(one, other)


def test_soft_masks_give_the_mean_of_what_samples_give() -> None:
    """Of a Gaussian, where both are known: no strength is read as all or nothing."""
    oracle = smooth_pictures(6)
    prior = load_model("prior")
    assert isinstance(prior, DenoiserModel)
    model = replace(prior, denoiser=oracle, halo=None, stride=1)
    white = torch.randn(108, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    truth = (torch.linalg.cholesky(oracle.covariance) @ white).view(1, 3, 6, 6)
    for strength in (0.3, 0.5, 0.7):
        mask = np.zeros((6, 6), np.float32)
        mask[:, 3:] = strength
        sigma = torch.where(torch.from_numpy(mask) > 0, prior.sigma(torch.tensor(strength)), 0.0)
        # E over the noise that is added: a denoiser that is linear has it at none.
        exact = oracle(truth, sigma[None, None].double())
        request = build(InpaintRequest, image="x", mask=mask, estimate="mean", passes=400)
        output = TASKS["inpaint"].perform(
            request, TaskInput(truth.float()), partial(run_plan, model=model)
        )
        error = (output.samples - exact)[..., 3:].square().mean().sqrt()
        assert float(error) < 0.06, strength


def test_soft_rims_of_noisy_pictures_end_clean() -> None:
    """Pixels between kept and replaced carry the picture's noise, and may change: it goes."""
    rng = np.random.default_rng(0)
    clean = np.repeat(np.linspace(80, 170, 64)[:, None], 64, 1)[..., None].repeat(3, 2)
    noisy = (clean + rng.normal(0, 25, clean.shape)).clip(0, 255).astype(np.uint8)
    mask = np.repeat(np.clip(np.linspace(-0.5, 1.5, 64), 0, 1)[None], 64, 0)
    rim = (mask > 0.02) & (mask < 0.5)
    made = dd.inpaint(noisy, mask, noise_level_8bit=25, estimate="mean").image
    assert np.square(made[rim] - clean[rim]).mean() ** 0.5 < 8
    made = dd.restore(noisy, damage=mask, noise_level_8bit=25).image
    assert np.square(made[rim] - clean[rim]).mean() ** 0.5 < 8
