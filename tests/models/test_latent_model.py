"""Models of latents as models of pictures: the codec, maps on the latent grid, kept pixels."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import differential_diffusion as dd
from differential_diffusion.core import Plan, PositionalNoise
from differential_diffusion.core.types import Step
from differential_diffusion.engine.samples import draw_samples, interpolate
from differential_diffusion.errors import InputError
from differential_diffusion.files import new_folder
from differential_diffusion.models import DenoiserModel, LatentModel, load_model
from differential_diffusion.models.checkpoint import (
    CheckpointConfig,
    LatentSpace,
    save_checkpoint,
)
from differential_diffusion.models.export import read_source, write_model
from differential_diffusion.models.latent_model import CODEC_FOLDER, Codec
from differential_diffusion.nn import Conditions, SigmaMapUNet, UNetConfig

from ..autoencoders import tiny_autoencoder

SPACE = LatentSpace((0.3, -1.0), (0.5, 2.0))
AIM = torch.tensor([0.2, -0.4]).view(1, 2, 1, 1)


def aimed(aim: Tensor) -> Any:
    """A denoiser that knows one picture of latents only: samples end there exactly."""
    return lambda x, sigma: torch.where(sigma > 0, aim.to(x).expand_as(x), x)


def model(pixel_channels: int = 3, **changed: Any) -> LatentModel:
    vae = tiny_autoencoder(pixel_channels=pixel_channels)
    inner = DenoiserModel("latent", aimed(AIM), 2, 1, None, torch.device("cpu"))
    return LatentModel(replace(inner, **changed), Codec(vae, SPACE, 0.5))


def picture(height: int, width: int, channels: int = 3) -> Tensor:
    rng = torch.Generator().manual_seed(1)
    return torch.rand(1, channels, height, width, generator=rng) * 2 - 1


def run(of: LatentModel, plan: Plan, on_step: Any = None) -> Tensor:
    noise = PositionalNoise(plan.seeds, *plan.image.shape[1:])
    return of.run(plan, noise, on_step)


def in_diffusers_words(vae: Any, latents: Tensor) -> Tensor:
    """Pixels of normalised latents, by hand."""
    mean, deviation = (torch.tensor(v).view(1, -1, 1, 1) for v in (SPACE.mean, SPACE.deviation))
    with torch.no_grad():
        made: Tensor = vae.decode(latents / 0.5 * deviation + mean).sample
    return made


def test_latents_are_normalised_as_stated() -> None:
    codec = model().codec
    x = picture(16, 24)
    with torch.no_grad():
        y = codec.vae.encode(x).latent_dist.mean
    expected = torch.stack([0.5 * (y[:, 0] - 0.3) / 0.5, 0.5 * (y[:, 1] + 1) / 2], dim=1)
    z = codec.encode(x)
    assert z.shape == (1, 2, 4, 6)
    torch.testing.assert_close(z, expected)
    torch.testing.assert_close(
        codec.decode(z), in_diffusers_words(codec.vae, z), rtol=1e-4, atol=1e-5
    )


def test_a_cell_moves_as_its_strongest_pixel_and_the_others_not_at_all() -> None:
    made = model()
    x, strength = picture(16, 24), torch.zeros(1, 1, 16, 24)
    strength[..., 5, 9] = 0.5  # a pixel in the cell (1, 2)
    strength[..., 12:, :4] = 1.0
    plan = Plan(x, strength, steps=6, options={"exact": False})
    z = made.codec.encode(x)
    z[..., 1, 2], z[..., 3, 0] = AIM[..., 0, 0], AIM[..., 0, 0]
    expected = in_diffusers_words(made.codec.vae, z)
    torch.testing.assert_close(run(made, plan), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("size", [(16, 24), (13, 22)])
def test_kept_pixels_stay_bit_for_bit(size: tuple[int, int]) -> None:
    made, x = model(), picture(*size)
    strength = torch.zeros(1, 1, *size)
    strength[..., 3:8, 2:15] = 0.7
    out = run(made, Plan(x, strength, seeds=(1, 2), steps=4))
    assert out.shape == (2, 3, *size)
    kept = (strength == 0).expand_as(out)
    assert torch.equal(out[kept], x.expand_as(out)[kept])
    assert bool((out != x)[:, :, 4:7, 6:10].all())
    nothing = run(made, Plan(x, torch.zeros(1, 1, 1, 1), seeds=(1, 2), steps=4))
    assert torch.equal(nothing, x.expand_as(out))


def test_the_noise_is_that_of_the_latent_grid() -> None:
    """A denoiser that never moves anything leaves the noise that was drawn."""
    still = model(denoiser=lambda x, sigma: x, sigma_max=0.1)
    x = picture(16, 24)
    out = run(still, Plan(x, torch.ones(1, 1, 1, 1), seeds=(7,), steps=3))
    z = still.codec.encode(x) + 0.1 * PositionalNoise((7,), 2, 4, 6)(0)
    torch.testing.assert_close(out, in_diffusers_words(still.codec.vae, z), rtol=1e-4, atol=1e-5)


def test_steps_tell_how_to_decode_them() -> None:
    made, steps = model(), list[Step]()
    out = run(made, Plan(picture(13, 22), torch.ones(1, 1, 1, 1), steps=3), steps.append)
    assert len(steps) == 3
    assert steps[-1].decode is not None
    torch.testing.assert_close(steps[-1].decode(steps[-1].x), out)


def test_conditions_reach_the_denoiser_of_latents() -> None:
    def conditioned(told: Conditions) -> Any:
        at = 0.0 if told.labels is None else told.labels.view(-1, 1, 1, 1) * AIM
        return lambda x, sigma: torch.where(sigma > 0, (at + torch.zeros_like(x)), x)

    made = model(conditioned=conditioned, classes=("a", "b", "c"))
    plan = Plan(picture(8, 8), torch.ones(1, 1, 1, 1), seeds=(0, 1), steps=3)
    for told, factor in (
        (made.given(label=["b", "c"]), [1.0, 2.0]),
        (made.given(label="c", guidance_scale=1.5), [3.0, 3.0]),
    ):
        z = torch.tensor(factor).view(-1, 1, 1, 1) * AIM.expand(2, 2, 2, 2)
        expected = in_diffusers_words(made.codec.vae, z)
        torch.testing.assert_close(run(told, plan), expected, rtol=1e-4, atol=1e-5)
    with pytest.raises(InputError, match="knows no class 'd'"):
        made.given(label="d")


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"noise": torch.full((1, 1, 1, 1), 0.1)}, "cannot be told of noise"),
        ({"guide": lambda denoiser: denoiser}, "cannot be held to a measurement"),
        ({"options": {"prompt": "a cat"}}, "prompt was given"),
    ],
)
def test_what_latents_cannot_do_is_said(changed: dict[str, Any], message: str) -> None:
    plan = replace(Plan(picture(8, 8), torch.ones(1, 1, 1, 1), steps=2), **changed)
    with pytest.raises(InputError, match=message):
        run(model(), plan)


def test_a_grey_model_makes_grey_pictures_of_equal_channels() -> None:
    made, grey = model(pixel_channels=1), picture(8, 12, 1).expand(1, 3, 8, 12)
    strength = torch.zeros(1, 1, 8, 12)
    strength[..., :6] = 1
    out = run(made, Plan(grey, strength, steps=2))
    assert torch.equal(out, out[:, :1].expand_as(out))
    assert torch.equal(out[..., 6:], grey[..., 6:])
    with pytest.raises(InputError, match="grey pictures only"):
        run(made, Plan(picture(8, 12), strength, steps=2))


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    """A run's `final` with its codec, and a checkpoint without one."""
    torch.manual_seed(3)
    network = SigmaMapUNet(UNetConfig(2, (8,), (1,), 1, 4))
    torch.nn.init.normal_(network.head.weight, std=0.1)
    config = CheckpointConfig(network.config, latent=SPACE, size=(16, 16))
    folder = tmp_path / "final"
    for place in (folder, tmp_path / "checkpoints" / "step-00000001"):
        save_checkpoint(place, network, config, torch.float32)
    tiny_autoencoder().save_pretrained(folder / CODEC_FOLDER)
    return folder


def test_a_folder_with_a_codec_is_a_model_of_pictures(saved: Path) -> None:
    made = load_model(saved, device="cpu", precision="fp32")
    assert isinstance(made, LatentModel)
    assert (made.channels, made.size, made.codec.space) == (3, (16, 16), SPACE)
    rng = np.random.default_rng(0)
    photo = rng.integers(0, 256, (21, 30, 3), dtype=np.uint8)
    strength = np.zeros((21, 30), np.float32)
    strength[:, 14:] = 0.8
    result = dd.edit(photo, strength=strength, model=made, steps=3)
    assert np.array_equal(np.asarray(result.image)[:, :14], photo[:, :14])
    assert not np.array_equal(np.asarray(result.image)[:, 20:], photo[:, 20:])
    with pytest.raises(InputError, match="works on latents"):
        dd.denoise(photo, noise_level_8bit=20, model=made)


def test_an_export_takes_the_codec_along(saved: Path, tmp_path: Path) -> None:
    source = read_source(str(saved))
    with new_folder(tmp_path / "out") as folder:
        write_model(source, source.network, folder)
    plan = Plan(picture(16, 16), torch.ones(1, 1, 1, 1), steps=3)
    made, before = (
        run(load_model(path, device="cpu", precision="fp32"), plan)
        for path in (tmp_path / "out", saved)
    )
    assert torch.equal(made, before)
    with (
        pytest.raises(InputError, match="works on latents"),
        new_folder(tmp_path / "pipeline") as folder,
    ):
        write_model(source, source.network, folder, to="diffusers")


def test_a_checkpoint_of_the_run_finds_the_codec_of_the_run(saved: Path, tmp_path: Path) -> None:
    step = tmp_path / "checkpoints" / "step-00000001"
    made = load_model(step, device="cpu")
    assert isinstance(made, LatentModel)
    moved = step.rename(tmp_path / "alone")
    with pytest.raises(InputError, match="without its codec"):
        load_model(moved, device="cpu")


def test_a_codec_of_another_kind_is_refused(saved: Path) -> None:
    tiny_autoencoder(latent_channels=3).save_pretrained(saved / CODEC_FOLDER)
    with pytest.raises(InputError, match="has 3 channels of latents, the model 2"):
        load_model(saved, device="cpu")
    (saved / CODEC_FOLDER / "config.json").write_text(json.dumps({"_class_name": "VQModel"}))
    with pytest.raises(InputError, match="holds a VQModel"):
        load_model(saved, device="cpu")


@pytest.mark.parametrize(
    "latent",
    [
        {"mean": [0.0], "deviation": [1.0]},
        {"mean": [0, 0], "deviation": [1, 0]},
        {"mean": [0, 0], "deviation": [1]},
        {"mean": [0, 0]},
    ],
)
def test_statistics_that_are_none_are_said(saved: Path, latent: dict[str, Any]) -> None:
    path = saved / "config.json"
    described = json.loads(path.read_text())
    path.write_text(json.dumps(described | {"latent": latent}))
    with pytest.raises(InputError, match="not a model description of ours"):
        load_model(saved, device="cpu")


def test_samples_and_the_way_between_them(saved: Path) -> None:
    made = load_model(saved, device="cpu", precision="fp32")
    alone, both = ([one.pixels for one in draw_samples(made, n, seed=4, steps=3)] for n in (1, 2))
    assert np.abs(alone[0].astype(int) - both[0]).max() <= 1
    assert both[0].shape == (16, 16, 3)
    way = [one.pixels.astype(int) for one in interpolate(made, 4, 5, 3, steps=3)]
    assert np.abs(way[0] - alone[0]).max() <= 1
    assert np.abs(way[1] - way[0]).max() > 1
    assert np.abs(way[1] - way[2]).max() > 1
