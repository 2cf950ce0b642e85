"""sample on the command line: grids, folders that go on, sketches, errors."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from differential_diffusion.cli import app
from differential_diffusion.data.images import decode
from differential_diffusion.data.sources import Found
from differential_diffusion.models.checkpoint import CheckpointConfig, save_checkpoint
from differential_diffusion.nn import SigmaMapUNet, UNetConfig

EXAMPLE = str(Path(__file__).parents[2] / "examples" / "damaged.png")


def save(folder: Path, seed: int = 0, **changes: Any) -> None:
    torch.manual_seed(seed)
    shape = UNetConfig(channels=(8,), blocks=(1,), embedding_channels=4, **changes)
    network = SigmaMapUNet(shape)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    classes = ("cat", "dog")[: shape.classes]
    described = CheckpointConfig(shape, classes=classes, size=(8, 8))
    save_checkpoint(folder, network, described, torch.float32)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    save(folder, classes=2)
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
    assert "holds pictures of other settings (seed)" in said
    assert run(*common, "--seed", 5, "--force")[0] == 0
    assert (folder / "000000.png").read_bytes() != before["000000.png"]
    assert len(list(folder.glob("*.png"))) == 3


def contents(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*.*")}


def test_bad_input_leaves_a_folder_as_it_was(checkpoint: Path, tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    common = (checkpoint, "--count", 2, "--steps", 3, "-o", folder)
    wrong = (("--solver", "hune"), ("--count", 0), ("--label", "cot"), ("--vector", "1"))
    for option in wrong:
        assert run(*common, *option)[0] == 2
        assert not folder.exists()
    folder.write_bytes(b"a file")
    assert "is a file: name a folder" in run(*common, "--force")[1]
    folder.unlink()
    assert run(*common)[0] == 0
    before = contents(folder)
    for option in wrong:
        assert run(*common, *option, "--force")[0] == 2
        assert contents(folder) == before


def test_force_replaces_samples_and_nothing_else(checkpoint: Path, tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    (folder / "trip").mkdir(parents=True)
    strangers = ("2024-holiday.png", "12345678.png", "000001.txt", "trip/000001.png")
    for name in strangers:
        (folder / name).write_bytes(b"mine")
    (folder / "000000.png").write_bytes(b"taken for a sample")
    common = (checkpoint, "--count", 2, "--steps", 3, "-o", folder)
    code, said = run(*common)
    assert (code, "holds other files: name another folder, or give --force" in said) == (2, True)
    assert run(*common, "--force")[0] == 0
    assert np.asarray(Image.open(folder / "000000.png")).shape == (8, 8, 3)
    assert run(*common, "--label", "each", "--force")[0] == 0
    samples = ["cat/000000.png", "dog/000001.png", "samples.json"]
    assert sorted(contents(folder)) == sorted([*strangers, *samples])
    assert all((folder / name).read_bytes() == b"mine" for name in strangers)


def test_force_replaces_no_input(checkpoint: Path, tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    common = (checkpoint, "--count", 2, "--steps", 3, "-o", folder)
    assert run(*common)[0] == 0
    before = contents(folder)
    code, said = run(*common, "--from", folder / "000001.png", "--force")
    assert (code, "000001.png' is an input" in said) == (2, True)
    assert contents(folder) == before


def test_a_way_between_seeds_is_gone_on_with(checkpoint: Path, tmp_path: Path) -> None:
    folder = tmp_path / "way"
    common = (checkpoint, "--between", "3,7", "--steps", 3, "-o", folder)
    assert run(*common, "-n", 3)[0] == 0
    before = contents(folder)
    (folder / "000001.png").unlink()
    (folder / "000002.png").write_bytes(b"there")
    assert run(*common, "-n", 3)[0] == 0
    assert contents(folder) == before | {"000002.png": b"there"}
    code, said = run(*common, "-n", 5)
    assert (code, "of other settings (count)" in said) == (2, True)


def test_other_weights_files_and_precision_are_other_settings(
    checkpoint: Path, tmp_path: Path
) -> None:
    model, sketch, folder = tmp_path / "model", tmp_path / "sketch.png", tmp_path / "folder"
    shutil.copytree(checkpoint, model)
    Image.new("RGB", (8, 8), (200, 0, 0)).save(sketch)
    common = (model, "--from", sketch, "--count", 1, "--steps", 2, "-o", folder)
    assert run(*common)[0] == 0
    assert run(*common)[0] == 0
    both = [run(*common, "--precision", precision) for precision in ("fp32", "bf16")]
    assert sorted(code for code, _ in both) == [0, 2]  # which is "auto" depends on the machine
    assert any("settings (precision)" in said for _, said in both)
    Image.new("RGB", (8, 8), (0, 200, 0)).save(sketch)
    assert "settings (files)" in run(*common)[1]
    Image.new("RGB", (8, 8), (200, 0, 0)).save(sketch)
    save(model, seed=1, classes=2)
    assert "settings (weights)" in run(*common)[1]


def test_samples_of_other_channels_are_arrays(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    save(tmp_path / "model", in_channels=2)
    common = (tmp_path / "model", "--count", 2, "--steps", 2, "-o", folder)
    assert run(*common)[0] == 0
    assert np.load(folder / "000001.npy").shape == (8, 8, 2)
    (folder / "000001.npy").write_bytes(b"there")
    assert run(*common)[0] == 0
    assert (folder / "000001.npy").read_bytes() == b"there"
    assert run(*common, "--seed", 1, "--count", 1, "--force")[0] == 0
    assert sorted(contents(folder)) == ["000000.npy", "samples.json"]


def test_a_picture_tells_the_model(tmp_path: Path) -> None:
    model, shown = tmp_path / "model", tmp_path / "shown.png"
    save(model, condition_channels=3)
    pixels = np.random.default_rng(1).integers(0, 256, (8, 12, 3), dtype=np.uint8)
    common = (model, "--steps", 3, "-n", 1)
    made = []
    for k, colours in enumerate((pixels, 255 - pixels)):
        Image.fromarray(colours).save(shown)
        assert run(*common, "--picture", shown, "-o", tmp_path / f"{k}.png")[0] == 0
        made.append(np.asarray(Image.open(tmp_path / f"{k}.png")).astype(int))
    assert made[0].shape == (8, 12, 3)
    assert np.abs(made[0] - made[1]).max() > 3
    code, said = run(*common, "--picture", shown, "--size", "8x8", "-o", tmp_path / "x.png")
    assert (code, "leave --size out" in said) == (2, True)


def test_a_sketch_in_colour_is_grey_to_a_grey_model_as_it_was_in_training(tmp_path: Path) -> None:
    model, sketch, out = tmp_path / "model", tmp_path / "sketch.png", tmp_path / "out.png"
    save(model, in_channels=1)
    pixels = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(sketch)
    common = (model, "--from", sketch, "--strength", 0, "-n", 1)
    assert run(*common, "-o", out)[0] == 0
    trained_on = decode(Found("sketch.png", sketch.read_bytes()), 1)[..., 0]
    assert np.abs(np.asarray(Image.open(out)).astype(int) - trained_on).max() <= 1


def test_a_folder_may_have_a_dot_in_its_name(checkpoint: Path, tmp_path: Path) -> None:
    (tmp_path / "v1.6").mkdir()
    assert run(checkpoint, "-n", 1, "--steps", 2, "-o", tmp_path / "v1.6")[0] == 0
    assert (tmp_path / "v1.6" / "000000.png").is_file()


def test_one_class_has_a_grid_of_about_as_many_rows_as_columns(
    checkpoint: Path, tmp_path: Path
) -> None:
    out = tmp_path / "grid.png"
    assert run(checkpoint, "-n", 4, "--label", "cat", "--steps", 2, "-o", out)[0] == 0
    assert np.asarray(Image.open(out)).shape == (17, 17, 3)


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
        (("--between", "3,3"), "there is no way from seed 3 to itself"),
        (("--between", ""), "--between '' is no pair of seeds"),
        (("--between", "1,2", "--seed", "0"), "--between says the seeds: leave --seed out"),
        (("--vector", ""), "--vector '' is no list of numbers"),
        (("--strength", "0.5"), "--strength says how much of --from may change"),
        (("--columns", "-1"), "Invalid value for '--columns'"),
        (("--guidance", "3"), "guidance_scale is 3 and the model"),
        (("--picture", EXAMPLE), "takes no picture"),
        (("--from", EXAMPLE, "--size", "8x8"), "leave --size out"),
        (("--from", EXAMPLE, "--strength", "2"), "strength must lie in [0, 1]"),
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
    code, said = run(checkpoint, "-o", tmp_path / "folder", "--columns", 2)
    assert (code, "--columns is for a grid" in said) == (2, True)
