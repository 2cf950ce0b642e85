"""A folder of small pictures and a configuration that trains on them in seconds."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from differential_diffusion.training import CodecConfig, train

from .processes import Server


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pictures")
    rng = np.random.default_rng(0)
    for k in range(6):
        smooth = np.kron(rng.integers(0, 256, (5, 6, 3)), np.ones((16, 16, 1)))
        Image.fromarray(smooth.astype(np.uint8)).save(folder / f"{k}.png")
    return folder


@pytest.fixture
def settings(pictures: Path, tmp_path: Path) -> dict[str, object]:
    return {
        "output": str(tmp_path / "run"),
        "data": {"path": str(pictures), "validation": 2, "patch_size": 16},
        "steps": 12,
        "batch_size": 4,
        "precision": "fp32",
        "network": {"channels": [16, 16], "blocks": [1, 1], "embedding_channels": 4},
        "optimizer": {"warmup_steps": 2},
        "validation": {"every": 6, "crop": 32, "sample_steps": 2},
        "checkpoint": {"every": 2, "keep": 2},
    }


@pytest.fixture(scope="session")
def colours(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures of one colour each."""
    folder, rng = tmp_path_factory.mktemp("colours"), np.random.default_rng(0)
    drawn = rng.normal([150, 100, 60], [40, 30, 30], (64, 3)).clip(0, 255).astype(np.uint8)
    for index, colour in enumerate(drawn):
        Image.fromarray(np.full((8, 8, 3), colour, np.uint8)).save(folder / f"{index}.png")
    return folder


@pytest.fixture(scope="session")
def colour_codec(colours: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A codec that was trained on them, in half a minute."""
    config = {
        "kind": "codec",
        "output": str(tmp_path_factory.mktemp("codec")),
        "data": {"path": str(colours), "validation": 8, "patch_size": 8, "cut": "fit"},
        "steps": 300,
        "precision": "fp32",
        "network": {"channels": [16, 16], "norm_groups": 8, "latent_channels": 3},
        "loss": {"reconstruction": "l2"},
        "optimizer": {
            "learning_rate": 0.01,
            "muon_learning_rate": 0.03,
            "warmup_steps": 10,
            "ema_halflife": 20,
        },
        "validation": {"every": 1000},
        "checkpoint": {"every": 1000},
    }
    return train(CodecConfig.model_validate(config))


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    """Runs training in processes of its own."""
    if not Path("/proc/self/stat").is_file():
        pytest.skip("needs fork and /proc")
    made = Server()
    yield made
    made.close()
