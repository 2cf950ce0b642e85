"""map: every source of the registry by name, with the picture, size and parameters it asks for."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import Result

from differential_diffusion import anomaly_map
from differential_diffusion.cli.map import as_grey, build, described, sources
from differential_diffusion.errors import InputError
from differential_diffusion.maps import MAPS

Command = Callable[..., Result]


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image)


def test_list_names_every_source_and_parameter(run: Command) -> None:
    done = run("map", "--list")
    assert done.exit_code == 0
    heads = {line.split(":")[0].split()[0]: k for k, line in enumerate(done.stdout.splitlines())
             if not line.startswith(" ")}  # fmt: skip
    assert list(heads) == [*MAPS, "anomaly"] == list(sources())
    for name, source in sources().items():
        for key in set(inspect.signature(source).parameters) - {"height", "width", "image", "path"}:
            (line,) = [line for line in described(name, source)[1:] if line.split()[0] == key]
            assert line.partition(": ")[2].rstrip(), f"{name} does not say what {key} is"


@pytest.mark.parametrize(("bits", "dtype", "peak"), [(8, np.uint8, 255), (16, np.uint16, 65535)])
def test_levels_are_the_nearest(bits: int, dtype: type, peak: int) -> None:
    strength = np.random.default_rng(0).random((30, 40), dtype=np.float32)
    levels = as_grey(strength, bits)
    assert levels.dtype == dtype
    assert np.abs(levels / peak - strength).max() <= 0.5 / peak + 1e-9
    assert as_grey(np.array([[0, 1]], np.float32), bits).tolist() == [[0, peak]]


def test_a_constant_map_of_a_size(run: Command, folder: Path) -> None:
    options = ("--size", "30x20", "-p", "strength=0.25", "-o", "map.png")
    done = run("map", "constant", *options)
    assert done.exit_code == 0, done.output
    assert done.stdout == "map.png: 30x20, 100.0 % of the pixels may change\n"
    assert (pixels(folder / "map.png") == round(0.25 * 65535)).all()
    assert pixels(folder / "map.png").shape == (20, 30)


def test_the_written_map_is_read_back_the_same(run: Command, folder: Path) -> None:
    """Made by `map`, used by `edit`, written by --map-out: 16 bits all the way."""
    assert run("map", "linear", "photo.png", "-o", "map.png").exit_code == 0
    options = ("--strength", "map.png", "--steps", "2", "--map-out", "used.png")
    assert run("edit", "photo.png", *options).exit_code == 0
    assert len(np.unique(pixels(folder / "map.png"))) > 10
    np.testing.assert_array_equal(pixels(folder / "map.png"), pixels(folder / "used.png"))


def test_invert_and_bits(run: Command, folder: Path) -> None:
    assert run("map", "linear", "photo.png", "--bits", "8", "-o", "a.png").exit_code == 0
    assert (
        run("map", "linear", "photo.png", "--bits", "8", "--invert", "-o", "b.png").exit_code == 0
    )
    total = pixels(folder / "a.png").astype(int) + pixels(folder / "b.png")
    assert np.abs(total - 255).max() <= 1


def test_several_pictures_into_a_folder(run: Command, folder: Path) -> None:
    Image.new("L", (9, 6)).save("other.png")
    shown = ("--preview", "sheets/", "--json")
    done = run("map", "radial", "photo.png", "other.png", "gone.png", "-o", "maps/", *shown)
    assert done.exit_code == 2
    records = [json.loads(line) for line in done.stdout.splitlines()]
    assert [record.get("output") for record in records] == [
        None,
        str(Path("maps/photo.png")),
        str(Path("maps/other.png")),
    ]
    assert "gone.png" in records[0]["error"]
    assert pixels(folder / "maps/photo.png").shape == (24, 40)
    assert pixels(folder / "maps/other.png").shape == (6, 9)
    assert records[2]["active"] == pytest.approx((pixels(folder / "maps/other.png") > 0).mean())
    assert sorted(path.name for path in (folder / "sheets").iterdir()) == ["other.png", "photo.png"]


def test_a_file_as_source(run: Command, folder: Path) -> None:
    done = run("map", "file", "mask.png", "--bits", "8", "-o", "map.png")
    assert done.exit_code == 0, done.output
    np.testing.assert_array_equal(pixels(folder / "map.png"), pixels(folder / "mask.png"))


def test_feather_softens_edges(run: Command, folder: Path) -> None:
    """White in rows 8 to 15: outwards both sides change, inwards alone the white one."""
    for name, options in [("both.png", ()), ("in.png", ("--inside",))]:
        done = run("map", "file", "mask.png", "--feather", "2", *options, "-o", name)
        assert done.exit_code == 0, done.output
    both, inwards = (pixels(folder / name)[:, 20] / 65535 for name in ("both.png", "in.png"))
    assert 0 < both[7] < both[8] < 1
    assert both[0] == both[-1] == 0
    assert (inwards[:8] == 0).all()
    assert 0 < inwards[8] < inwards[9] <= inwards[11] == 1


def test_preview_shows_picture_and_map(run: Command, folder: Path) -> None:
    assert run("map", "linear", "photo.png", "-o", "m.png", "--preview", "p.png").exit_code == 0
    with Image.open("p.png") as shown, Image.open("photo.png") as photo:
        assert shown.mode == "RGB"
        assert shown.width > 2 * photo.width


def test_what_a_source_asks_for_by_name_is_given(folder: Path) -> None:
    boxes = [[4, 2, 10, 6]]
    made, picture = build("boxes", "photo.png", None, {"boxes": boxes, "strength": 0.5})
    expected = np.zeros((24, 40), np.float32)
    expected[2:6, 4:10] = 0.5
    np.testing.assert_array_equal(made.array, expected)
    assert picture is not None
    made, picture = build("constant", None, "7x5", {})
    assert (made.height, made.width, picture) == (5, 7, None)
    for name, image in [("a.png", np.zeros((24, 40, 3))), ("b.png", np.zeros((24, 40)))]:
        image[5:9, 3] = 255
        Image.fromarray(image.astype(np.uint8)).save(name)
        made, _ = build("damage", name, None, {})
        np.testing.assert_array_equal(
            made.array, MAPS["damage"](image[..., None].reshape(24, 40, -1) / 127.5 - 1).array
        )


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("damage", None, None, {}), "'damage' looks at a picture"),
        (("boxes", "photo.png", None, {}), "'boxes' needs 'boxes'"),
        (("linear", "photo.png", None, {"angel": 1}), "'angel' is no setting of 'linear'"),
        (("linear", "photo.png", None, {"angle": "steep"}), "angle is 'steep'"),
        (("linear", None, None, {}), "no size was given"),
        (("linear", None, "12", {}), "--size '12'"),
        (("linear", None, "12x-3", {}), "--size '12x-3'"),
        (("linear", None, "99999x99999", {}), "--size '99999x99999'"),
        (("linear", None, "0x4", {}), "--size '0x4'"),
        (("constant", None, "4x4", {"strength": 2}), "2"),
        (("constant", None, "4x4", {"height": 2}), "'height' is no setting"),
        (("linear", "gone.png", None, {}), "'gone.png'"),
        (("file", None, None, {}), "no size was given"),
    ],
)
def test_what_is_missing_or_wrong_is_said(folder: Path, arguments: tuple, words: str) -> None:
    with pytest.raises(InputError) as caught:
        build(*arguments)
    assert words in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("map", "no source was named"),
        ("map spiral photo.png -o m.png", "'spiral' is no source of maps: use constant"),
        ("map linear photo.png", "no output was named"),
        ("map linear photo.png mask.png -o m.png", "one file for 2 pictures"),
        ("map linear --size 4x4 -o maps/", "'maps/' is a folder"),
        ("map linear photo.png -o m.jpg", "--output 'm.jpg' is no PNG"),
        ("map linear photo.png -o photo.png --force", "'photo.png' is an input"),
        ("map linear photo.png -o mask.png", "'mask.png' exists"),
        ("map linear photo.png -o m.png --bits 12", "--bits 12"),
        (
            "map linear photo.png -o m.png --preview m.png",
            "--preview 'm.png' is the map's own name",
        ),
        ("map linear photo.png -o m.png --param radius", "--param 'radius' is not KEY=VALUE"),
        ("map linear photo.png -o m.png --param a=[", "not valid YAML"),
        ("map linear photo.png -o m.png --feather -3", "-3"),
    ],
)
def test_bad_command_lines_are_one_sentence(
    run: Command, folder: Path, command: str, words: str
) -> None:
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    done = run(*command.split())
    assert done.exit_code == 2, done.output
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1
    assert words in done.stderr
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_the_anomaly_map_is_the_library_s(run: Command, folder: Path) -> None:
    done = run("map", "anomaly", "photo.png", "-p", "black=1", "-p", "white=5", "-o", "map.png")
    assert done.exit_code == 0, done.output
    made = anomaly_map(folder / "photo.png", black=1, white=5).map
    np.testing.assert_array_equal(pixels(folder / "map.png"), as_grey(made.array, 16))
    for wrong, said in (("grey=1", "'grey' is no setting of 'anomaly': use black, white"),
                        ("white=0.5", "give 0 <= black < white")):  # fmt: skip
        done = run("map", "anomaly", "photo.png", "-p", wrong, "-o", "bad.png")
        assert done.exit_code == 2
        assert said in " ".join(done.output.split())
    assert run("map", "anomaly", "--size", "9x9", "-o", "a.png").exit_code == 2
