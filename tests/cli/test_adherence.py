"""adherence: pairs found, figures told, previews drawn, and bad input refused."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import Result

from differential_diffusion.cli.adherence import paired
from differential_diffusion.cli.preview import BAR, GAP
from differential_diffusion.errors import InputError
from differential_diffusion.evaluation import heat_maps, mean_change, report
from differential_diffusion.images import read

Command = Callable[..., Result]

SIZE = (40, 24)


@pytest.fixture
def edited(folder: Path) -> Path:
    """In `folder`: ramp.png, pictures in/, with noise along the ramp out/, all over full/."""
    rng = np.random.default_rng(1)
    ramp = np.tile(np.linspace(0, 1, SIZE[0]), (SIZE[1], 1))
    Image.fromarray(np.rint(255 * ramp).astype(np.uint8)).save("ramp.png")
    for name in ("in", "out", "full"):
        (folder / name).mkdir()
    for name in ("a", "b", "c"):
        before = rng.integers(60, 196, (SIZE[1], SIZE[0], 3)).astype(float)
        noise = 30 * rng.standard_normal(before.shape)
        for place, amount in (("in", 0), ("out", ramp[..., None]), ("full", 1)):
            pixels = np.clip(before + amount * noise, 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(f"{place}/{name}.png")
    return folder


def tensor(name: str) -> torch.Tensor:
    return read(name).tensor()


def strength(name: str = "ramp.png") -> torch.Tensor:
    return torch.from_numpy(np.asarray(Image.open(name)) / 255).float()[None, None]


def test_one_pair_is_told_in_a_sentence(run: Command, edited: Path) -> None:
    done = run("adherence", "in/a.png", "out/a.png", "--strength", "ramp.png")
    assert done.exit_code == 0, done.output
    row = report(tensor("in/a.png"), tensor("out/a.png"), strength()).rows[0]
    assert done.stdout == (
        f"in/a.png -> out/a.png: CAM {row.cam:.3f}, DAM {row.dam:.4g} "
        f"(RMS {row.dam_rms:.3f}), mean change {row.change:.3f}\n"
    )
    assert row.cam > 0.7
    quiet = run("adherence", "in/a.png", "out/a.png", "--strength", "ramp.png", "--quiet")
    assert (quiet.exit_code, quiet.stdout) == (0, "")


def test_folders_are_told_pair_by_pair_and_as_a_whole(run: Command, edited: Path) -> None:
    (edited / "out/b.png").rename("out/b-edit.png")
    done = run("adherence", "in", "out", "--strength", "ramp.png", "--json")
    assert done.exit_code == 0, done.output
    *rows, whole = [json.loads(line) for line in done.stdout.splitlines()]
    assert [Path(row["output"]).name for row in rows] == ["a.png", "b-edit.png", "c.png"]
    batch = [torch.cat([tensor(row[key]) for row in rows]) for key in ("input", "output")]
    expected = report(*batch, strength())
    for row, found in zip([*rows, whole], [*expected.rows, expected.overall], strict=True):
        assert {key: row[key] for key in found.as_dict()} == pytest.approx(
            found.as_dict(), abs=2e-6
        )
        assert row["map"] == "ramp.png"
    assert whole["pairs"] == 3
    text = run("adherence", "in", "out", "--strength", "ramp.png").stdout.splitlines()
    assert text[3].startswith(f"mean of 3: CAM {expected.cam:.3f}, ")


def test_full_change_is_taken_off(run: Command, edited: Path) -> None:
    options = ("--strength", "ramp.png", "--json")
    done = run("adherence", "in", "out", "--full", "full", *options)
    assert done.exit_code == 0, done.output
    whole = json.loads(done.stdout.splitlines()[-1])
    names = ("a.png", "b.png", "c.png")
    before, after, full = (
        torch.cat([tensor(f"{place}/{name}") for name in names]) for place in ("in", "out", "full")
    )
    expected = report(before, after, strength(), bias=mean_change([(before, full)]))
    assert whole["cam"] == pytest.approx(expected.cam, abs=2e-6)
    assert expected.cam != pytest.approx(report(before, after, strength()).cam, abs=1e-3)
    one = run("adherence", "in/a.png", "out/a.png", "--full", "full/a.png", *options)
    assert len(one.stdout.splitlines()) == 2


def test_an_inverted_map_turns_the_sign(run: Command, edited: Path) -> None:
    pair = ("in/a.png", "out/a.png", "--strength", "ramp.png", "--json")
    straight = json.loads(run("adherence", *pair).stdout)
    turned = json.loads(run("adherence", *pair, "--invert").stdout)
    assert turned["cam"] == pytest.approx(-straight["cam"], abs=1e-5)
    assert turned["dam"] == pytest.approx(straight["dam"], abs=1e-4)


def test_what_is_undefined_is_said_and_null(run: Command, edited: Path) -> None:
    pair = ("adherence", "in/a.png", "in/a.png", "--strength", "ramp.png")
    assert ": CAM undefined (map or change is constant), DAM " in run(*pair).stdout
    found = json.loads(run(*pair, "--json").stdout)
    assert (found["cam"], found["change"]) == (None, 0)
    level = strength()
    assert found["dam_rms"] == pytest.approx(float(level.std(correction=0)), abs=1e-5)
    assert math.isfinite(found["dam"])


def test_a_command_s_own_edit_can_be_measured(run: Command, folder: Path) -> None:
    """What `edit` writes is what `adherence` reads: kept pixels did not change."""
    assert run("map", "linear", "photo.png", "-o", "map.png").exit_code == 0
    assert run("edit", "photo.png", "--strength", "map.png", "--steps", "2").exit_code == 0
    done = run("adherence", "photo.png", "photo-edit.png", "--strength", "map.png", "--json")
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["cam"] > 0


def test_the_preview_shows_pictures_map_and_change(run: Command, edited: Path) -> None:
    options = ("--strength", "ramp.png", "--json", "--preview", "shown.png")
    done = run("adherence", "in/a.png", "out/a.png", *options)
    assert json.loads(done.stdout)["preview"] == "shown.png"
    canvas = np.asarray(Image.open("shown.png"))
    scale = 256 // SIZE[0]
    column = (canvas.shape[1] - GAP) // 4
    made = report(tensor("in/a.png"), tensor("out/a.png"), strength())
    expected = [np.asarray(Image.open(f"{place}/a.png")) for place in ("in", "out")]
    expected += heat_maps(made.strength, made.change)
    for k, pixels in enumerate(expected):
        left = GAP + k * column
        panel = canvas[BAR : BAR + scale * SIZE[1], left : left + scale * SIZE[0]]
        np.testing.assert_array_equal(panel[::scale, ::scale], pixels)
    again = run("adherence", "in/a.png", "out/a.png", *options)
    assert again.exit_code == 2
    assert "'shown.png' exists" in again.stderr
    assert run("adherence", "in/a.png", "out/a.png", *options, "--force").exit_code == 0


def test_several_pairs_have_a_picture_of_their_mean_or_a_folder(run: Command, edited: Path) -> None:
    done = run("adherence", "in", "out", "-s", "ramp.png", "--json", "--preview", "mean.png")
    records = [json.loads(line) for line in done.stdout.splitlines()]
    assert [record.get("preview") for record in records] == [None, None, None, "mean.png"]
    with Image.open("mean.png") as shown:
        assert (shown.width - GAP) % 2 == 0
    assert run("adherence", "in", "out", "-s", "ramp.png", "--preview", "all/").exit_code == 0
    names = sorted(path.name for path in (edited / "all").iterdir())
    assert names == ["a.png", "b.png", "c.png", "mean.png"]


def test_a_pair_that_fails_is_told_and_the_rest_go_on(run: Command, edited: Path) -> None:
    Image.new("RGB", (30, 24)).save("out/b.png")
    done = run("adherence", "in", "out", "--strength", "ramp.png", "--json")
    assert done.exit_code == 2
    records = [json.loads(line) for line in done.stdout.splitlines()]
    assert Path(records[1]["input"]) == Path("in/b.png")
    assert "30x24" in records[1]["error"]
    assert records[-1]["pairs"] == 2


def names(pairs: list) -> list[tuple[str, str]]:
    return [(pair.input.as_posix(), pair.output.as_posix()) for pair in pairs]


def test_what_stands_for_pairs(edited: Path) -> None:
    assert names(paired(["in/a.png", "out/a.png", "in/b.png", "out/c.png"])) == [
        ("in/a.png", "out/a.png"),
        ("in/b.png", "out/c.png"),
    ]
    (edited / "out/a.png").rename("out/a-edit.png")
    (edited / "in/c.png").rename("in/c.jpg")
    assert names(paired(["in", "out"])) == [
        ("in/a.png", "out/a-edit.png"),
        ("in/b.png", "out/b.png"),
        ("in/c.jpg", "out/c.png"),
    ]
    assert names(paired(["in/a.png", "out"])) == [
        ("in/a.png", f"out/{name}.png") for name in ("a-edit", "b", "c")
    ]
    assert names(paired(["in/a.png", "in"])) == [
        ("in/a.png", "in/b.png"),
        ("in/a.png", "in/c.jpg"),
    ]


@pytest.mark.parametrize(
    ("pictures", "words"),
    [
        ("in/a.png", "1 picture cannot be paired"),
        ("in/a.png out/a.png in/b.png", "3 pictures cannot be paired"),
        ("in out/a.png", "'in' is a folder and 'out/a.png' is none"),
        ("in in", "'in' is named as inputs and outputs"),
        ("in one", "'in/b.png' has no output in 'one': call it b or b-edit"),
        ("in empty", "folder 'empty' holds no image files"),
        ("in two", "could both be of 'in/a.png'"),
    ],
)
def test_what_stands_for_none(edited: Path, pictures: str, words: str) -> None:
    for name, files in (("empty", []), ("one", ["a.png"]), ("two", ["a.png", "a.bmp"])):
        (edited / name).mkdir()
        for file in files:
            Image.new("RGB", SIZE).save(edited / name / file)
    with pytest.raises(InputError) as caught:
        paired(pictures.split())
    assert words in str(caught.value).replace("\\", "/")


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("in/a.png -s ramp.png", "1 picture cannot be paired"),
        ("in/a.png out/a.png", "see 'diffdiff adherence --help'"),
        ("in/a.png gone.png -s ramp.png", "'gone.png' does not exist"),
        ("in/a.png out/a.png -s gone.png", "'gone.png' does not exist"),
        ("in/a.png out/a.png -s 0.4", "--strength 0.4 is the same everywhere"),
        ("in/a.png small.png -s ramp.png", "'small.png' is 30x24 pixels and its input"),
        ("in/a.png out/a.png -s small.png", "is 40x24 pixels and its map 'small.png' 30x24"),
        ("in/a.png out/a.png -s ramp.png --measure ssim", "--measure 'ssim' is not known"),
        ("in/a.png out/a.png -s ramp.png --measure lpips", "differential-diffusion[evaluation]"),
        ("in/a.png out/a.png -s ramp.png --preview p.jpg", "--preview 'p.jpg' is no PNG"),
        ("in/a.png out/a.png -s ramp.png --preview ramp.png", "'ramp.png' is an input"),
        ("in out -s ramp.png --preview out/ --force", "is an input"),
        ("in out -s ramp.png --full in/a.png", "'in' is a folder and 'in/a.png' is none"),
        ("in out -s ramp.png --full empty", "holds no image files"),
        ("in/a.png out/a.png in/b.png out/b.png -s ramp.png --full full", "--full goes with one"),
        ("in/a.png out/a.png -s ramp.png --full small.png", "'small.png' is 30x24"),
    ],
)
def test_bad_command_lines_are_one_sentence(
    run: Command, edited: Path, monkeypatch: pytest.MonkeyPatch, command: str, words: str
) -> None:
    monkeypatch.setitem(sys.modules, "lpips", None)
    (edited / "empty").mkdir()
    Image.new("L", (30, 24)).save("small.png")
    before = {path: path.read_bytes() for path in edited.rglob("*.png")}
    done = run("adherence", *command.split())
    assert done.exit_code == 2, done.output
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1
    assert words in done.stderr
    assert {path: path.read_bytes() for path in edited.rglob("*.png")} == before
