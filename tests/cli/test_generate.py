"""generate, fan and the film of the steps, on the command line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

import differential_diffusion as dd
from differential_diffusion.cli import app
from differential_diffusion.cli.film import Film
from differential_diffusion.images import read

from ..pipelines import FAMILIES


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to work in, with a photograph."""
    monkeypatch.chdir(tmp_path)
    row, column = np.mgrid[:48, :64]
    waves = 128 + 100 * np.sin(row / 5)[..., None] * np.sin(column[..., None] / np.array([4, 7, 9]))
    Image.fromarray(waves.astype(np.uint8)).save("photo.png")
    return tmp_path


def run(*arguments: str) -> Any:
    return CliRunner().invoke(app, [*arguments, "--quiet"])


def test_generate_writes_what_python_makes(folder: Path) -> None:
    done = run(
        "generate", "--width", "40", "--height", "24", "--steps", "3", "--seed", "5", "--json"
    )
    assert done.exit_code == 0, done.stderr
    record = json.loads(done.stdout)
    assert record["output"] == "picture-generate.png"
    assert "input" not in record
    made = np.asarray(Image.open(record["output"]))
    expected = dd.generate(width=40, height=24, steps=3, seed=5).image
    np.testing.assert_array_equal(made, np.asarray(expected))
    assert made.shape == (24, 40, 3)
    assert made.std() > 5


def test_a_fan_holds_each_edit(folder: Path) -> None:
    done = run(
        "fan", "photo.png", "--strengths", "0.3,0.9", "--steps", "4", "-o", "fan.png", "--json"
    )
    assert done.exit_code == 0, done.stderr
    assert json.loads(done.stdout)["strengths"] == [0.3, 0.9]
    results = dd.fan("photo.png", (0.3, 0.9), steps=4)
    for factor, result in zip((0.3, 0.9), results, strict=True):
        alone = dd.edit("photo.png", factor, steps=4).image
        np.testing.assert_array_equal(np.asarray(result.image), np.asarray(alone))
    sheet = np.asarray(Image.open("fan.png"))
    shown = np.asarray(results[1].image)
    scale = 4  # small pictures are shown enlarged, each pixel a square
    large = shown.repeat(scale, 0).repeat(scale, 1)
    places = np.lib.stride_tricks.sliding_window_view(sheet, large.shape)
    assert (places == large).all((-3, -2, -1)).any()


@pytest.mark.parametrize("suffix", ["gif", "png"])
def test_the_film_shows_every_step(folder: Path, suffix: str) -> None:
    film = f"film.{suffix}"
    done = run(
        "edit", "photo.png", "-s", "1", "--steps", "4", "-o", "out.png", "--save-steps", film
    )
    assert done.exit_code == 0, done.stderr
    with Image.open(film) as file:
        if suffix == "png":
            assert file.width > 5 * 64
            return
        assert getattr(file, "n_frames", 1) == 1 + 4
        file.seek(0)
        first = np.asarray(file.convert("RGB")).astype(int)
        file.seek(4)
        last = np.asarray(file.convert("RGB")).astype(int)
    before, after = (np.asarray(Image.open(name)).astype(int) for name in ("photo.png", "out.png"))
    assert np.abs(first - before).mean() < 12  # of GIF's 256 colours
    assert np.abs(last - after).mean() < 12 < np.abs(last - before).mean()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("generate", "--width", "3"), "width is 3"),
        (("generate", "--prompt", "a barn"), "prompt was given, and the model 'prior' takes none"),
        (("fan", "photo.png", "--strengths", "0.2,2"), "--strengths '0.2,2' is no list"),
        (("fan", "photo.png", "--strengths", "some"), "--strengths 'some' is no list"),
        (("fan", "photo.png", "--preview", "p.png"), "takes no --preview"),
        (("edit", "photo.png", "-s", "1", "--save-steps", "f.mp4"), "'f.mp4' is no GIF or PNG"),
        (("edit", "photo.png", "-s", "1", "--pipeline", "x"), "--pipeline 'x' is not KEY=VALUE"),
    ],
)
def test_bad_input_is_one_sentence(folder: Path, arguments: tuple[str, ...], said: str) -> None:
    done = CliRunner().invoke(app, list(arguments))
    assert done.exit_code == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_the_film_of_a_pipeline_shows_every_crop_and_keeps_what_is_kept() -> None:
    image = np.full((200, 480, 3), 90, np.uint8)
    strength = np.zeros((200, 480), np.float32)
    strength[80:120, 40:80] = strength[80:120, 400:440] = 1
    film = Film(read(image))
    made = dd.edit(
        image,
        strength,
        model=FAMILIES["sd1"](),
        prompt="a barn",
        steps=4,
        samples=2,
        batch_size=4,
        on_step=film,
    )
    film.end(read(made.image))
    assert [name for name, _ in film.frames] == [
        "before", *(f"step {k}" for k in (1, 1, 2, 2, 3, 3, 4, 4)), "after",
    ]  # fmt: skip
    for _, frame in film.frames:
        np.testing.assert_array_equal(frame[strength == 0], image[strength == 0])
    *_, (_, ended), (_, after) = film.frames
    np.testing.assert_array_equal(after, np.asarray(made.image))
    for columns in (slice(40, 80), slice(400, 440)):
        part = ended[80:120, columns].astype(int)
        assert np.abs(part - 90).mean() > 5
        shift = after[80:120, columns].astype(int) - part  # the result's colours are matched
        inside = (part > 0) & (after[80:120, columns] > 0)
        for channel in range(3):
            assert shift[..., channel][inside[..., channel]].std() < 3
