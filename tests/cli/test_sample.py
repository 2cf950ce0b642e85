"""sample on the command line: grids, folders that go on, sketches, errors."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from differential_diffusion.cli import app
from differential_diffusion.models.checkpoint import CheckpointConfig, save_checkpoint
from differential_diffusion.nn import SigmaMapUNet, UNetConfig


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    shape = UNetConfig(channels=(8,), blocks=(1,), embedding_channels=4, classes=2)
    network = SigmaMapUNet(shape)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    folder = tmp_path_factory.mktemp("model")
    described = CheckpointConfig(shape, classes=("cat", "dog"), size=(8, 8))
    save_checkpoint(folder, network, described, torch.float32)
    return folder


def run(*arguments: object) -> tuple[int, str]:
    done = CliRunner().invoke(app, ["sample", *map(str, arguments)])
    return done.exit_code, done.output


def test_a_grid_and_a_folder_hold_the_same_samples(checkpoint: Path, tmp_path: Path) -> None:
    grid, folder = tmp_path / "grid.png", tmp_path / "folder"
    common = (checkpoint, "--count", 4, "--label", "each", "--guidance", 1.5, "--steps", 4)
    assert run(*common, "-o", grid)[0] == 0
    assert run(*common, "-o", folder, "--batch-size", 3)[0] == 0
    names = ["cat/000000.png", "dog/000001.png", "cat/000002.png", "dog/000003.png"]
    assert sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*.png")) == sorted(names)
    whole = np.asarray(Image.open(grid)).astype(int)
    for k, name in enumerate(names):
        one = np.asarray(Image.open(folder / name)).astype(int)
        top, left = 9 * (k // 2), 9 * (k % 2)
        assert np.abs(whole[top : top + 8, left : left + 8] - one).max() <= 1
    record = json.loads((folder / "samples.json").read_text())
    assert (record["labels"], record["guidance_scale"]) == (["cat", "dog"], 1.5)


def test_a_folder_is_gone_on_with_or_refused(checkpoint: Path, tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    common = (checkpoint, "--count", 3, "--steps", 3, "-o", folder)
    assert run(*common)[0] == 0
    before = {path.name: path.read_bytes() for path in folder.glob("*.png")}
    (folder / "000001.png").unlink()
    Image.new("RGB", (8, 8)).save(folder / "000002.png")
    assert run(*common)[0] == 0
    assert (folder / "000001.png").read_bytes() == before["000001.png"]
    assert (folder / "000002.png").read_bytes() != before["000002.png"]  # was there: left alone
    code, said = run(*common, "--seed", 5)
    assert code == 2
    assert "holds samples of other settings" in said
    assert run(*common, "--seed", 5, "--force")[0] == 0
    assert (folder / "000000.png").read_bytes() != before["000000.png"]
    assert len(list(folder.glob("*.png"))) == 3


def test_a_sketch_and_a_way_between_seeds(checkpoint: Path, tmp_path: Path) -> None:
    sketch = tmp_path / "sketch.png"
    pixels = np.random.default_rng(0).integers(0, 256, (8, 10, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(sketch)
    kept = ("--from", sketch, "--strength", 0, "--count", 1, "--steps", 3)
    assert run(checkpoint, *kept, "-o", tmp_path / "kept.png")[0] == 0
    assert (np.asarray(Image.open(tmp_path / "kept.png")) == pixels).all()
    way = ("--between", "3,7", "--count", 3, "--columns", 3, "--steps", 3, "--size", "12x8")
    assert run(checkpoint, *way, "-o", tmp_path / "way.png")[0] == 0
    assert np.asarray(Image.open(tmp_path / "way.png")).shape == (8, 3 * 13 - 1, 3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--label", "cot"), "knows no class 'cot': did you mean 'cat'"),
        (("--size", "12"), "--size '12' is no size"),
        (("--between", "3"), "--between '3' is no pair of seeds"),
        (("--vector", "1,x"), "--vector '1,x' is no list of numbers"),
        (("--vector", "1,2"), "takes no numbers"),
        (("--output", "x.jpg"), "is neither a .png nor a folder"),
        (("--solver", "hune"), "the solver 'hune' is not known"),
        (("--count", "0"), "count is 0"),
        (("--between", "1,2", "--label", "each"), "--between goes with one --label"),
    ],
)
def test_bad_input_is_one_sentence(
    checkpoint: Path, tmp_path: Path, arguments: tuple[str, ...], message: str
) -> None:
    code, said = run(checkpoint, "-o", tmp_path / "out.png", *arguments)
    assert code == 2
    assert message in " ".join(said.split())
    assert len(said.strip().splitlines()) == 1
    assert not list(tmp_path.iterdir())
