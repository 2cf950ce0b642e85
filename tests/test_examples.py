"""The examples' networks, behind an enhancement and inside the sampling."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from PIL import Image

import differential_diffusion as dd


def example(repository: Path, name: str) -> ModuleType:
    """A script of the examples, as a module."""
    spec = importlib.util.spec_from_file_location(name, repository / "examples" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def photograph(repository: Path) -> Image.Image:
    with Image.open(repository / "examples" / "photograph.png") as opened:
        return opened.convert("RGB").crop((100, 40, 228, 168))


def test_the_segmenter_takes_the_nearest_colour(repository: Path, photograph: Image.Image) -> None:
    network = example(repository, "segmenter").Segmenter(4).learn(photograph)
    x = torch.from_numpy(np.asarray(photograph) / 127.5 - 1).float()
    distance = (x[:, :, None] - network.colours).square().sum(-1)
    labels = network.labels(photograph)
    chosen = distance.gather(2, labels[..., None])[..., 0]
    torch.testing.assert_close(chosen, distance.amin(-1), rtol=0, atol=1e-5)
    for k in range(4):  # where Lloyd's algorithm ends, each is the mean of its own
        assert (x[labels == k].mean(0) - network.colours[k]).abs().max() < 0.05


def test_the_segmenter_is_helped_by_the_enhancement(
    repository: Path, photograph: Image.Image
) -> None:
    network = example(repository, "segmenter").Segmenter().learn(photograph)
    clean = np.asarray(photograph)
    noise = 20 * np.random.default_rng(0).standard_normal(clean.shape)
    noisy = Image.fromarray(np.clip(np.rint(clean + noise), 0, 255).astype(np.uint8))
    truth = np.asarray(network.process_image(photograph))
    shares = [
        (np.asarray(network.process_image(picture)) == truth).all(-1).mean()
        for picture in (noisy, dd.enhance(noisy, "low").image)
    ]
    assert shares[1] > shares[0] + 0.1, shares


def test_the_style_guides_the_sampling(repository: Path, photograph: Image.Image) -> None:
    style = example(repository, "style")
    small, hatching = photograph.crop((0, 0, 64, 64)), style.hatching(128)
    distances = []
    for weight in (0.0, 4000.0):
        network = style.Style(hatching, weight=weight, steps=20)
        made = network.process_image(small)
        assert made.size == small.size
        distances.append(float(network(style.as_tensor(made))))
    assert distances[1] < 0.7 * distances[0], distances
    again = style.Style(hatching, weight=4000.0, steps=20).process_image(small)
    assert np.array_equal(np.asarray(again), np.asarray(made))
