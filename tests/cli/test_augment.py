"""augment on the command line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from differential_diffusion.cli import app


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
    assert run(*common)[1].startswith("2 variants")  # of the picture that lacked one
    assert {path: path.read_bytes() for path in out.rglob("*.png")} == before


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
    assert run(labelled, "-o", labelled)[0] == 2
