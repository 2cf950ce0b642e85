"""augment on the command line."""

from __future__ import annotations

import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from differential_diffusion.cli import app
from differential_diffusion.models.checkpoint import (
    CheckpointConfig,
    LatentSpace,
    save_checkpoint,
)
from differential_diffusion.models.latent_model import CODEC_FOLDER
from differential_diffusion.nn import SigmaMapUNet, UNetConfig

from ..autoencoders import tiny_autoencoder


@pytest.fixture
def labelled(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    for name in ("cat/a", "cat/b", "dog/a"):
        path = tmp_path / "labelled" / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (16, 20, 3), dtype=np.uint8)).save(path)
    return tmp_path / "labelled"


def run(*arguments: object) -> tuple[int, str]:
    done = CliRunner().invoke(app, ["augment", *map(str, arguments)])
    return done.exit_code, done.output


def test_variants_lie_in_folders_of_their_classes(labelled: Path, tmp_path: Path) -> None:
    out = tmp_path / "more"
    common = (labelled, "-o", out, "--variants", 2, "--steps", 2, "--strength", 0.5)
    code, said = run(*common)
    assert (code, said.split(" ->")[0]) == (0, "6 variants of 3 pictures")
    names = sorted(path.relative_to(out).as_posix() for path in out.rglob("*.png"))
    assert names == [f"{name}-{k}.png" for name in ("cat/a", "cat/b", "dog/a") for k in (1, 2)]
    before = {path: path.read_bytes() for path in out.rglob("*.png")}
    (out / "dog" / "a-2.png").unlink()
    (out / "dog" / "a-1.png").write_bytes(before[out / "cat" / "a-1.png"])
    assert run(*common)[1].startswith("1 variant of")  # the one that was lacking
    before[out / "dog" / "a-1.png"] = before[out / "cat" / "a-1.png"]
    assert {path: path.read_bytes() for path in out.rglob("*.png")} == before


def test_other_settings_want_another_folder(labelled: Path, tmp_path: Path) -> None:
    out = tmp_path / "more"
    common = (labelled, "-o", out, "-n", 1, "--steps", 2)
    assert run(*common, "--strength", 0.3)[0] == 0
    code, said = run(*common, "--strength", 0.9)
    assert (code, "holds pictures of other settings (strength)" in said) == (2, True)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "a.txt").touch()
    assert "holds other files" in run(*common, "-o", tmp_path / "mine")[1]


def test_variants_stay_when_pictures_are_added(labelled: Path, tmp_path: Path) -> None:
    """And no picture has with one seed what another has with the next."""
    common = (labelled, "-n", 1, "--steps", 2, "--strength", 1)
    blank = np.zeros((16, 20, 3), np.uint8)
    for path in labelled.rglob("*.png"):
        Image.fromarray(blank).save(path)
    drawn = {}
    for seed in (0, 1):
        assert run(*common, "--seed", seed, "-o", tmp_path / str(seed))[0] == 0
        drawn[seed] = {p.name: p.read_bytes() for p in (tmp_path / str(seed) / "cat").iterdir()}
    assert len({*drawn[0].values(), *drawn[1].values()}) == 4
    Image.fromarray(blank).save(labelled / "cat" / "a0.png")
    assert run(*common, "-o", tmp_path / "again")[0] == 0
    assert (tmp_path / "again" / "cat" / "b-1.png").read_bytes() == drawn[0]["b-1.png"]


@pytest.mark.parametrize("dtype", ["uint16", "float32"])
def test_pictures_of_any_depth_keep_their_brightness(tmp_path: Path, dtype: str) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (16, 20, 3), dtype=np.uint8)
    (tmp_path / "labelled" / "cat").mkdir(parents=True)
    deep = (pixels / 255.0).astype(dtype) if dtype == "float32" else pixels * np.uint16(257)
    np.save(tmp_path / "labelled" / "cat" / "a.npy", deep)
    out = tmp_path / "same"
    assert run(tmp_path / "labelled", "-o", out, "--strength", 0, "-n", 1)[0] == 0
    assert (np.asarray(Image.open(out / "cat" / "a-1.png")) == pixels).all()


@pytest.mark.parametrize("twin", ["cat/a.jpg", "more/cat/a.png"])
def test_two_pictures_of_one_name_are_refused(labelled: Path, tmp_path: Path, twin: str) -> None:
    (labelled / twin).parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (16, 20)).save(labelled / twin)
    code, said = run(labelled, "-o", tmp_path / "out")
    assert code == 2
    assert "cat/a-1.png' would be written twice" in said
    assert f"'{twin}'" in said
    assert not (tmp_path / "out").exists()


def test_an_archive_that_repeats_a_name_is_refused(labelled: Path, tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "twice.tar", "w") as archive:
        for _ in range(2):
            archive.add(labelled / "cat" / "a.png", "cat/a.png")
    code, said = run(tmp_path / "twice.tar", "-o", tmp_path / "out")
    assert (code, "would be written twice" in said) == (2, True)


def test_models_of_latents_make_variants(labelled: Path, tmp_path: Path) -> None:
    network = SigmaMapUNet(UNetConfig(2, (8,), (1,), 1, 4))
    described = CheckpointConfig(
        network.config, latent=LatentSpace((0.0, 0.0), (1.0, 1.0)), size=(16, 16)
    )
    save_checkpoint(tmp_path / "model", network, described, torch.float32)
    tiny_autoencoder().save_pretrained(tmp_path / "model" / CODEC_FOLDER)
    common = (labelled, "--model", tmp_path / "model", "-n", 1, "--steps", 2)
    code, said = run(*common, "-o", tmp_path / "more", "--strength", 0.5)
    assert (code, said.split(" ->")[0]) == (0, "3 variants of 3 pictures")


def test_strength_zero_gives_the_pictures_back(labelled: Path, tmp_path: Path) -> None:
    assert run(labelled, "-o", tmp_path / "same", "--strength", 0, "-n", 1)[0] == 0
    for path in labelled.rglob("*.png"):
        twin = tmp_path / "same" / path.parent.name / f"{path.stem}-1.png"
        assert (np.asarray(Image.open(path)) == np.asarray(Image.open(twin))).all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--variants", 0), "--variants 0 makes none"),
        (("--strength", 2), "strength must lie in [0, 1]"),
        (("--strength", 5, "--protect", "saliency"), "strength must lie in [0, 1]"),
        (("--param", "a=1"), "--param is of a source of maps: name it by --protect"),
        (("--protect", "saliency", "--param", "a=1"), "'a' is no setting of 'saliency'"),
        (("--guidance", 3), "the model 'prior' knows no 'cat'"),
        (("--protect", "salience"), "salience"),
        (("--solver", "hune"), "hune"),
    ],
)
def test_bad_input_is_one_sentence(
    labelled: Path, tmp_path: Path, arguments: tuple[object, ...], message: str
) -> None:
    code, said = run(labelled, "-o", tmp_path / "more", *arguments)
    assert code == 2
    assert message in " ".join(said.split())
    assert not (tmp_path / "more").exists()


@pytest.mark.parametrize("inside", [".", "more", "cat/more"])
def test_variants_do_not_go_among_the_pictures(labelled: Path, inside: str) -> None:
    code, said = run(labelled, "-o", labelled / inside)
    assert (code, "lies with the pictures themselves" in said) == (2, True)
    assert len(list(labelled.rglob("*"))) == 5
