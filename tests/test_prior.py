"""The bundled prior: its figures against published ones, and exactness of regions and tiles."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

import differential_diffusion as dd
from differential_diffusion.core import Plan, PositionalNoise, psnr
from differential_diffusion.engine import run_plan
from differential_diffusion.models import DenoiserModel
from differential_diffusion.nn import SigmaMapUNet, UNetConfig

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def prior() -> DenoiserModel:
    model = dd.load_model("prior", device="cpu", precision="fp32")
    assert isinstance(model, DenoiserModel)
    return model


def photographs(folder: Path, count: int) -> list[Tensor]:
    """The first photographs of CBSD68, each (1,3,H,W) in [-1,1]."""
    with tarfile.open(folder / "cbsd68.tar") as archive:
        names = sorted(archive.getnames())[:count]
        files = [archive.extractfile(name) for name in names]
        arrays = [np.asarray(Image.open(io.BytesIO(f.read())).convert("RGB")) for f in files if f]
    return [torch.from_numpy(a.copy()).permute(2, 0, 1)[None].float() / 127.5 - 1 for a in arrays]


def test_what_is_written_about_the_prior_is_true_of_it(prior: DenoiserModel) -> None:
    weights = Path(dd.__file__).parent / "weights"
    described = json.loads((weights / "prior.json").read_text(encoding="utf-8"))
    network = SigmaMapUNet(UNetConfig(**described["network"]))
    card = (weights / "README.md").read_text(encoding="utf-8")
    size = sum(parameter.numel() for parameter in network.parameters())
    figures = described["card"]["cbsd68_psnr"].values()
    assert f"{size / 1e6:.2f} million parameters" in card
    assert f"radius {network.receptive_radius} pixels" in card
    assert f"halo of {prior.halo} give" in card
    assert f"| this prior | {' | '.join(f'{figure:.2f}' for figure in figures)} |" in card
    assert f"{described['card']['patches']:,} patches" in card
    assert f"halo of {prior.halo} pixels" in (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.mark.slow
def test_denoises_as_its_card_says_and_better_than_published_bm3d(
    prior: DenoiserModel, shared_data: Path
) -> None:
    # CBM3D on CBSD68 at σ = 25, noise not clipped: 30.71 dB (Dabov et al., 2007).
    assert prior.card is not None
    stated = prior.card["cbsd68_psnr"]["25"]
    assert stated > 30.71
    scores, sigma = [], torch.full((1, 1, 1, 1), 25 / 127.5)
    for index, x0 in enumerate(photographs(shared_data, 68)):
        noise = PositionalNoise([index], *x0.shape[1:])(0)
        with torch.no_grad():
            estimate = prior.denoiser(x0 + sigma * noise, sigma).clamp(-1, 1)
        scores.append(float(psnr(estimate, x0, data_range=2.0)))
    assert sum(scores) / len(scores) == pytest.approx(stated, abs=0.03)


@pytest.mark.slow
def test_views_lower_the_error(prior: DenoiserModel, shared_data: Path) -> None:
    gains, sigma = [], torch.full((1, 1, 1, 1), 25 / 127.5)
    for index, x0 in enumerate(photographs(shared_data, 68)[::17]):
        x = x0 + sigma * PositionalNoise([index], *x0.shape[1:])(0)
        with torch.no_grad():
            one, two = (prior.averaged(views).denoiser(x, sigma) for views in (1, 2))
        gains.append(float(psnr(two, x0, data_range=2.0) - psnr(one, x0, data_range=2.0)))
    assert min(gains) > 0
    assert sum(gains) / len(gains) > 0.02


@pytest.mark.slow
def test_filling_told_each_pixels_noise_beats_filling_told_one_level(
    prior: DenoiserModel, shared_data: Path
) -> None:
    from differential_diffusion.core import lift

    x0 = photographs(shared_data, 1)[0][..., 100:260, 100:260].contiguous()
    hole = torch.zeros(1, 1, 160, 160)
    hole[..., 40:120:20, 20:140] = hole[..., 43:120:20, 20:140] = 1
    hole[..., 41:120:20, 20:140] = hole[..., 42:120:20, 20:140] = 1
    plan = Plan(x0, hole, seeds=(0, 1), steps=20)
    noise = PositionalNoise(plan.seeds, 3, 160, 160)
    native = prior.run(plan, noise)
    lifted = prior.with_denoiser(lift(prior.denoiser, x0, noise(0))).run(plan, noise)
    inside = hole.bool().expand_as(x0)

    def error(x: Tensor) -> float:
        return float(torch.stack([(s - x0[0])[inside[0]].square().mean() for s in x]).mean())

    assert error(native) < 0.8 * error(lifted)
    assert torch.equal(native[0][~inside[0]], x0[0][~inside[0]])


@pytest.mark.slow
def test_regions_and_tiles_equal_the_whole(prior: DenoiserModel) -> None:
    rng = torch.Generator().manual_seed(0)
    x = torch.nn.functional.interpolate(
        torch.rand(1, 3, 40, 50, generator=rng) * 2 - 1, size=(479, 643), mode="bicubic"
    ).clamp(-1, 1)
    strength = torch.zeros(1, 1, 479, 643)
    strength[..., 30:50, 600:640] = 1
    strength[..., 400:430, 20:60] = 0.5
    plan = Plan(x, strength, steps=4, seeds=(3,))
    whole = prior.run(plan, PositionalNoise(plan.seeds, 3, 479, 643))
    torch.testing.assert_close(run_plan(plan, prior), whole, rtol=0, atol=1e-4)
    plan = Plan(x, torch.zeros_like(strength), noise=torch.full((1, 1, 1, 1), 0.2), steps=1)
    whole = prior.run(plan, PositionalNoise(plan.seeds, 3, 479, 643))
    torch.testing.assert_close(run_plan(plan, prior, tile=256), whole, rtol=0, atol=1e-4)


def test_ships_within_its_limit_with_a_card(prior: DenoiserModel) -> None:
    folder = Path(dd.__file__).with_name("weights")
    assert (folder / "prior.safetensors").stat().st_size <= 16 * 2**20
    card = (folder / "README.md").read_text(encoding="utf-8")
    assert "non-commercial" in card
    assert prior.card
    assert prior.halo is not None
