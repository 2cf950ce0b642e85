"""A folder of small pictures and a configuration that trains on them in seconds."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

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
def server() -> Iterator[Server]:
    """Runs training in processes of its own."""
    if not Path("/proc/self/stat").is_file():
        pytest.skip("needs fork and /proc")
    made = Server()
    yield made
    made.close()
