"""Deblurring: what is blurred again is what was given, and widths of blurs are found."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import ndimage
from torch import Tensor
from typer.testing import CliRunner

import differential_diffusion as dd
from differential_diffusion.cli import app
from differential_diffusion.core.operators import Blur, CutBlur, gaussian_kernel, motion_kernel
from differential_diffusion.core.plan import Plan
from differential_diffusion.data.images import load_images
from differential_diffusion.engine import run_plan
from differential_diffusion.errors import InputError
from differential_diffusion.maps.blur_width import SHARP, estimate_blur
from differential_diffusion.schema import DeblurRequest
from differential_diffusion.tasks import TaskInput
from differential_diffusion.tasks.deblur import deblur, given_kernel, held_variance
from differential_diffusion.tasks.measured import posterior_mean

NOISE = 2.55
BLURS: dict[str, tuple[Tensor, dict[str, Any]]] = {
    "gaussian": (gaussian_kernel(1.6), {"sigma": 1.6}),
    "motion": (motion_kernel(9, 30), {"kernel": "motion", "length": 9, "angle": 30}),
}


def scene(height: int = 48, width: int = 56) -> Tensor:
    """Discs and bars with hard edges, (1,3,H,W) in [-1,1]."""
    row, column = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    disc = (row - 20).square() + (column - 18).square() < 120
    bars = (column // 5 % 2 == 0) & (row > 30)
    grey = 0.6 * disc + 0.5 * bars - 0.4
    return torch.stack([grey, 0.8 * grey, -0.5 * grey])[None]


def blurred(picture: Tensor, kernel: Tensor, noise: float = NOISE, seed: int = 0) -> Tensor:
    drawn = torch.randn(picture.shape, generator=torch.Generator().manual_seed(seed))
    return Blur(kernel).forward(picture) + noise / 127.5 * drawn


def cut_out(kernel: Tensor, wide: Tensor | None = None, seed: int = 0) -> tuple[Tensor, Tensor]:
    """What the sharp and the blurred picture are where both are cut out of a larger scene."""
    wide, operator = scene(90, 110) if wide is None else wide, CutBlur(kernel)
    truth, soft = operator.cut(wide), operator.forward(wide)
    drawn = torch.randn(truth.shape, generator=torch.Generator().manual_seed(seed))
    return truth, soft + NOISE / 127.5 * drawn


def as_bytes(picture: Tensor) -> np.ndarray:
    levels = (127.5 * (picture[0] + 1)).round().clamp(0, 255).byte()
    return levels.permute(1, 2, 0).numpy()


def as_tensor(image: Any) -> Tensor:
    return torch.from_numpy(np.asarray(image).astype(np.float32)).permute(2, 0, 1)[None] / 127.5 - 1


def psnr(made: Tensor, truth: Tensor) -> float:
    return float(-10 * ((made - truth) / 2).square().mean().log10())


def rms(x: Tensor) -> float:
    return 127.5 * float(x.square().mean().sqrt())


@pytest.mark.parametrize("blur", BLURS)
def test_blurred_again_it_is_what_was_given_within_the_noise(blur: str) -> None:
    kernel, told = BLURS[blur]
    truth, soft = cut_out(kernel)
    result = dd.deblur(as_bytes(soft), noise_level_8bit=NOISE, **told)
    made, operator = as_tensor(result.image), CutBlur(kernel)
    assert result.evaluations == 8
    assert 0.7 * NOISE < rms(operator.forward(made) - operator.cut(soft)) < 1.05 * NOISE
    assert psnr(made, truth) > psnr(soft, truth) + 2.5


@pytest.mark.parametrize(("blur", "factor"), [("gaussian", 1.25), ("motion", 1.7)])
def test_light_from_beyond_the_borders_leaves_no_ripples(blur: str, factor: float) -> None:
    """Beside the estimate that takes what lies beyond for the picture mirrored."""
    kernel, told = BLURS[blur]
    truth, soft = cut_out(kernel)
    model, mirrored = dd.load_model("prior"), Blur(kernel)
    sigma = NOISE / 127.5

    def run(plan: Plan) -> Tensor:
        return run_plan(plan, model)

    def held(_: float, following: float) -> float:
        return held_variance(mirrored, soft, sigma**2, following)

    levels = 35 / 127.5, sigma
    start = mirrored.prox(soft, soft, torch.full((1, 1, 1, 1), held(0, levels[0])), sigma**2)
    rippled = posterior_mean(run, mirrored, soft, start, sigma, 8, 0, levels, held) - truth
    request = DeblurRequest(image=None, noise_level_8bit=NOISE, **told)
    made = deblur(request, TaskInput(soft), run).samples - truth
    reach = len(kernel) // 2
    far = torch.zeros(1, 3, *soft.shape[-2:], dtype=torch.bool)
    far[..., 2 * reach : -2 * reach, 2 * reach : -2 * reach] = True
    near = torch.ones_like(far)
    near[..., reach:-reach, reach:-reach] = False
    assert rms(rippled[near]) > factor * rms(made[near])
    assert rms(made[far]) < 1.05 * rms(rippled[far])


def test_a_given_kernel_is_the_named_one(tmp_path: Path) -> None:
    """As an array of any sum, and as a file up to the file's rounding."""
    kernel = motion_kernel(9, 30)
    soft = as_bytes(blurred(scene(), kernel))
    named = dd.deblur(soft, "motion", length=9, angle=30, passes=2, noise_level_8bit=3).image
    given = dd.deblur(soft, 7 * kernel.numpy(), passes=2, noise_level_8bit=3).image
    np.testing.assert_array_equal(given, named)
    levels = (65535 * kernel / kernel.max()).round().numpy().astype(np.uint16)
    Image.fromarray(levels).save(tmp_path / "kernel.png")
    from_file = dd.deblur(soft, tmp_path / "kernel.png", passes=2, noise_level_8bit=3).image
    assert np.abs(np.asarray(from_file, int) - np.asarray(named, int)).max() <= 1


def test_kernels_of_even_sides_are_padded() -> None:
    expected = torch.tensor([[1, 1, 1], [1, 1, 1], [0, 0, 0]]).double() / 6
    torch.testing.assert_close(given_kernel(np.ones((2, 3))), expected)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"kernel": "disc"}, "kernel is 'disc': give 'gaussian', 'motion'"),
        ({"kernel": np.zeros((3, 3))}, "sum to more than 0"),
        ({"kernel": np.full((3, 3), np.nan)}, "must be finite"),
        ({"kernel": np.ones(3)}, r"shape \(3,\): give \(h,w\)"),
        ({"kernel": {}}, "kernel is a dict"),
        ({"kernel": "motion"}, "has no length"),
        ({"kernel": "motion", "length": 5, "sigma": 1}, "sigma is a Gaussian's"),
        ({"length": 5}, "length and angle are a motion's"),
        ({"sigma": 0}, "sigma is 0"),
        ({"sigma": 20}, "161x161 pixels and the picture 48x56"),
    ],
)
def test_what_is_wrong_is_said(given: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        dd.deblur(as_bytes(scene()), **given)


def test_strength_says_where_and_how_much() -> None:
    kernel, told = BLURS["gaussian"]
    soft = as_bytes(blurred(scene(), kernel))
    strength = np.zeros(soft.shape[:2], np.float32)
    strength[:, 20:40], strength[:, 40:] = 0.5, 1
    settings = {"noise_level_8bit": NOISE, "passes": 2, **told}
    part = dd.deblur(soft, strength=strength, **settings).image.astype(int)
    other = dd.deblur(soft, strength=1 - strength, invert=True, **settings).image.astype(int)
    whole = dd.deblur(soft, **settings).image.astype(int)
    np.testing.assert_array_equal(part[:, :20], soft[:, :20])
    np.testing.assert_array_equal(part[:, 40:], whole[:, 40:])
    assert np.abs(2 * part[:, 20:40] - soft[:, 20:40] - whole[:, 20:40]).max() <= 2
    assert np.abs(part - other).max() <= 1


def test_grey_pictures_stay_grey() -> None:
    kernel, told = BLURS["gaussian"]
    grey = scene()[:, :1].expand(1, 3, -1, -1)
    soft = blurred(grey[:, :1], kernel)
    made = dd.deblur(as_bytes(soft)[..., 0], noise_level_8bit=NOISE, **told).image
    assert made.shape == (48, 56)
    again = torch.from_numpy(made.astype(np.float32))[None, None] / 127.5 - 1
    assert rms(Blur(kernel).forward(again) - soft) < 1.05 * NOISE
    assert psnr(again, grey[:, :1]) > psnr(soft, grey[:, :1]) + 2.5


def test_samples_differ_and_agree_with_the_picture() -> None:
    kernel, told = BLURS["gaussian"]
    soft = blurred(scene(), kernel)
    result = dd.deblur(
        as_bytes(soft), samples=2, steps=6, estimate="sample", noise_level_8bit=NOISE, **told
    )
    assert result.std is not None
    assert result.std.mean() > 0.1
    for sample in result.images:
        assert rms(Blur(kernel).forward(as_tensor(sample)) - soft) < 1.5 * NOISE


def test_a_map_of_noise_weighs_the_picture() -> None:
    """Where the noise is said to be strong, the picture is held less."""
    kernel, told = BLURS["gaussian"]
    soft = blurred(scene(), kernel, noise=1)
    levels = np.full((48, 56), 1.0)
    levels[:, 28:] = 40
    made = as_tensor(dd.deblur(as_bytes(soft), noise_level_8bit=levels, **told).image)
    residual = Blur(kernel).forward(made) - soft
    assert rms(residual[..., :24]) < 2
    assert rms(residual[..., 32:]) > 2 * rms(residual[..., :24])


@pytest.mark.parametrize("blur", BLURS)
def test_the_prox_lets_in_half_of_what_the_denoiser_is_told(blur: str) -> None:
    """The variance of what the prox makes of noise alone, drawn; and no more than so much V."""
    operator, picture = Blur(BLURS[blur][0].float(), circular=True), torch.zeros(1, 1, 120, 96)
    noise, sigma = NOISE / 127.5, 10 / 127.5
    v = held_variance(operator, picture, noise**2, sigma)
    drawn = noise * torch.randn(picture.shape, generator=torch.Generator().manual_seed(1))
    passed = operator.prox(picture, drawn, torch.full((1, 1, 1, 1), v), noise**2)
    assert float(passed.square().mean()) == pytest.approx(0.5 * sigma**2, rel=0.15)
    assert held_variance(operator, picture, 0.0, sigma) == pytest.approx(50 * sigma**2, rel=1e-4)


def texture(slope: float, seed: int, side: int = 256) -> np.ndarray:
    """A Gaussian field whose spectrum falls as f^-slope."""
    white = np.fft.rfft2(np.random.default_rng(seed).standard_normal((side, side)))
    frequency = np.hypot(np.fft.fftfreq(side)[:, None], np.fft.rfftfreq(side)[None])
    frequency[0, 0] = 1
    plane = np.fft.irfft2(white * frequency ** (-slope / 2), s=(side, side))
    return 0.3 * plane / plane.std()


@pytest.mark.parametrize("noise", [0.2, 2.55])
@pytest.mark.parametrize("width", [0.8, 1.6, 3])
def test_widths_are_found_on_spectra_of_the_law(width: float, noise: float) -> None:
    found = []
    for seed, slope in enumerate((2.1, 2.4, 2.7)):
        soft = ndimage.gaussian_filter(texture(slope, seed), width, mode="wrap")
        soft += noise / 127.5 * np.random.default_rng(9).standard_normal(soft.shape)
        found.append(estimate_blur(soft, noise / 127.5))
    assert np.mean(found) == pytest.approx(width, rel=0.12)


def test_nothing_to_see_is_no_blur() -> None:
    assert estimate_blur(texture(2.4, 1), 0.002) < SHARP
    assert estimate_blur(np.zeros((64, 64)), 0.01) == 0
    assert estimate_blur(texture(2.4, 1)[:20], 0.01) == 0


def test_what_was_found_is_said() -> None:
    def run(plan: Plan) -> Tensor:
        return plan.image

    def notes(plane: np.ndarray, **given: Any) -> tuple[str, ...]:
        image = torch.from_numpy(plane).float()[None, None].expand(1, 3, -1, -1)
        request = DeblurRequest(image=None, passes=1, **given)
        return deblur(request, TaskInput(image.contiguous(), grey=True), run).notes

    sharp = texture(2.4, 1)
    soft = ndimage.gaussian_filter(sharp, 2, mode="wrap")
    width, noise = notes(soft + 0.02 * np.random.default_rng(0).standard_normal(soft.shape))
    assert width.startswith("blur: a Gaussian of ")
    assert float(width.split()[4]) == pytest.approx(2, rel=0.15)
    assert float(noise.split()[1]) == pytest.approx(0.02 * 127.5, rel=0.15)
    assert notes(sharp, noise_level_8bit=0)[0].startswith("blur: none found")
    assert notes(sharp, sigma=1, noise_level_8bit=0) == ()


def test_the_command_line_says_what_python_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Image.fromarray(as_bytes(blurred(scene(), motion_kernel(9, 30)))).save("soft.png")
    options = ["--kernel", "motion", "--length", "9", "--angle", "30", "--noise", "3"]
    more = ["--passes", "2", "--strength", "0.5", "-o", "made.png", "--json"]
    done = CliRunner().invoke(app, ["deblur", "soft.png", *options, *more])
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["evaluations"] == 2
    told: dict[str, Any] = {"length": 9, "angle": 30, "noise_level_8bit": 3}
    expected = dd.deblur("soft.png", "motion", passes=2, strength=0.5, **told).image
    with Image.open("made.png") as made:
        np.testing.assert_array_equal(np.asarray(made), np.asarray(expected))


@pytest.mark.slow
def test_photographs_gain_and_sharp_ones_stay(shared_data: Path) -> None:
    widths, gains = [], []
    images = sorted(load_images(shared_data / "cbsd68.tar").images)
    for index in (10, 30, 50):
        wide = as_tensor(images[index].pixels[:214, :214])
        truth, soft = cut_out(gaussian_kernel(1.6), wide, seed=index)
        result = dd.deblur(as_bytes(soft), noise_level_8bit=NOISE)
        gains.append(psnr(as_tensor(result.image), truth) - psnr(soft, truth))
        widths.append(float(result.notes[0].split()[4]))
        kept = as_tensor(dd.deblur(as_bytes(truth), sigma=0.1, noise_level_8bit=0).image)
        assert psnr(kept, truth) > 50
    assert np.mean(gains) > 2, gains
    assert math.sqrt(np.mean((np.array(widths) - 1.6) ** 2)) < 0.3, widths


@pytest.mark.parametrize("level", [0, "map"])
def test_samples_without_noise_and_with_a_map_of_it(repository: Path, level: Any) -> None:
    with Image.open(repository / "examples" / "photograph.png") as opened:
        sharp = np.asarray(opened.convert("RGB"))[80:128, 140:188]
    x = torch.from_numpy(sharp / 255).permute(2, 0, 1)[None].float()
    soft = Blur(gaussian_kernel(1.0)).forward(x)[0].permute(1, 2, 0).numpy()
    given = np.rint(soft * 255).astype(np.uint8)
    noise = np.full((48, 48), 2.0) if level == "map" else level
    result = dd.deblur(given, sigma=1.0, noise_level_8bit=noise, samples=2, steps=10)
    for image in result.images:
        assert np.square(image.astype(float) - sharp).mean() ** 0.5 < 12
