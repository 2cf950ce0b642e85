"""Upscaling: what comes out is, made small again, what went in, and better than interpolation."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from typer.testing import CliRunner

import differential_diffusion as dd
from differential_diffusion.cli import app
from differential_diffusion.core.operators import BlockAverage, LinearOperator, bicubic
from differential_diffusion.data.images import load_images
from differential_diffusion.errors import InputError

from ..pipelines import FAMILIES


def shrinking(kernel: str, height: int, width: int, factor: int) -> LinearOperator:
    return bicubic(height, width, factor) if kernel == "bicubic" else BlockAverage(factor)


def waves(height: int, width: int) -> Tensor:
    row, column = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    picture = torch.stack([(row / 3).sin(), (column / 4).cos(), ((row + column) / 5).sin()])
    return 0.4 * picture + 0.5


@pytest.mark.parametrize("kernel", ["bicubic", "average"])
@pytest.mark.parametrize("factor", [2, 3, 4, 8])
def test_made_small_again_it_is_what_was_given(kernel: Any, factor: Any) -> None:
    small = waves(18, 25)
    large = dd.upscale(small, factor, kernel=kernel, seed=2).image
    assert large.shape == (3, 18 * factor, 25 * factor)
    again = shrinking(kernel, *large.shape[1:], factor).forward(large[None])[0]
    assert float((again - small).square().mean().sqrt()) < 0.5 / 255


@pytest.mark.parametrize("guidance", ["diffpir", "ddnm", "pigdm"])
def test_samples_are_held_by_any_guidance(guidance: Any) -> None:
    small = waves(9, 12)
    large = dd.upscale(small, 2, estimate="sample", guidance=guidance, steps=8).image
    again = bicubic(18, 24, 2).forward(large[None])[0]
    assert float((again - small).square().mean().sqrt()) < 1 / 255
    others = {"diffpir": "ddnm", "ddnm": "pigdm", "pigdm": "diffpir"}[guidance]
    other = dd.upscale(small, 2, estimate="sample", guidance=others, steps=8).image  # type: ignore
    assert not torch.equal(large, other)


def test_samples_are_held_though_values_end() -> None:
    """Black and white: what a sample has beyond them is cut off, and must be made up for."""
    small = (torch.rand(3, 12, 16, generator=torch.Generator().manual_seed(0)) > 0.5).float()
    large = dd.upscale(small, 2, kernel="average", estimate="sample", steps=4).image
    assert float(large.min()) >= 0
    assert float(large.max()) <= 1
    again = BlockAverage(2).forward(large[None])[0]
    assert float((again - small).square().mean().sqrt()) < 0.5 / 255


def test_what_belongs_to_the_picture_grows_with_it(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (20, 30, 4), dtype=np.uint8)
    pixels[:10, :, 3], pixels[10:, :, 3] = 255, 0
    Image.fromarray(pixels).save(tmp_path / "small.png", dpi=(72, 72), pnginfo=None)
    dd.upscale(tmp_path / "small.png", 2, steps=1).save(tmp_path / "large.png")
    with Image.open(tmp_path / "large.png") as made:
        assert made.size == (60, 40)
        assert made.mode == "RGBA"
        assert made.info["dpi"] == pytest.approx((144, 144), abs=0.1)
        alpha = np.asarray(made)[..., 3]
    assert (alpha[:18] == 255).all()
    assert (alpha[22:] == 0).all()


def test_grey_stays_grey_and_16_bits_stay() -> None:
    grey = (waves(16, 20)[0].numpy() * 65535).astype(np.uint16)
    made = dd.upscale(grey, 2, steps=2).image
    assert made.dtype == np.uint16
    assert made.shape == (32, 40)


def test_samples_differ_where_the_small_picture_says_nothing() -> None:
    result = dd.upscale(waves(16, 20), 4, samples=3, steps=4)
    assert result.std is not None
    assert result.std.shape == (64, 80)
    assert result.std.mean() > 0.1
    shrink = bicubic(64, 80, 4)
    for sample in result.images:
        again = shrink.forward(sample[None])[0]
        assert float((again - waves(16, 20)).square().mean().sqrt()) < 0.5 / 255


def test_a_pipeline_cannot_be_held_to_a_measurement() -> None:
    with pytest.raises(InputError, match="edits, inpaints and generates: for upscale use"):
        dd.upscale(waves(16, 16), 2, model=FAMILIES["sd1"]())


@pytest.mark.slow
@pytest.mark.parametrize(("factor", "least"), [(2, 1.2), (3, 0.9), (4, 0.7)])
def test_photographs_are_nearer_to_the_truth_than_by_interpolation(
    shared_data: Path, factor: Any, least: float
) -> None:
    gains = []
    for index in (10, 30, 50):
        pixels = sorted(load_images(shared_data / "cbsd68.tar").images)[index].pixels[:240, :240]
        truth = torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None] / 255
        small = bicubic(240, 240, factor).forward(truth).clamp(0, 1)
        levels = (255 * small[0]).round().byte().permute(1, 2, 0).numpy()
        side = 240 // factor * factor
        size = (side, side)
        plain = Image.fromarray(levels).resize(size, Image.Resampling.BICUBIC)
        made = dd.upscale(levels, factor).image
        gains.append(psnr(made, pixels) - psnr(np.asarray(plain), pixels))
    assert np.mean(gains) > least, gains


def psnr(made: np.ndarray, truth: np.ndarray) -> float:
    error = float(((made.astype(float) - truth) ** 2).mean())
    return 10 * math.log10(255**2 / error)


def test_noise_may_be_a_map() -> None:
    small = waves(12, 16)
    level = np.zeros((12, 16), np.float32)
    level[:, 8:] = 12
    noisy = small + torch.from_numpy(level) / 255 * torch.randn(
        small.shape, generator=torch.Generator().manual_seed(1)
    )
    noisy = noisy.clamp(0, 1)
    made = dd.upscale(noisy, 2, kernel="average", noise_level_8bit=level, passes=4).image
    again = BlockAverage(2).forward(made[None])[0] - noisy
    assert float(again[..., :8].square().mean().sqrt()) < 1 / 255  # it is repeated where clean
    assert float(again[..., 8:].square().mean().sqrt()) > 4 / 255
    number, even = (
        dd.upscale(small, 2, noise_level_8bit=noise, passes=3).image
        for noise in (12, np.full((12, 16), 12, np.float32))
    )
    torch.testing.assert_close(number, even, atol=1e-3, rtol=0)  # in closed form, and by gradients
    with pytest.raises(InputError, match="12x16"):
        dd.upscale(small, 2, noise_level_8bit=np.zeros((24, 32)))


def test_samples_are_held_where_there_is_no_noise() -> None:
    """Though values end, and some of the others are noisy."""
    rng = np.random.default_rng(0)
    truth = torch.from_numpy(rng.random((3, 24, 32)) > 0.5).float()
    small = BlockAverage(2).forward(truth[None])[0]
    level = np.zeros((12, 16), np.float32)
    level[:, :4] = 20
    made = dd.upscale(
        small, 2, kernel="average", noise_level_8bit=level, estimate="sample", steps=4
    ).image
    again = BlockAverage(2).forward(made[None])[0] - small
    assert float(again[..., 4:].square().mean().sqrt()) < 0.5 / 255
    assert float(again[..., :4].square().mean().sqrt()) > 2 / 255


def test_noise_of_a_raw_picture_is_not_guessed() -> None:
    raw = waves(12, 16)[0].numpy()
    with pytest.raises(InputError, match="give a number or a map"):
        dd.demosaic(raw, noise_level_8bit="auto")
    number, level = (
        dd.demosaic(raw, noise_level_8bit=noise, passes=3).image
        for noise in (6, np.full((12, 16), 6, np.float32))
    )
    np.testing.assert_allclose(number, level, atol=1e-6)


def test_settings_that_go_unused_are_named() -> None:
    small = waves(8, 8)
    noted = dd.upscale(small, 2, passes=2, steps=9, guidance="ddnm").notes
    assert "the mean takes passes: steps and guidance went unused" in noted[0]
    assert dd.upscale(small, 2, passes=2).notes == ()
    noted = dd.upscale(small, 2, estimate="sample", steps=2, passes=3).notes
    assert "a sample takes steps: passes went unused" in noted[0]
    mask = np.zeros((8, 8))
    mask[3:5, 3:5] = 1
    assert "steps went unused" in dd.inpaint(small, mask, estimate="mean", steps=9).notes[0]
    assert "passes went unused" in dd.inpaint(small, mask, steps=2, passes=9).notes[0]
    noted = dd.colorize(small[0].numpy(), steps=9).notes
    assert any("without the model: steps went unused" in note for note in noted)
    noted = dd.deblur(small, sigma=1.0, passes=1, steps=9).notes
    assert any("steps went unused" in note for note in noted)


def test_the_command_line_says_what_python_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    levels = (255 * waves(12, 16)).byte()
    Image.fromarray(levels.permute(1, 2, 0).numpy()).save("small.png")
    Image.fromarray(levels[0].numpy()).save("raw.png")
    for command, settings, options in (
        ("upscale", {"factor": 3, "kernel": "average"}, ["--factor", "3", "--kernel", "average"]),
        ("demosaic", {"pattern": "GRBG"}, ["--pattern", "GRBG"]),
    ):
        picture = "small.png" if command == "upscale" else "raw.png"
        given = [*options, "--passes", "3", "--noise", "4", "-o", "made.png", "--force", "--json"]
        done = CliRunner().invoke(app, [command, picture, *given])
        assert done.exit_code == 0, done.output
        assert json.loads(done.stdout)["evaluations"] == 3
        expected = getattr(dd, command)(picture, passes=3, noise_level_8bit=4, **settings).image
        with Image.open("made.png") as made:
            np.testing.assert_array_equal(np.asarray(made), np.asarray(expected))
    done = CliRunner().invoke(app, ["upscale", "small.png", "--factor", "5"])
    assert done.exit_code == 2
    assert "factor is 5" in done.stderr
