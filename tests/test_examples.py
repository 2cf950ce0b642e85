"""The examples' networks, behind an enhancement and inside the sampling."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from PIL import Image

import differential_diffusion as dd
from differential_diffusion.tasks import TASKS


def example(repository: Path, name: str) -> ModuleType:
    """A script of the examples, as a module."""
    spec = importlib.util.spec_from_file_location(name, repository / "examples" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # as dataclasses want it
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


def test_the_gallery_shows_every_task(repository: Path) -> None:
    gallery = example(repository, "gallery")
    page = (repository / "docs" / "gallery.md").read_text("utf-8")
    done = {entry.command.split()[0] for entry in gallery.ENTRIES.values()}
    assert done == set(TASKS) - {"generate"}  # which is given nothing
    for name, entry in gallery.ENTRIES.items():
        command = entry.command.replace("{folder}/", "")
        assert f"diffdiff {command} -o {name}.png" in page
        shown = gallery.FOLDER / f"{name}.png"
        assert f"images/gallery/{name}.png" in page
        with Image.open(shown) as picture:
            assert picture.size == (608, 324)


@pytest.mark.parametrize("name", ["denoise", "colorize"])
def test_the_gallery_is_made_by_its_command(repository: Path, tmp_path: Path, name: str) -> None:
    gallery = example(repository, "gallery")
    with Image.open(gallery.PHOTOGRAPH) as opened:
        photo = np.asarray(opened.convert("RGB"))
    before, after = gallery.make(name, photo, tmp_path)
    assert after > before + 10
    with (
        Image.open(tmp_path / f"{name}.png") as made,
        Image.open(gallery.FOLDER / f"{name}.png") as kept,
    ):
        left = np.asarray(made)[30:, :300], np.asarray(kept)[30:, :300]
    assert np.array_equal(*left)  # what was given


def test_the_demo_runs(repository: Path, tmp_path: Path) -> None:
    command = [sys.executable, str(repository / "examples" / "demo.py"), "--output", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    with Image.open(tmp_path / "demo.png") as sheet:
        assert sheet.size[0] > 900


def test_the_notebook_is_made_of_the_tutorial(repository: Path) -> None:
    script = (repository / "examples" / "tutorial.py").read_text("utf-8")
    made = example(repository, "make_notebook").notebook(script)
    assert json.loads((repository / "examples" / "tutorial.ipynb").read_text("utf-8")) == made
    code = ["".join(c["source"]) for c in made["cells"] if c["cell_type"] == "code"]
    for cell in code:
        compile(cell, "tutorial", "exec")
    assert sum(map(len, code)) > 0.5 * len(script)


@pytest.mark.slow
def test_the_tutorial_runs_from_end_to_end(repository: Path, tmp_path: Path) -> None:
    """With few steps; all of its pictures are there, and kept pixels are kept (it checks)."""
    environment = os.environ | {"TUTORIAL_SHARE": "0.002", "TUTORIAL_FOLDER": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, str(repository / "examples" / "tutorial.py")],
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    made = {path.stem for path in tmp_path.glob("*.png")}
    assert made == {"noise", "progress", "generated", "classes", "edited"}
    assert "over-fit" in done.stdout
