"""A folder with small pictures, a tiny model, and a way to run commands in it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner, Result

from differential_diffusion.cli import app
from differential_diffusion.models.checkpoint import CheckpointConfig, save_checkpoint
from differential_diffusion.nn import SigmaMapUNet, UNetConfig

Command = Callable[..., Result]


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of a small network with random weights."""
    folder = tmp_path_factory.mktemp("models") / "tiny"
    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = UNetConfig(channels=(8, 8), blocks=(1, 1))
        card = {"figures": {"psnr_25": 12.5}}
        save_checkpoint(
            folder, SigmaMapUNet(config), CheckpointConfig(config, card=card), torch.float32
        )
    return folder


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory: photo.png, other.png, and mask.png, white in rows 8 to 15."""
    rng = np.random.default_rng(0)
    for name in ("photo.png", "other.png"):
        Image.fromarray(rng.integers(0, 256, (24, 40, 3), dtype=np.uint8)).save(tmp_path / name)
    mask = np.zeros((24, 40), np.uint8)
    mask[8:16] = 255
    Image.fromarray(mask).save(tmp_path / "mask.png")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def run(folder: Path, tiny_model: Path) -> Command:
    """Run a command in `folder`, tasks with the tiny model."""

    def call(command: str, *arguments: str) -> Result:
        tasks = {"edit", "inpaint", "denoise", "restore", "task"}
        model = ["--model", str(tiny_model)] if command in tasks else []
        return CliRunner().invoke(app, [command, *arguments, *model], prog_name="diffdiff")

    return call
