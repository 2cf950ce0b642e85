"""Enhancement: nearer to the truth at every level, more contrast with it, noise never more."""

from __future__ import annotations

import io
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import gaussian_filter, uniform_filter
from skimage import data
from skimage.metrics import structural_similarity
from torch import Tensor
from typer.testing import CliRunner

import differential_diffusion as dd
from differential_diffusion.cli import app
from differential_diffusion.core.plan import Plan
from differential_diffusion.data.images import load_images
from differential_diffusion.schema import EnhanceRequest
from differential_diffusion.tasks import TaskInput
from differential_diffusion.tasks.enhance import GAINS, LAYERS, detail, enhance

LEVELS: tuple[Any, ...] = ("low", "medium", "high")
NONE = torch.zeros(1, 1, 1, 1)
LUMA = np.array([0.299, 0.587, 0.114])


def photograph(height: int = 96, width: int = 120) -> NDArray[np.uint8]:
    return data.coffee()[100 : 100 + height, 200 : 200 + width]


def tensor(pixels: NDArray[Any]) -> Tensor:
    return torch.from_numpy(pixels / 127.5 - 1).permute(2, 0, 1)[None].float()


def local_contrast(pixels: NDArray[Any]) -> float:
    """Mean deviation of the luma within a Gaussian window of deviation 4."""
    luma = pixels @ LUMA if pixels.ndim == 3 else pixels.astype(float)
    mean = gaussian_filter(luma, 4.0)
    return float(np.sqrt(np.maximum(gaussian_filter(luma**2, 4.0) - mean**2, 0)).mean())


def psnr(made: NDArray[Any], truth: NDArray[Any]) -> float:
    return 10 * math.log10(255**2 / float(((made.astype(float) - truth) ** 2).mean()))


def test_the_detail_is_that_of_its_equation() -> None:
    """Written again with SciPy, in double precision, on a picture far from the ends."""
    pixels = tensor(photograph()).mul(0.5)
    sigma, gain = 3 / 127.5, 0.4
    x = np.tensordot(LUMA, pixels[0].double().numpy(), 1)
    expected = np.zeros_like(x)

    def mean(plane: NDArray[np.float64]) -> NDArray[np.float64]:
        return uniform_filter(plane, 2 * layer.radius + 1, mode="reflect")

    for layer in LAYERS:
        m = mean(x)
        v = mean(x * x) - m * m
        a = v / (v + (layer.edge_8bit / 127.5) ** 2)
        base = mean(a) * x + mean(m - a * m)
        expected += gain * mean(np.maximum(0, 1 - (1.5 * sigma) ** 2 / v)) * (x - base)
        x = base
    added = detail(pixels, torch.full((1, 1, 1, 1), sigma), gain)[0, 0].numpy()
    assert np.abs(expected).max() > 0.02
    np.testing.assert_allclose(added, expected, atol=0.1 * np.abs(expected).max())  # soft ends
    assert np.corrcoef(added.ravel(), expected.ravel())[0, 1] > 0.999


def test_what_varies_no_more_than_the_noise_is_not_amplified_at_all() -> None:
    rng = np.random.default_rng(0)
    ripples = torch.from_numpy(rng.normal(0.2, 2 / 127.5, (1, 1, 60, 60))).float()
    picture = ripples.expand(1, 3, 60, 60)
    assert float(detail(picture, torch.full((1, 1, 1, 1), 4 / 127.5), 1.0).abs().max()) == 0
    assert float(detail(picture, NONE, 1.0).std()) > 0.3 * float(ripples.std())
    level = torch.full((1, 1, 60, 60), 4 / 127.5)
    level[..., 30:] = 0
    added = detail(picture, level, 1.0)
    assert float(added[..., :15].abs().max()) == 0
    assert float(added[..., 45:].std()) > 0.3 * float(ripples.std())


@pytest.mark.parametrize(("height", "share"), [(40, 0.4), (100, 0.15), (200, 0.08)])
def test_an_edge_gets_little_halo(height: float, share: float) -> None:
    """Beside that of unsharp masking by the same gain, whose halo grows with the edge."""
    step = torch.full((1, 3, 40, 64), -height / 255)
    step[..., 32:] = height / 255
    added = detail(step, NONE, GAINS["high"])
    unsharp = GAINS["high"] * (step[0, 0].numpy() - gaussian_filter(step[0, 0].numpy(), 4.0))
    assert float(added.abs().max()) < share * np.abs(unsharp).max()
    assert float(added.abs().max()) * 127.5 < 3


def test_colours_stay_in_range_and_keep_their_hue() -> None:
    rng = np.random.default_rng(1)
    picture = torch.from_numpy(rng.uniform(-1, 1, (1, 3, 48, 48))).float().mul(1.3).clamp(-1, 1)
    added = detail(picture, NONE, 5.0)
    assert added.shape == (1, 1, 48, 48)
    made = picture + added
    assert float(made.abs().max()) <= 1 + 1e-6
    assert float(added.abs().mean()) > 0.01


@pytest.mark.parametrize("grey", [False, True])
@pytest.mark.parametrize("sigma", [4, 12])
def test_noise_is_never_amplified(sigma: float, grey: bool) -> None:
    shape = (96, 96) if grey else (96, 96, 3)
    noise = sigma * np.random.default_rng(2).standard_normal(shape)
    noisy = np.clip(np.rint(120 + noise), 0, 255).astype(np.uint8)
    for level in LEVELS:
        for given in ("auto", sigma):
            made = dd.enhance(noisy, level, noise_level_8bit=given).image
            assert made.std() < 0.4 * noisy.std(), (level, given)


@pytest.mark.parametrize("quality", [60, 75, 85, 95])
@pytest.mark.parametrize("sigma", [3, 5, 8])
def test_noise_is_never_amplified_in_a_jpeg(sigma: float, quality: int) -> None:
    clean = photograph(128, 256).copy()
    clean[:, :128] = 120
    given, flat = compressed(clean, sigma, quality), np.s_[:, :104]
    for level in LEVELS:
        assert dd.enhance(given, level).image[flat].std() <= given[flat].std(), level


def test_noise_beside_structure_is_not_amplified() -> None:
    clean = np.full((96, 192, 3), 110.0)
    clean[:, 96:] += 30 * np.sin(np.arange(96) / 2)[:, None]
    noisy = clean + 6 * np.random.default_rng(3).standard_normal(clean.shape)
    pixels = np.clip(np.rint(noisy), 0, 255).astype(np.uint8)
    left, right = np.s_[:, 8:80], np.s_[:, 112:184]
    for level in LEVELS:
        made = dd.enhance(pixels, level).image
        assert made[left].std() < 0.4 * pixels[left].std()
        assert local_contrast(made[right]) > local_contrast(clean[right])


@pytest.mark.parametrize("grey", [False, True])
def test_contrast_rises_with_the_level_on_a_clean_picture(grey: bool) -> None:
    clean = photograph()[..., 1].copy() if grey else photograph()
    results = [dd.enhance(clean, level, noise_level_8bit=0) for level in LEVELS]
    contrasts = [local_contrast(clean), *(local_contrast(r.image) for r in results)]
    assert contrasts == sorted(contrasts)
    assert contrasts[1] > 1.005 * contrasts[0]
    assert contrasts[3] > 1.02 * contrasts[0]
    assert all(psnr(result.image, clean) > 32 for result in results)
    assert results[2].image.shape == clean.shape
    assert results[2].image.dtype == np.uint8


def compressed(pixels: NDArray[np.uint8], sigma: float, quality: int) -> NDArray[np.uint8]:
    noisy = pixels + sigma * np.random.default_rng(4).standard_normal(pixels.shape)
    stream = io.BytesIO()
    Image.fromarray(np.clip(np.rint(noisy), 0, 255).astype(np.uint8)).save(
        stream, "JPEG", quality=quality
    )
    with Image.open(stream) as opened:
        return np.asarray(opened)


def test_compression_is_found_and_counts_as_noise() -> None:
    pixels = photograph(160, 200)
    given, clean = compressed(pixels, 4, 70), dd.enhance(pixels)
    found = dd.enhance(given)
    assert found.noise_level_8bit is not None
    assert clean.noise_level_8bit is not None
    assert np.median(found.noise_level_8bit) > 2 > 1.5 > np.median(clean.noise_level_8bit)
    assert found.notes[0].startswith("noise and compression: ")


def similarity(made: NDArray[Any], truth: NDArray[Any]) -> float:
    return float(structural_similarity(made, truth, channel_axis=-1, data_range=255))


@pytest.mark.slow
@pytest.mark.parametrize(("sigma", "quality"), [(3, 85), (5, 75), (8, 60)])
def test_photographs_come_nearer_to_the_truth_at_every_level(
    shared_data: Path, sigma: float, quality: int
) -> None:
    gains, contrasts = [], []
    images = sorted(load_images(shared_data / "cbsd68.tar").images)
    for index in (5, 25, 45, 65):
        pixels = images[index].pixels[:256, :256]
        given = compressed(pixels, sigma, quality)
        made = [dd.enhance(given, level).image for level in LEVELS]
        before = psnr(given, pixels), similarity(given, pixels)
        gains.append(
            [(psnr(m, pixels) - before[0], similarity(m, pixels) - before[1]) for m in made]
        )
        contrasts.append([local_contrast(m) for m in made])
    assert np.mean(gains, 0).min() > 0, np.mean(gains, 0)
    for low, medium, high in contrasts:
        assert low < medium < high


def test_pixels_of_no_strength_stay_and_others_change_by_theirs() -> None:
    rng = np.random.default_rng(5)
    pixels = rng.integers(0, 65536, (32, 40, 4), dtype=np.uint16)
    strength = np.zeros((32, 40), np.float32)
    strength[:, 20:30], strength[:, 30:] = 0.5, 1
    result = dd.enhance(pixels, "high", strength=strength, noise_level_8bit=20)
    assert result.image.dtype == np.uint16
    np.testing.assert_array_equal(result.image[:, :20], pixels[:, :20])
    np.testing.assert_array_equal(result.image[..., 3], pixels[..., 3])
    whole = dd.enhance(pixels, "high", noise_level_8bit=20).image.astype(float)
    np.testing.assert_allclose(result.image[:, 30:, :3], whole[:, 30:, :3], atol=1)
    half = (whole[:, 20:30, :3] + pixels[:, 20:30, :3]) / 2
    inside = (whole[:, 20:30, :3] > 0) & (whole[:, 20:30, :3] < 65535)
    assert np.abs(result.image[:, 20:30, :3] - half)[inside].max() <= 2
    kept = dd.enhance(pixels, strength=strength, invert=True, noise_level_8bit=20).image
    np.testing.assert_array_equal(kept[:, 30:], pixels[:, 30:])
    np.testing.assert_array_equal(result.map, strength)


def test_samples_get_the_detail_of_the_mean() -> None:
    """With a model that paints flat pictures, each its own, all detail is the mean's: none."""
    seen: list[Plan] = []

    def run(plan: Plan) -> Tensor:
        seen.append(plan)
        if plan.steps == 1:
            return plan.image.clone()
        return torch.stack([torch.full(plan.image.shape[1:], 0.1 * s) for s in plan.seeds])

    source = TaskInput(tensor(photograph()))
    request = EnhanceRequest(image="x.png", level="high", noise_level_8bit=2, samples=3, steps=9)
    output = enhance(request, source, run)
    added = detail(source.image, torch.full((1, 1, 1, 1), 2 / 127.5), GAINS["high"])
    assert [plan.steps for plan in seen] == [1, 9]
    for index in range(3):
        flat = torch.full_like(source.image[0], 0.1 * index)
        torch.testing.assert_close(output.samples[index], flat + added[0])
    assert output.mean is not None
    torch.testing.assert_close(output.mean, source.image + added)


def test_the_mean_with_samples_beside_it_is_the_mean() -> None:
    given = compressed(photograph(32, 40), 8, 90)
    alone = dd.enhance(given, noise_level_8bit=8)
    beside = dd.enhance(given, noise_level_8bit=8, samples=2, steps=60)
    np.testing.assert_array_equal(alone.image, beside.image)
    assert alone.std is None
    assert beside.std is not None
    assert beside.std.mean() > 0.5
    with pytest.raises(dd.InputError, match="does not sample the posterior"):
        dd.enhance(given, samples=2, solver="ddim")


def test_the_command_line_says_what_python_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Image.fromarray(compressed(photograph(40, 48), 5, 75)).save("photo.png")
    strength = np.tile(np.linspace(0, 255, 48).astype(np.uint8), (40, 1))
    Image.fromarray(strength).save("map.png")
    options = ["--level", "high", "--noise", "6", "--strength", "map.png", "--invert"]
    done = CliRunner().invoke(app, ["enhance", "photo.png", *options, "-o", "made.png", "--json"])
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["task"] == "enhance"
    settings: dict[str, Any] = {"strength": "map.png", "invert": True, "noise_level_8bit": 6}
    expected = dd.enhance("photo.png", "high", **settings).image
    with Image.open("made.png") as made:
        np.testing.assert_array_equal(np.asarray(made), np.asarray(expected))
    done = CliRunner().invoke(app, ["enhance", "photo.png", "--level", "most"])
    assert done.exit_code == 2
    assert "level is 'most'" in done.stderr
