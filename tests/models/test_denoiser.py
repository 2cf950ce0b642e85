"""Models of our own kind: the noise that their samplers renew."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from differential_diffusion.core import Plan, PositionalNoise
from differential_diffusion.errors import InputError
from differential_diffusion.models import DenoiserModel
from differential_diffusion.models.checkpoint import CheckpointConfig, save_checkpoint
from differential_diffusion.models.denoiser import from_checkpoint
from differential_diffusion.nn import SigmaMapUNet, UNetConfig

VARIANCE = 0.25


def white(x: Tensor, sigma: Tensor) -> Tensor:
    """E[x0 | x] of independent pixels, N(0, 0.25)."""
    return x * VARIANCE / (VARIANCE + sigma * sigma)


MODEL = DenoiserModel("white", white, 3, 1, 0, torch.device("cpu"))


def sampled(model: DenoiserModel, solver: str) -> tuple[Tensor, Any]:
    plan = Plan(torch.zeros(1, 3, 96, 96), torch.ones(1, 1, 1, 1), steps=8, solver=solver)
    return model.run(plan, PositionalNoise((5,), 3, 96, 96)), model.path(plan)


def test_renewed_noise_is_scaled() -> None:
    """Ancestral steps are linear here, so that the variance follows a recursion."""
    s_noise = 1.3
    made, path = sampled(replace(MODEL, s_noise=s_noise), "ancestral")
    variance = float(path.sigma(0)) ** 2
    for index in range(path.steps):
        sigma, following = (float(path.sigma(index + k)) for k in (0, 1))
        r = following / sigma
        keep = r * r + (1 - r * r) * VARIANCE / (VARIANCE + sigma**2)
        variance = keep**2 * variance + s_noise**2 * following**2 * (1 - r * r)
    assert float(made.var()) == pytest.approx(variance, rel=0.04)
    plain, _ = sampled(MODEL, "ancestral")
    assert float(plain.var()) < 0.95 * variance


def test_deterministic_solvers_renew_none() -> None:
    louder = replace(MODEL, s_noise=1.3)
    assert torch.equal(sampled(louder, "dpmpp_2m")[0], sampled(MODEL, "dpmpp_2m")[0])


def test_checkpoints_say_how_much(tmp_path: Path) -> None:
    network = SigmaMapUNet(UNetConfig(channels=(8, 8, 8), blocks=(1, 1, 1), embedding_channels=4))
    config = CheckpointConfig(network.config, s_noise=1.01)
    save_checkpoint(tmp_path, network, config, torch.float32)
    loaded = from_checkpoint(tmp_path, None, name="own", device=torch.device("cpu"))
    assert loaded.s_noise == 1.01
    text = config.to_json().replace('  "s_noise": 1.01,\n', "")
    assert "s_noise" not in text
    assert CheckpointConfig.from_json(text, tmp_path).s_noise == 1  # as older ones were saved


@pytest.mark.parametrize(
    "changed", [{"s_noise": "abc"}, {"s_noise": -1}, {"rho": None}, {"sigma_min": 30.0}]
)
def test_scales_that_are_none_are_said(changed: dict[str, Any], tmp_path: Path) -> None:
    described = json.loads(CheckpointConfig(UNetConfig()).to_json())
    with pytest.raises(InputError, match=next(iter(changed))):
        CheckpointConfig.from_json(json.dumps(described | changed), tmp_path)
