"""Whole runs of every objective, with every kind of network, and with a loss of one's own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from differential_diffusion.core.metrics import psnr
from differential_diffusion.data.crops import to_tensor
from differential_diffusion.data.images import load_images
from differential_diffusion.models import DenoiserModel, load_model
from differential_diffusion.models.denoiser import LiftedModel
from differential_diffusion.nn.blocks import ResidualBlock
from differential_diffusion.training import load_config, train
from differential_diffusion.training.objectives import OBJECTIVES

from .test_processes import assert_near, end, exact, write

UNET2D: dict[str, Any] = {
    "block_out_channels": [32, 32],
    "down_block_types": ["DownBlock2D", "DownBlock2D"],
    "up_block_types": ["UpBlock2D", "UpBlock2D"],
    "layers_per_block": 1,
}


def trained(settings: dict[str, Any], tmp_path: Path) -> DenoiserModel:
    config = load_config(write(settings, tmp_path / "run.yaml"))
    model = load_model(train(config), device="cpu", precision="fp32")
    assert isinstance(model, DenoiserModel)
    return model


@pytest.mark.parametrize("maps", [True, False, "diffusers"])
@pytest.mark.parametrize("name", OBJECTIVES)
def test_every_objective_ends_in_a_model(
    settings: dict[str, Any], tmp_path: Path, name: str, maps: bool | str
) -> None:
    settings |= {"steps": 3, "objective": {"name": name, "maps": maps is True}}
    settings["validation"] = {"every": 3, "crop": 16, "sample_steps": 1, "pictures": 2}
    if maps == "diffusers":
        settings["network"] = {"diffusers": UNET2D}
    model = trained(settings, tmp_path)
    assert isinstance(model, LiftedModel) is (maps is not True)
    x = torch.rand(2, 3, 20, 24)
    size = (20, 24) if maps is True else (1, 1)
    assert torch.equal(model.denoiser(x, torch.zeros(2, 1, *size)), x)
    for level in (0.01, 0.3, 5.0):
        made = model.denoiser(x, torch.full((2, 1, *size), level))
        assert bool(made.isfinite().all())
        assert not torch.equal(made, x)
    if maps is True:
        sigma = torch.full((1, 1, 20, 24), 0.4)
        sigma[..., :10, :] = 0
        mixed = model.denoiser(x[:1], sigma)
        assert torch.equal(mixed[..., :10, :], x[:1, :, :10])
        assert not torch.equal(mixed, x[:1])


@pytest.mark.slow
@pytest.mark.parametrize("maps", [True, False])
@pytest.mark.parametrize("name", OBJECTIVES)
def test_every_objective_learns_to_denoise(
    settings: dict[str, Any], tmp_path: Path, name: str, maps: bool
) -> None:
    """On pictures held out; of flat cells, so that a small neighbourhood tells much."""
    settings |= {
        "steps": 300,
        "objective": {"name": name, "maps": maps},
        "noise": {"coloured": 0},
        "optimizer": {"warmup_steps": 20, "ema_halflife": 5, "muon_learning_rate": 0.03},
        "validation": {"every": 1000, "crop": 16, "sample_steps": 1, "pictures": 2},
        "checkpoint": {"every": 1000},
    }
    settings["data"] |= {"validation": 2}
    model = trained(settings, tmp_path)
    images = load_images(settings["data"]["path"])
    gains = []
    for held_out in images.split(2)[1]:
        x0 = to_tensor(held_out.pixels)[None]
        noise = torch.randn(x0.shape, generator=torch.Generator().manual_seed(1))
        sigma = torch.full((1, 1, 1, 1), 50 / 127.5)
        x = x0 + sigma * noise
        better = psnr(model.denoiser(x, sigma), x0, data_range=2.0) - psnr(x, x0, data_range=2.0)
        gains.append(float(better))
    assert min(gains) > 2.0, gains


def test_a_loss_of_one_s_own_is_the_one_that_is_lowered(
    settings: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the working directory, at validations too; ours by its path gives the same run."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    text = (
        "from differential_diffusion.training.objectives import squared_error\n"
        "calls = []\n"
        "def mine(regression):\n"
        "    calls.append(regression.predicted.shape)\n"
        "    error = regression.denoised - regression.x0\n"
        "    return error.abs().pow(3).mean((1, 2, 3))\n"
    )
    (tmp_path / "losses_of_a_user.py").write_text(text)
    ends = {}
    ours = "differential_diffusion.training.objectives:squared_error"
    for name, loss in (("own", None), ("ours", ours), ("mine", "losses_of_a_user:mine")):
        changes = {"output": str(tmp_path / name), "objective": {"loss": loss}}
        trained(settings | changes, tmp_path)
        ends[name] = end(tmp_path / name)
    assert_near(ends["own"], ends["ours"], 0)
    assert not torch.equal(ends["own"]["network.head.weight"], ends["mine"]["network.head.weight"])
    calls = sys.modules.pop("losses_of_a_user").calls
    # One of each of 12 steps; four bands of two sides at two validations and in the report.
    assert len(calls) == 12 + 3 * 8


@pytest.mark.slow
def test_the_command_finds_a_loss_in_the_working_directory(
    settings: dict[str, Any], tmp_path: Path
) -> None:
    """Also where the command is installed, which does not put that folder on Python's path."""
    (tmp_path / "losses_here.py").write_text(
        "def mine(r):\n    return (r.predicted - r.target).square().mean((1, 2, 3))\n"
    )
    settings |= {"steps": 1, "objective": {"loss": "losses_here:mine"}}
    write(settings, tmp_path / "run.yaml")
    code = "import sys; sys.path = [p for p in sys.path if p]; sys.argv = ['diffdiff', 'train', "
    code += "'run.yaml']; from differential_diffusion.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("kind", ["own", "diffusers"])
def test_activations_computed_anew_train_the_same_weights(
    settings: dict[str, Any], tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With twice the passes through the blocks."""
    made, calls, ends = exact(settings, steps=4), [], []
    made["validation"] = {"every": 4, "crop": 16, "sample_steps": 1, "pictures": 2}
    made["network"] |= {"dropout": 0.2}
    if kind == "diffusers":
        made |= {"network": {"diffusers": UNET2D | {"dropout": 0.2}}, "objective": {"maps": False}}
    forward = ResidualBlock.forward

    def counted(self: ResidualBlock, x: Tensor, embedding: Tensor) -> Tensor:
        calls.append(self.training)
        return forward(self, x, embedding)

    monkeypatch.setattr(ResidualBlock, "forward", counted)
    passes = []
    for anew in (False, True):
        calls.clear()
        output = str(tmp_path / str(anew))
        trained(made | {"output": output, "gradient_checkpointing": anew}, tmp_path)
        ends.append(end(output))
        passes.append(sum(calls))
    assert_near(*ends)
    assert passes == ([0, 0] if kind == "diffusers" else [4 * 3, 4 * 6])


def test_double_precision_keeps_to_it(settings: dict[str, Any], tmp_path: Path) -> None:
    """Weights, averages and moments; figures and pictures are made as well."""
    made = exact(settings, steps=2, validation={"every": 1, "crop": 16, "sample_steps": 2})
    config = load_config(write(made, tmp_path / "run.yaml"))
    train(config)
    state = end(config.output)
    single = {name.rpartition(".")[2] for name, t in state.items() if t.dtype != torch.float64}
    assert single <= {"step"}
    lines = (config.output / "metrics.jsonl").read_text().splitlines()
    records = [json.loads(line) for line in lines]
    assert len(records) == 2
    assert len(list((config.output / "samples").glob("*.png"))) == 2
