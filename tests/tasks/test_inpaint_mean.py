"""The mean of all fillings: against the closed form, and better than interpolation."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import partial
from pathlib import Path

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


def test_no_pixel_is_told_more_noise_than_its_strength_stands_for() -> None:
    mask = np.zeros((12, 16), np.float32)
    mask[3:6, 4:9], mask[8, 8] = 1, 0.1
    plans: list[Plan] = []

    def run(plan: Plan) -> torch.Tensor:
        plans.append(plan)
        return plan.image

    image = torch.rand(1, 3, 12, 16)
    request = build(
        InpaintRequest, image="x", mask=mask, estimate="mean", passes=5, noise_level_8bit=12.75
    )
    TASKS["inpaint"].perform(request, TaskInput(image), run)
    assert len(plans) == 5
    soft = load_model("prior").sigma(torch.tensor(0.1))
    for plan in plans:
        assert not plan.strength.any()  # nothing is added
        assert float(plan.noise[0, 0, 8, 8]) <= float(soft)
        assert float(plan.target[0, 0, 4, 5]) == 0
        assert bool((plan.noise[0, 0][mask == 0] == 0.1).all())  # the truth about the rest,
        assert bool((plan.target[0, 0][mask == 0] == 0.1).all())  # which keeps its noise
        assert torch.equal(plan.image[:, :, 8, 8], image[:, :, 8, 8])  # no surface there
    assert float(plans[0].noise[0, 0, 8, 8]) == pytest.approx(float(soft))
    levels = [float(plan.noise[0, 0, 4, 5]) * 127.5 for plan in plans]
    assert levels == pytest.approx(list(20 * (1 / 20) ** np.linspace(0, 1, 5)), rel=1e-5)


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


def test_a_surface_in_parts_is_that_of_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(2)
    pixels = np.tanh(ndimage.gaussian_filter(rng.normal(0, 6, (70, 90, 3)), (4, 4, 0)))
    pixels = pixels.astype(np.float32)
    hole = rng.random((70, 90)) < 0.6
    whole = filling._surface(pixels, hole)
    expected = inpaint_biharmonic((pixels + 1) / 2 * ~hole[..., None], hole, channel_axis=-1)
    np.testing.assert_allclose(whole[hole], expected[hole] * 2 - 1, atol=1e-5)
    monkeypatch.setattr(filling, "_TILE", 32)
    parts = filling._surface(pixels, hole)
    assert (parts[~hole] == pixels[~hole]).all()
    # scikit-image keeps to the range of the values around, which are those of a part.
    np.testing.assert_allclose(parts, whole, atol=0.05)
    assert np.mean(np.abs(parts - whole) > 1e-4) < 0.01


def test_wide_holes_begin_with_the_models_guess_and_thin_ones_do_without() -> None:
    plans: list[Plan] = []

    def run(plan: Plan) -> torch.Tensor:
        plans.append(plan)
        return torch.where(plan.strength > 0, 0.7, plan.image)

    image, strength = torch.zeros(1, 3, 30, 40), torch.zeros(1, 1, 30, 40)
    strength[..., 3:7, 2:35] = 1
    noise = torch.full((1, 1, 1, 1), 0.1)
    filling.mean_filling(image, strength, noise, run, 2)
    assert len(plans) == 2  # no pixel lies farther than two from what is known
    strength[..., 10:22, 10:30] = 1
    filling.mean_filling(image, strength, noise, run, 1)
    guess, first = plans[2:]
    assert guess.steps == 1
    assert torch.equal(guess.strength, strength)
    assert bool((guess.noise.expand_as(strength)[strength == 0] == 0.1).all())
    assert bool((guess.target[strength == 0] == 0.1).all())  # noise of known pixels is told
    assert bool((first.image[..., 14:18, 14:26] == 0.7).all())  # four pixels from the border on
    assert not first.image[..., 11, 10:30].any()
    assert not first.image[..., 3:7, 2:35].any()
