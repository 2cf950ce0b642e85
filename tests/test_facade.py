"""The first article's snippets, as they are written, and what their words mean."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import differential_diffusion as dd
from differential_diffusion import DifferentialDiffusionModel, differential_diffusion_process
from differential_diffusion.core.noise import PositionalNoise
from differential_diffusion.core.oracle import Gaussian
from differential_diffusion.data.damage import add_scratches
from differential_diffusion.errors import InputError
from differential_diffusion.models import DenoiserModel, load_model

NEURAL = """
nn_model = CustomModel()
diffusion_model = DifferentialDiffusionModel()
enhanced_output = nn_model.process_image(diffusion_model.enhance_image(input_image))
"""
INITIALISE = """
from differential_diffusion import DifferentialDiffusionModel
model = DifferentialDiffusionModel()
model.initialize_parameters(pixel_strengths="adaptive", control_mechanism="dynamic")
"""
ENHANCE = """
enhanced_image = model.enhance_image(original_image, enhancement_level="high")
"""
RESTORE = """
restored_image = model.restore_image(damaged_image, restoration_mode="deep")
"""
PROCESS = """
def differential_diffusion_process(image, steps=100):
    for step in range(steps):
        image = forward_diffusion(image)
        image = reverse_denoising(image, step)
    return image
"""


def psnr(image: Any, clean: Any) -> float:
    error = np.square(np.asarray(image, float) - np.asarray(clean, float)).mean()
    return float(10 * np.log10(255**2 / error))


def noisy(clean: Any, sigma: float, seed: int = 0) -> np.ndarray[Any, Any]:
    noise = np.random.default_rng(seed).standard_normal(clean.shape)
    return np.clip(np.rint(clean + sigma * noise), 0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def photograph(repository: Path) -> np.ndarray[Any, Any]:
    with Image.open(repository / "examples" / "photograph.png") as opened:
        return np.asarray(opened.convert("RGB"))[60:188, 120:264]


@pytest.fixture(scope="module")
def names() -> dict[str, Any]:
    """What the article's second snippet leaves behind."""
    space: dict[str, Any] = {}
    exec(INITIALISE, space)  # as written
    return space


def test_a_network_gets_the_enhanced_picture(photograph: np.ndarray[Any, Any]) -> None:
    seen: list[Any] = []

    class CustomModel:
        def process_image(self, image: Any) -> float:
            seen.append(image)
            return psnr(image, photograph)

    given = noisy(photograph, 8)
    space: dict[str, Any] = {
        "CustomModel": CustomModel,
        "DifferentialDiffusionModel": DifferentialDiffusionModel,
        "input_image": given,
    }
    exec(NEURAL, space)
    (image,) = seen
    assert image.shape == given.shape
    assert image.dtype == given.dtype
    assert space["enhanced_output"] > psnr(given, photograph) + 1
    assert np.array_equal(image, dd.enhance(given).image)  # no more than the function


def test_a_module_of_torch_takes_what_comes_out(photograph: np.ndarray[Any, Any]) -> None:
    network = torch.nn.Conv2d(3, 2, 3, padding=1)
    x = torch.from_numpy(photograph[:40, :48] / 255).permute(2, 0, 1).float()
    scores = network(DifferentialDiffusionModel().enhance_image(x, "low")[None])
    assert scores.shape == (1, 2, 40, 48)


def test_enhancement_takes_noise_away_and_raises_detail(
    names: dict[str, Any], photograph: np.ndarray[Any, Any]
) -> None:
    names["original_image"] = noisy(photograph, 6)
    exec(ENHANCE, names)
    enhanced = names["enhanced_image"]
    assert psnr(enhanced, photograph) > psnr(names["original_image"], photograph) + 1
    low = names["model"].enhance_image(names["original_image"], enhancement_level="low")
    assert enhanced.std() > low.std()
    grey = np.full((64, 64, 3), 120, np.uint8)
    assert names["model"].enhance_image(noisy(grey, 6), "high").std() < 0.3 * noisy(grey, 6).std()


def test_deep_restoration_brings_a_damaged_picture_back(
    names: dict[str, Any], photograph: np.ndarray[Any, Any]
) -> None:
    damaged, mask = add_scratches(photograph, count=3, width=(1.5, 3), seed=4)
    names["damaged_image"] = Image.fromarray(noisy(damaged, 6))
    exec(RESTORE, names)
    restored = names["restored_image"]
    assert isinstance(restored, Image.Image)
    before = np.asarray(names["damaged_image"])
    assert psnr(restored, photograph) > psnr(before, photograph) + 4
    assert (
        psnr(np.asarray(restored)[mask], photograph[mask])
        > psnr(before[mask], photograph[mask]) + 5
    )


def test_the_article_s_loop_lowers_the_noise(photograph: np.ndarray[Any, Any]) -> None:
    crop = photograph[:64, :72]
    given = noisy(crop, 15)
    space: dict[str, Any] = {}
    exec(PROCESS, space)
    forward, reverse = DifferentialDiffusionModel(seed=3).diffusion_steps(given, 12)
    space |= {"forward_diffusion": forward, "reverse_denoising": reverse}
    image = space["differential_diffusion_process"](given, steps=12)
    assert image.dtype == np.uint8
    assert psnr(image, crop) > psnr(given, crop) + 3
    ours = differential_diffusion_process(given, 12, model=DifferentialDiffusionModel(seed=3))
    assert np.array_equal(image, ours)
    other = differential_diffusion_process(given, 12, model=DifferentialDiffusionModel(seed=4))
    assert not np.array_equal(image, other)


def test_the_loop_draws_from_the_posterior() -> None:
    """White Gaussian pictures of deviation τ with noise of τ: mean x/2 and variance τ²/2."""
    tau, size = 0.2, 8
    covariance = tau**2 * torch.eye(3 * size**2, dtype=torch.float64)
    oracle = Gaussian(torch.zeros(3, size, size, dtype=torch.float64), covariance)
    prior = load_model("prior")
    assert isinstance(prior, DenoiserModel)
    exact = DenoiserModel("oracle", oracle, 3, 1, None, prior.device)
    from differential_diffusion.engine import run_plan
    from differential_diffusion.facade import _Steps
    from differential_diffusion.images import read

    y = PositionalNoise([9], 3, size, size)(0) * tau
    picture, drawn, levels = read(np.zeros((size, size, 3), np.uint8)), [], torch.tensor(tau)
    for seed in range(40):
        states: list[torch.Tensor] = []

        def run(plan: Any, states: list[torch.Tensor] = states) -> torch.Tensor:
            states.append(run_plan(plan, exact))
            return states[-1]

        level = levels.expand(1, 1, size, size)
        forward, reverse = _Steps(picture, y, level, level, run, seed, 60).halves()
        image: Any = "the picture"
        for step in range(60):
            image = reverse(forward(image), step)
        drawn.append(states[-1])
    samples = torch.cat(drawn)
    assert float((samples.mean(0) - y[0] / 2).square().mean().sqrt()) < 1.3 * tau / 2**0.5 / 40**0.5
    assert float(samples.var(0).mean()) == pytest.approx(tau**2 / 2, rel=0.06)


def test_a_map_of_strengths_keeps_what_it_should(photograph: np.ndarray[Any, Any]) -> None:
    crop = noisy(photograph[:48, :56], 12)
    strength = np.zeros((48, 56), np.float32)
    strength[:, 20:] = 0.3
    model = DifferentialDiffusionModel().initialize_parameters(strength, "static")
    for image in (
        model.enhance_image(crop),
        model.restore_image(crop, "light"),
        differential_diffusion_process(crop, 3, model=model),
    ):
        assert np.array_equal(image[:, :20], crop[:, :20])
        assert not np.array_equal(image[:, 20:], crop[:, 20:])


def test_uniform_is_one_level_for_all(photograph: np.ndarray[Any, Any]) -> None:
    crop = photograph[:64, :96].copy()
    crop[:, 48:] = noisy(crop[:, 48:], 20)
    model = DifferentialDiffusionModel()
    adaptive = model.enhance_image(crop)
    uniform = model.initialize_parameters("uniform").enhance_image(crop)
    clean = photograph[:64, :96]
    # One level is too much for the clean half.
    assert psnr(adaptive[:, :48], clean[:, :48]) > psnr(uniform[:, :48], clean[:, :48]) + 3


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda m, x: m.initialize_parameters("adaptiv"), "'adaptive', 'uniform' or a map"),
        (lambda m, x: m.initialize_parameters("uniform", "fixed"), "'static' or 'dynamic'"),
        (lambda m, x: m.enhance_image(x, "huge"), "level"),
        (lambda m, x: m.restore_image(x, "deeper"), "mode"),
        (lambda m, x: m.diffusion_steps(x, 0), "steps is 0"),
        (lambda m, x: m.diffusion_steps(x, 5)[1](torch.zeros(1, 3, 16, 16), 2), "0 is next"),
        (lambda m, x: m.enhance_image("no-such-file.png"), "no-such-file"),
    ],
)
def test_bad_words_are_refused_in_a_sentence(call: Any, match: str) -> None:
    with pytest.raises(InputError, match=match):
        call(DifferentialDiffusionModel(), np.zeros((16, 16, 3), np.uint8))


def test_a_batch_of_one_and_a_state_that_was_changed(photograph: np.ndarray[Any, Any]) -> None:
    crop = photograph[:32, :40]
    given = torch.from_numpy(noisy(crop, 15)).permute(2, 0, 1)[None].float() / 255
    made = differential_diffusion_process(given, 4)
    assert made.shape == given.shape
    clean = torch.from_numpy(crop.copy()).permute(2, 0, 1)[None] / 255
    assert float((made - clean).square().mean()) < 0.4 * float((given - clean).square().mean())
    forward, reverse = DifferentialDiffusionModel().diffusion_steps(given, 3)
    state = reverse(forward(given), 0)
    with pytest.raises(InputError, match="give that back"):
        forward(state[0])


def test_uniform_holds_for_a_level_left_to_be_found(photograph: np.ndarray[Any, Any]) -> None:
    crop = noisy(photograph[:48, :64], 10)
    crop[:, :32] = photograph[:48, :32]
    model = DifferentialDiffusionModel().initialize_parameters("uniform")
    asked = model.enhance_image(crop, noise_level_8bit="auto")
    assert np.array_equal(asked, model.enhance_image(crop))
    assert not np.array_equal(asked, dd.enhance(crop).image)
    with pytest.raises(InputError, match="enhancement_level"):
        model.enhance_image(crop, level="high")
    with pytest.raises(InputError, match="restoration_mode"):
        model.restore_image(crop, mode="deep")
