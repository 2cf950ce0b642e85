"""Unconditional U-Nets of Diffusers: its own formulas and loops, closed forms, tasks, bad input."""

from __future__ import annotations

import json
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

import differential_diffusion as dd
from differential_diffusion.core import DDIM, Heun, sample, wait
from differential_diffusion.core.noise import PositionalNoise
from differential_diffusion.core.oracle import Gaussian
from differential_diffusion.core.plan import Plan
from differential_diffusion.core.types import Step
from differential_diffusion.models.unet import UNetModel, convention_of, from_unet

from ..core.helpers import gaussian, normal

diffusers = pytest.importorskip("diffusers")

KINDS = ["epsilon", "sample", "v_prediction"]
ONE = torch.ones(1, 1, 1, 1)


def tiny(channels: int = 3, *, fourier: bool = False, seed: int = 0, **config: Any) -> Any:
    """A random U-Net of two levels, in eval mode."""
    torch.manual_seed(seed)
    made = diffusers.UNet2DModel(
        **{
            "sample_size": 16,
            "in_channels": channels,
            "out_channels": channels,
            "block_out_channels": (8, 16),
            "layers_per_block": 1,
            "down_block_types": ("DownBlock2D", "AttnDownBlock2D"),
            "up_block_types": ("AttnUpBlock2D", "UpBlock2D"),
            "norm_num_groups": 4,
            "attention_head_dim": 4,
            "time_embedding_type": "fourier" if fourier else "positional",
            **config,
        }
    )
    return made.eval().requires_grad_(False)


def exact(scheduler: Any) -> Any:
    """The scheduler with its table in float64, as ours is."""
    scheduler.alphas_cumprod = torch.cumprod(1 - scheduler.betas.double(), 0)
    return scheduler


def model_of(unet: Any, scheduler: Any) -> UNetModel:
    return from_unet(unet, scheduler, name="tiny")


def noise_for(image: Tensor, seed: int = 0, channels: int = 3) -> PositionalNoise:
    return PositionalNoise((seed,), channels, *image.shape[-2:])


def level(value: Any) -> Tensor:
    return torch.as_tensor(value).view(1, 1, 1, 1)


# What Diffusers does with the same network.


@pytest.mark.parametrize("limits", [{}, {"clip_sample": True}, {"thresholding": True}], ids=str)
@pytest.mark.parametrize("kind", KINDS)
def test_estimates_are_the_scheduler_s_own(kind: str, limits: dict[str, bool]) -> None:
    settings = {"clip_sample": False, "clip_sample_range": 0.8, "sample_max_value": 3.0, **limits}
    scheduler = exact(diffusers.DDPMScheduler(prediction_type=kind, **settings))
    unet = tiny().double()
    model = model_of(unet, scheduler)
    for t in (0, 1, 357, 999):
        x_t = normal(2, 3, 16, 16, seed=t)
        theirs = scheduler.step(unet(x_t, t).sample, t, x_t).pred_original_sample
        alpha = scheduler.alphas_cumprod[t].sqrt()
        ours = model.denoiser(x_t / alpha, level(model.levels[t]))
        torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-6)


def test_a_learned_variance_is_left_out() -> None:
    scheduler = exact(diffusers.DDPMScheduler(variance_type="learned_range"))
    unet = tiny(out_channels=6).double()
    x_t = normal(1, 3, 16, 16)
    theirs = scheduler.step(unet(x_t, 500).sample, 500, x_t).pred_original_sample
    model = model_of(unet, scheduler)
    ours = model.denoiser(x_t / scheduler.alphas_cumprod[500].sqrt(), level(model.levels[500]))
    torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-6)


def test_timesteps_of_a_table_are_rounded() -> None:
    """A learned embedding knows whole timesteps only."""
    scheduler = diffusers.DDPMScheduler(num_train_timesteps=20, clip_sample=False)
    unet = tiny(time_embedding_type="learned", num_train_timesteps=20).double()
    model = model_of(unet, scheduler)
    x, between = normal(1, 3, 16, 16), (model.levels[7] ** 0.8 * model.levels[8] ** 0.2)
    alpha = (1 + between**2).rsqrt()
    expected = x - between * unet(alpha * x, torch.tensor([7])).sample
    torch.testing.assert_close(model.denoiser(x, level(between)), expected)


def test_the_karras_ve_estimate_is_the_scheduler_s_own() -> None:
    scheduler = diffusers.KarrasVeScheduler()
    unet = tiny(fourier=True, center_input_sample=True).double()
    model = model_of(unet, scheduler)
    assert (model.sigma_min, model.sigma_max) == pytest.approx((0.02, 100))
    for sigma in (0.02, 0.7, 90.0):
        x = 0.3 + sigma * normal(1, 3, 16, 16)
        told = torch.tensor([sigma / 2], dtype=torch.float64)
        predicted = sigma / 2 * unet((x + 1) / 2, told).sample
        theirs = scheduler.step(predicted, sigma, 0.0, x).pred_original_sample
        ours = model.denoiser(x, level(told * 2))
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("strength", [1.0, 0.6])
@pytest.mark.parametrize("kind", KINDS)
def test_a_uniform_run_is_diffusers_image_to_image(kind: str, strength: float) -> None:
    scheduler = exact(
        diffusers.DDIMScheduler(
            prediction_type=kind, clip_sample=False, timestep_spacing="trailing"
        )
    )
    unet = tiny()
    image = torch.rand(1, 3, 16, 24, generator=torch.Generator().manual_seed(1)) * 2 - 1
    noise = noise_for(image)
    ours = model_of(unet, scheduler).run(Plan(image, strength * ONE, steps=10), noise)

    scheduler.set_timesteps(10)
    timesteps = scheduler.timesteps[10 - int(10 * strength) :]
    x_t = scheduler.add_noise(image.double(), noise(0).double(), timesteps[:1])
    for t in timesteps:
        x_t = scheduler.step(unet(x_t.float(), t).sample.double(), t, x_t).prev_sample
    torch.testing.assert_close(ours, x_t.float(), rtol=1e-4, atol=1e-4)


def test_a_run_from_pure_noise_is_the_ddim_pipeline() -> None:
    """Through the pipeline's own call, with the limits that it puts on its estimates."""
    scheduler = diffusers.DDIMScheduler(timestep_spacing="trailing")
    pipe = diffusers.DDIMPipeline(tiny(), scheduler)
    pipe.set_progress_bar_config(disable=True)
    theirs = pipe(
        generator=torch.Generator().manual_seed(5),
        num_inference_steps=8,
        use_clipped_model_output=True,
        output_type="pt",
    ).images
    model = dd.load_model(pipe)
    assert isinstance(model, UNetModel)
    path = model.path(Plan(torch.zeros(1, 3, 16, 16), ONE, steps=8))
    x_t = torch.randn(1, 3, 16, 16, generator=torch.Generator().manual_seed(5))
    start = x_t * (1 + path.sigma(0) ** 2).sqrt()
    ours = sample(model.denoiser, start, path, DDIM())
    torch.testing.assert_close((ours / 2 + 0.5).clamp(0, 1), theirs, rtol=1e-4, atol=1e-4)


def test_a_heun_run_is_the_karras_ve_pipeline() -> None:
    """Its loop takes squares for levels, so its limits are the roots of the network's."""
    unet = tiny(fourier=True, center_input_sample=True)
    settings = {"sigma_min": 0.02**0.5, "sigma_max": 1.0, "s_churn": 0.0}
    pipe = diffusers.KarrasVePipeline(unet, diffusers.KarrasVeScheduler(**settings))
    pipe.set_progress_bar_config(disable=True)
    theirs = pipe(
        generator=torch.Generator().manual_seed(5), num_inference_steps=12, output_type="np"
    ).images
    levels = pipe.scheduler.schedule.double().flip(0)
    model = model_of(unet, diffusers.KarrasVeScheduler(sigma_min=0.02, sigma_max=1.0))
    x = torch.randn(1, 3, 16, 16, generator=torch.Generator().manual_seed(5))
    path = wait(level(levels[0]), None, torch.cat([levels, torch.zeros(1, dtype=torch.float64)]))
    ours = sample(model.denoiser, x, path, Heun())
    ours = (ours / 2 + 0.5).clamp(0, 1).permute(0, 2, 3, 1)
    assert ((ours > 0) & (ours < 1)).float().mean() > 0.2
    torch.testing.assert_close(ours, torch.from_numpy(theirs), rtol=1e-4, atol=1e-4)


def test_an_ancestral_run_is_the_score_sde_ve_pipeline() -> None:
    """Its noise is larger than the posterior's by σ/s; given that, all else is the same."""
    unet = tiny(fourier=True, center_input_sample=True)
    scheduler = diffusers.ScoreSdeVeScheduler(sigma_max=0.5, correct_steps=0)
    steps, shape = 12, (1, 3, 16, 16)
    pipe = diffusers.ScoreSdeVePipeline(unet, scheduler)
    pipe.set_progress_bar_config(disable=True)
    theirs = pipe(
        generator=torch.Generator().manual_seed(5), num_inference_steps=steps, output_type="np"
    ).images
    rng = torch.Generator().manual_seed(5)
    y, *draws = [torch.randn(shape, generator=rng) for _ in range(1 + steps)]

    ladder = torch.cat([2 * scheduler.discrete_sigmas.double(), torch.zeros(1)]).sort().values
    ratio = [1.0, *(ladder[1:-1] / ladder[2:]).tolist()]
    model = model_of(unet, scheduler)
    path = wait(level(ladder[-1]), None, ladder.flip(0))
    start = 2 * (0.5 * y) - 1
    noise = lambda k: draws[steps - 1 - k] / ratio[k]  # noqa: E731
    ours = sample(model.denoiser, start, path, DDIM(eta=1), noise)
    ours = (ours / 2 + 0.5).clamp(0, 1).permute(0, 2, 3, 1)
    assert ((ours > 0) & (ours < 1)).float().mean() > 0.2
    torch.testing.assert_close(ours, torch.from_numpy(theirs), rtol=1e-3, atol=3e-4)


# The strength scale.


@pytest.mark.parametrize("schedule", ["linear", "squaredcos_cap_v2"])
@pytest.mark.parametrize("steps", [4, 20, 1000])
def test_strength_is_the_fraction_of_the_schedule(schedule: str, steps: int) -> None:
    scheduler = diffusers.DDIMScheduler(beta_schedule=schedule, timestep_spacing="trailing")
    scheduler.set_timesteps(steps)
    alpha_bar = torch.cumprod(1 - scheduler.betas.double(), 0)[scheduler.timesteps]
    model = model_of(tiny(), scheduler)
    strength = 1 - torch.arange(steps, dtype=torch.float64) / steps
    expected = ((1 - alpha_bar) / alpha_bar).sqrt()
    torch.testing.assert_close(model.sigma(strength), expected, rtol=1e-9, atol=0)
    path = model.path(Plan(torch.zeros(1, 3, 8, 8), ONE, steps=steps))
    assert len(path) == steps
    ours = torch.stack([path.sigma(i).flatten()[0] for i in range(steps)]).double()
    torch.testing.assert_close(ours, expected, rtol=1e-6, atol=0)


@pytest.mark.parametrize(
    "scheduler",
    [
        diffusers.DDPMScheduler(),
        diffusers.DDPMScheduler(prediction_type="v_prediction", rescale_betas_zero_snr=True),
        diffusers.PNDMScheduler(),
        diffusers.ScoreSdeVeScheduler(),
        diffusers.KarrasVeScheduler(),
    ],
    ids=lambda scheduler: type(scheduler).__name__,
)
def test_strength_rises_without_a_jump_from_zero(scheduler: Any) -> None:
    model = UNetModel(
        "x", lambda x, s: x, 3, 2, None, torch.device("cpu"), levels=convention_of(scheduler).levels
    )
    s = torch.linspace(0, 1, 20_001, dtype=torch.float64)
    sigma = model.sigma(s)
    assert sigma[0] == 0
    assert bool((sigma.diff() > 0).all())
    assert bool(sigma.isfinite().all())
    first = 1 / len(model.levels)
    below, above = model.sigma(torch.tensor([first - 1e-9, first + 1e-9], dtype=torch.float64))
    assert above - below < 1e-4 * above
    assert model.sigma(s.float()).dtype == torch.float32
    with pytest.raises(dd.InputError, match=r"strength must lie in \[0, 1\]"):
        model.sigma(torch.tensor([1.5]))


def test_levels_of_variance_exploding_schedules_are_on_our_scale() -> None:
    scheduler = diffusers.ScoreSdeVeScheduler()
    levels = convention_of(scheduler).levels
    torch.testing.assert_close(levels.float(), 2 * scheduler.discrete_sigmas, rtol=1e-5, atol=0)


def test_zero_terminal_snr_runs() -> None:
    scheduler = diffusers.DDIMScheduler(prediction_type="v_prediction", rescale_betas_zero_snr=True)
    image = torch.zeros(1, 3, 16, 16)
    end = model_of(tiny(), scheduler).run(Plan(image, ONE, steps=4), noise_for(image))
    assert bool(end.isfinite().all())


# Networks with a closed form.


class Exact(diffusers.UNet2DModel):  # type: ignore[misc]
    """A network that predicts the noise of pictures from a Gaussian prior, without error."""

    prior: Gaussian
    log_sigmas: NDArray[np.float64]

    def forward(self, x_t: Tensor, t: Tensor, return_dict: bool = True) -> tuple[Tensor]:
        assert t.shape == (len(x_t),)
        at = np.interp(t.double().numpy(), np.arange(len(self.log_sigmas)), self.log_sigmas)
        sigma = torch.from_numpy(np.exp(at)).view(-1, 1, 1, 1).to(x_t)
        x = x_t * (1 + sigma**2).sqrt()
        return ((x - self.prior(x, sigma)) / sigma,)


def exact_model(prior: Gaussian, channels: int = 1) -> UNetModel:
    scheduler = diffusers.DDPMScheduler(clip_sample=False)
    config = dict(tiny(channels).config)
    unet = Exact(**{k: v for k, v in config.items() if not k.startswith("_")}).double().eval()
    unet.prior = prior
    unet.log_sigmas = convention_of(scheduler).levels.log().numpy()
    return model_of(unet, scheduler)


@pytest.mark.parametrize("sigma", [0.02, 0.3, 5.0, 100.0])
def test_an_exact_network_gives_the_exact_denoiser(sigma: float) -> None:
    prior = gaussian(1, 4, 4)
    x = normal(2, 1, 4, 4, seed=3) * (1 + sigma)
    levels = torch.tensor([sigma, 0.7 * sigma], dtype=torch.float64).view(2, 1, 1, 1)
    ours = exact_model(prior).denoiser(x, levels)
    torch.testing.assert_close(ours, prior(x, levels), rtol=1e-7, atol=1e-7)
    assert torch.equal(exact_model(prior).denoiser(x, 0 * levels), x)


def run_watched(model: UNetModel, plan: Plan, seed: int = 0) -> tuple[Tensor, list[Step]]:
    steps: list[Step] = []
    end = model.run(plan, noise_for(plan.image, seed, model.channels), steps.append)
    return end, steps


def test_a_lifted_run_asks_for_the_whole_picture_at_the_highest_level() -> None:
    """Pixels that wait or are kept are shown as the original, noised to that level."""
    prior, image = gaussian(1, 4, 4), 0.3 * normal(1, 1, 4, 4, seed=7)
    strength = torch.linspace(0, 1, 4, dtype=torch.float64).view(1, 1, 1, 4).expand(1, 1, 4, 4)
    model = exact_model(prior)
    end, steps = run_watched(model, Plan(image, strength, steps=6))
    assert len(steps) == 6
    assert torch.equal(end[..., 0], image[..., 0])
    noise, x = noise_for(image, 0, 1)(0).double(), None
    for step in steps:
        top = step.sigma.max().view(1, 1, 1, 1)
        frozen = image + top * noise
        seen = frozen if x is None else torch.where(step.sigma < top, frozen, x)
        expected = torch.where(step.sigma > 0, prior(seen, top), image)
        torch.testing.assert_close(step.denoised, expected, rtol=1e-6, atol=1e-6)
        x = step.x


def test_a_run_ends_where_the_flow_of_a_gaussian_does() -> None:
    """x(0) = μ + U sqrt(λ / (λ + σ²)) Uᵀ (x - μ), with Σ = U λ Uᵀ."""
    prior, image = gaussian(1, 4, 4), 0.3 * normal(1, 1, 4, 4, seed=7)
    model = exact_model(prior)
    half = torch.full((1, 1, 1, 1), 0.5, dtype=torch.float64)
    end, _ = run_watched(model, Plan(image, half, steps=200, solver="heun"))
    sigma = model.sigma(half)
    x = image + sigma * noise_for(image, 0, 1)(0).double()
    variances, axes = torch.linalg.eigh(prior.covariance)
    shrink = axes @ ((variances / (variances + sigma.flatten() ** 2)).sqrt()[:, None] * axes.mT)
    expected = prior.mean.flatten() + shrink @ (x - prior.mean).flatten()
    torch.testing.assert_close(end.flatten(), expected, rtol=0, atol=1e-3)


def test_a_grey_network_is_told_a_grey_picture_s_own_noise() -> None:
    """No colour noise is made up for it, and the posterior mean is exact."""
    height, width, sigma = 6, 10, 25 / 127.5
    d = height * width
    prior = Gaussian(torch.zeros(1, height, width).double(), 0.1 * torch.eye(d).double())
    grey = np.random.default_rng(0).uniform(0.2, 0.8, (height, width)).astype(np.float32)
    result = dd.denoise(grey, noise_level_8bit=25, model=exact_model(prior))
    expected = (0.1 / (0.1 + sigma**2) * (2 * grey - 1) + 1) / 2
    np.testing.assert_allclose(result.image, expected, rtol=0, atol=1e-6)


# Loading, and the package's tasks.


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A DDPM pipeline that has been saved."""
    path = tmp_path_factory.mktemp("ddpm")
    diffusers.DDPMPipeline(tiny(), diffusers.DDPMScheduler()).save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def grey_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("grey")
    scheduler = diffusers.DDIMScheduler(beta_schedule="squaredcos_cap_v2")
    diffusers.DDIMPipeline(tiny(1), scheduler).save_pretrained(path)
    return path


def half(shape: tuple[int, ...], value: float = 1.0) -> NDArray[np.float32]:
    """0 in the left half, `value` in the right, rising in between where it is an edit."""
    out = np.zeros(shape[:2], dtype=np.float32)
    out[:, shape[1] // 2 :] = value
    return out


def needs(name: str, shape: tuple[int, ...]) -> dict[str, Any]:
    soft = half(shape) * np.linspace(0.1, 1, shape[0], dtype=np.float32)[:, None]
    noise = half(shape, 20)
    return {
        "edit": {"strength": soft},
        "inpaint": {"mask": half(shape)},
        "denoise": {"noise_level_8bit": noise},
        "restore": {"noise_level_8bit": noise, "damage": half(shape)},
    }[name]


def picture(*shape: int) -> NDArray[np.uint8]:
    return np.random.default_rng(2).integers(0, 256, shape, dtype=np.uint8)


def call(name: str, image: Any, **settings: Any) -> dd.Result:
    return getattr(dd, name)(image, **needs(name, image.shape), steps=3, **settings)  # type: ignore[no-any-return]


@pytest.mark.parametrize("grey", [False, True])
@pytest.mark.parametrize("name", ["denoise", "edit", "inpaint", "restore"])
def test_every_task_runs_and_keeps_what_it_is_to_keep(
    name: str, grey: bool, folder: Path, grey_folder: Path
) -> None:
    image = picture(21, 27) if grey else picture(21, 27, 3)
    model = str(grey_folder if grey else folder)
    result = call(name, image, model=model, seed=3)
    assert result.image.shape == image.shape
    assert result.image.dtype == image.dtype
    assert np.array_equal(result.image[:, :13], image[:, :13])
    assert not np.array_equal(result.image[:, 13:], image[:, 13:])
    again = call(name, image, model=dd.load_model(model), seed=3)
    assert np.array_equal(again.image, result.image)
    if name != "denoise":  # its one estimate takes no noise where the level is the same
        assert not np.array_equal(call(name, image, model=model, seed=4).image, result.image)


@pytest.mark.parametrize("estimate", ["mean", "sample"])
@pytest.mark.parametrize("grey", [False, True])
def test_upscaling(estimate: Any, grey: bool, folder: Path, grey_folder: Path) -> None:
    image = picture(12, 16) if grey else picture(12, 16, 3)
    given: dict[str, Any] = {"model": grey_folder if grey else folder, "passes": 2, "steps": 2}
    large = dd.upscale(image, 2, kernel="average", estimate=estimate, **given).image
    assert large.shape == (24, 32, *image.shape[2:])
    means = large.reshape(12, 2, 16, 2, -1).mean((1, 3)).reshape(image.shape)
    if estimate == "mean":  # an untrained network's samples are clipped nearly everywhere
        assert np.median(np.abs(means - image)) <= 0.5
    else:
        assert large.std() > 1


@pytest.mark.parametrize("estimate", ["mean", "sample"])
@pytest.mark.parametrize("grey", [False, True])
def test_deblurring(estimate: Any, grey: bool, folder: Path, grey_folder: Path) -> None:
    image = picture(12, 16) if grey else picture(12, 16, 3)
    given: dict[str, Any] = {"model": grey_folder if grey else folder, "passes": 2, "steps": 2}
    settings = {"sigma": 1, "noise_level_8bit": 2, "strength": half((12, 16), 1), **given}
    made = dd.deblur(image, estimate=estimate, **settings).image
    assert made.shape == image.shape
    assert np.array_equal(made[:, :8], image[:, :8])
    assert not np.array_equal(made, image)


def test_a_grey_network_makes_no_colours(folder: Path, grey_folder: Path) -> None:
    raw = picture(12, 16)
    made = dd.demosaic(raw, model=folder, passes=2)
    assert made.image.shape == (12, 16, 3)
    with pytest.raises(dd.InputError, match="knows 1 channel"):
        dd.demosaic(raw, model=grey_folder, passes=2)
    with pytest.raises(dd.InputError, match="colours have three"):
        dd.colorize(raw, model=grey_folder)


@pytest.mark.parametrize("grey", [False, True])
def test_deblocking(grey: bool, folder: Path, grey_folder: Path) -> None:
    image = picture(21, 27) if grey else picture(21, 27, 3)
    strength = half(image.shape)
    for model in (grey_folder, folder) if grey else (folder,):
        result = dd.deblock(image, quality=20, strength=strength, model=model, passes=2)
        assert result.image.shape == image.shape
        assert np.array_equal(result.image[:, :13], image[:, :13])
        assert not np.array_equal(result.image[:, 13:], image[:, 13:])


def test_a_colour_network_edits_grey_pictures(folder: Path) -> None:
    image = picture(20, 20)
    result = dd.denoise(image, noise_level_8bit=half(image.shape, 20), model=folder)
    assert result.image.shape == image.shape
    assert np.array_equal(result.image[:, :10], image[:, :10])


def test_several_samples_and_their_deviation(folder: Path) -> None:
    result = call("edit", picture(16, 16, 3), model=folder, samples=2, solver="dpmpp_2m_sde")
    assert len(result.images) == 2
    assert result.std is not None
    assert result.std[:, 8:].min() > 0


def test_grey_networks_refuse_colour(grey_folder: Path) -> None:
    with pytest.raises(dd.InputError, match=r"knows grey pictures only and this one is in colour"):
        call("edit", picture(16, 16, 3), model=grey_folder)


def test_views_are_refused(folder: Path) -> None:
    with pytest.raises(dd.InputError, match="is not local"):
        call("edit", picture(16, 16, 3), model=folder, views=2)


def test_a_folder_is_the_pipeline_that_was_saved(folder: Path) -> None:
    pipe = diffusers.DDPMPipeline.from_pretrained(folder)
    x, sigma = torch.randn(1, 3, 19, 16), 0.5 * ONE
    loaded = dd.load_model(folder, device="cpu", precision="fp32")
    assert isinstance(loaded, UNetModel)
    assert loaded is dd.load_model(f"diffusers:{folder}", device="cpu", precision="fp32")
    assert torch.equal(loaded.denoiser(x, sigma), dd.load_model(pipe).denoiser(x, sigma))  # type: ignore[attr-defined]
    rough = dd.load_model(folder, device="cpu", precision="bf16").denoiser(x, sigma)  # type: ignore[attr-defined]
    assert not torch.equal(rough, loaded.denoiser(x, sigma))
    torch.testing.assert_close(rough, loaded.denoiser(x, sigma), rtol=0, atol=0.05)


def test_sizes_are_mirrored_to_whole_strides(folder: Path) -> None:
    """What the network sees of 15 x 17 pixels is 16 x 18, of which the rest is cut away."""
    model = dd.load_model(folder, device="cpu", precision="fp32")
    assert isinstance(model, UNetModel)
    x = torch.randn(1, 3, 15, 17)
    wide = torch.cat([x, x[..., 13:14, :]], dim=-2)
    wide = torch.cat([wide, wide[..., 15:16]], dim=-1)
    expected = model.denoiser(wide, ONE)[..., :15, :17]
    torch.testing.assert_close(model.denoiser(x, ONE), expected)


def test_a_folder_saved_anew_is_loaded_anew(tmp_path: Path) -> None:
    x, seen = torch.randn(1, 3, 16, 16), []
    for seed in (0, 1):
        pipe = diffusers.DDPMPipeline(tiny(seed=seed), diffusers.DDPMScheduler())
        pipe.save_pretrained(tmp_path)
        seen.append(dd.load_model(tmp_path).denoiser(x, ONE))  # type: ignore[attr-defined]
    assert not torch.equal(*seen)


def test_a_bare_network_takes_its_scheduler_s_folder(tmp_path: Path, folder: Path) -> None:
    shared = {"device": "cpu", "precision": "fp32"}
    tiny().save_pretrained(tmp_path / "unet")
    diffusers.DDPMScheduler().save_pretrained(tmp_path / "scheduler")
    x = torch.randn(1, 3, 16, 16)
    expected = dd.load_model(folder, **shared).denoiser(x, ONE)  # type: ignore[attr-defined]
    bare = f"diffusers:{tmp_path / 'unet'}"
    models: list[Any] = [
        dd.load_model(bare, config=tmp_path / "scheduler", **shared),
        dd.load_model(bare, config=tmp_path / "scheduler" / "scheduler_config.json", **shared),
        dd.load_model(tiny(), config=tmp_path / "scheduler"),
    ]
    with pytest.raises(dd.InputError, match=r"holds no scheduler_config\.json: name the folder"):
        dd.load_model(bare)
    with pytest.raises(dd.InputError, match="has no scheduler: name its folder with config="):
        dd.load_model(tiny())
    diffusers.DDPMScheduler().save_pretrained(tmp_path / "unet")  # side by side, as old ones are
    models.append(dd.load_model(bare, **shared))
    for model in models:
        torch.testing.assert_close(model.denoiser(x, ONE), expected)


def test_loaded_objects_take_no_settings(folder: Path) -> None:
    pipe = diffusers.DDPMPipeline.from_pretrained(folder)
    with pytest.raises(dd.InputError, match="precision was given with a model that is loaded"):
        dd.load_model(pipe, precision="fp32")
    with pytest.raises(dd.InputError, match="has its own scheduler: leave config= out"):
        dd.load_model(pipe, config=folder)
    with pytest.raises(dd.InputError, match="holds its own scheduler: leave config= out"):
        dd.load_model(folder, config=folder)


# Bad input.


def edited(file: str, **changes: Any) -> Callable[[Path], None]:
    def edit(path: Path) -> None:
        described = json.loads((path / file).read_text("utf-8"))
        (path / file).write_text(json.dumps(described | changes), "utf-8")

    return edit


def pickled(path: Path) -> None:
    weights = path / "unet" / "diffusion_pytorch_model.safetensors"
    weights.rename(weights.with_suffix(".bin"))


def truncated(path: Path) -> None:
    weights = path / "unet" / "diffusion_pytorch_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:5000])


def thinned(path: Path) -> None:
    from safetensors.torch import load_file, save_file

    weights = path / "unet" / "diffusion_pytorch_model.safetensors"
    tensors = load_file(weights)
    del tensors["conv_in.weight"]
    save_file(tensors, weights)


UNET, SCHEDULER = "unet/config.json", "scheduler/scheduler_config.json"
DAMAGE: dict[str, tuple[Callable[[Path], None], str]] = {
    "pickle": (pickled, r"as a pickle \(diffusion_pytorch_model\.bin\), which is not read: save"),
    "truncated": (truncated, r"cannot be loaded \("),
    "a weight missing": (thinned, r"do not fit its config\.json \('conv_in\.weight' is missing"),
    "no weights": (
        lambda p: (p / "unet" / "diffusion_pytorch_model.safetensors").unlink(),
        "holds no weights: save the model",
    ),
    "no description": (lambda p: (p / UNET).unlink(), r"config\.json' cannot be read"),
    "no scheduler": (lambda p: (p / SCHEDULER).unlink(), r"holds no scheduler_config\.json: name"),
    "not json": (lambda p: (p / SCHEDULER).write_text("{"), r"cannot be read \("),
    "a list": (lambda p: (p / SCHEDULER).write_text("[1]"), "holds no description of a model"),
    "no class": (edited(SCHEDULER, _class_name=None), "names no _class_name of Diffusers"),
    "another class": (edited(UNET, _class_name="UNet1DModel"), "holds a UNet1DModel: only a"),
    "no scheduler's class": (
        edited(SCHEDULER, _class_name="UNet2DModel"),
        "names UNet2DModel, which is no scheduler of Diffusers",
    ),
    "a flow": (
        edited(SCHEDULER, _class_name="FlowMatchEulerDiscreteScheduler"),
        "FlowMatchEulerDiscreteScheduler has no betas, so that its noise levels are not known",
    ),
    "beta schedule": (edited(SCHEDULER, beta_schedule="steep"), r"cannot be built \(steep is not"),
    "betas": (edited(SCHEDULER, trained_betas=[0.1, 2.0]), "betas must be a 1-D array"),
    "prediction": (
        edited(SCHEDULER, prediction_type="flow"),
        "prediction_type is 'flow': only epsilon, sample, v_prediction are known",
    ),
    "zero snr": (
        edited(SCHEDULER, rescale_betas_zero_snr=True),
        "ends at zero signal, where predicted noise says nothing of the picture: set",
    ),
    "blocks": (edited(UNET, down_block_types=["DownBlock2D", "No"]), r"cannot be loaded \(No "),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_bad_folders_are_refused_in_a_sentence(name: str, folder: Path, tmp_path: Path) -> None:
    damage, sentence = DAMAGE[name]
    bad = tmp_path / "bad"
    shutil.copytree(folder, bad)
    damage(bad)
    with pytest.raises(dd.InputError, match=sentence) as caught:
        dd.load_model(bad)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("config", "sentence"),
    [
        ({"in_channels": 4, "out_channels": 4}, "makes 4 channels of 4: only those that make"),
        ({"out_channels": 6}, "makes 6 channels of 3: only those that make"),
        ({"num_class_embeds": 10}, "needs class labels: use an unconditional one"),
    ],
)
def test_networks_that_need_more_are_refused(config: dict[str, Any], sentence: str) -> None:
    pipe = diffusers.DDPMPipeline(tiny(**config), diffusers.DDPMScheduler())
    with pytest.raises(dd.InputError, match=sentence):
        dd.load_model(pipe)


def test_a_network_in_training_is_refused_if_it_drops_out() -> None:
    scheduler = diffusers.DDPMScheduler()
    unet = tiny(dropout=0.1).train()
    with pytest.raises(dd.InputError, match=r"is being trained, with dropout: call its eval\(\)"):
        dd.load_model(diffusers.DDPMPipeline(unet, scheduler))
    dd.load_model(diffusers.DDPMPipeline(tiny().train(), scheduler))


def test_other_objects_and_folders_are_refused(tmp_path: Path) -> None:
    with pytest.raises(dd.InputError, match="a DDPMScheduler is no model: give a pipeline, or"):
        dd.load_model(diffusers.DDPMScheduler())
    with pytest.raises(dd.InputError, match=r"holds no model_index\.json: point to one that"):
        dd.load_model(f"diffusers:{tmp_path}")
    (tmp_path / "config.json").write_text('{"_class_name": "UNet2DModel"}')
    with pytest.raises(dd.InputError, match="precision 'fp8' is not known"):
        dd.load_model(f"diffusers:{tmp_path}", precision="fp8")


def test_the_scalar_denoiser_refuses_maps(folder: Path) -> None:
    model = dd.load_model(folder)
    with pytest.raises(dd.InputError, match=r"wrap its denoiser in core\.lift"):
        model.denoiser(torch.zeros(1, 3, 8, 8), torch.rand(1, 1, 8, 8))  # type: ignore[attr-defined]


def test_without_diffusers_the_extra_is_named(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = shutil.copytree(folder, tmp_path / "copy")  # not loaded yet
    monkeypatch.setitem(sys.modules, "diffusers", None)
    named = re.escape("pip install 'differential-diffusion[diffusers]'")
    with pytest.raises(dd.MissingExtraError, match=named):
        dd.load_model(copy)
