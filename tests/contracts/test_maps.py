"""One suite over MAPS: what holds for every source of strength maps."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from differential_diffusion.errors import InputError
from differential_diffusion.maps import MAPS, StrengthMap, make_map

from .. import map_models

Params = dict[str, Any]
GIVEN = {"height", "width", "image"}
SIZES = [(24, 31, 3), (24, 31, 1), (9, 5, 3), (1, 1, 3), (1, 40, 3), (40, 1, 1)]


def picture(height: int, width: int, channels: int) -> NDArray[np.float32]:
    rng = np.random.default_rng([height, width, channels])
    return rng.uniform(-1, 1, (height, width, channels)).astype(np.float32)


def file_of(folder: Path, height: int, width: int) -> str:
    path = folder / f"{height}x{width}.png"
    grey = np.linspace(0, 255, height * width).reshape(height, width).astype(np.uint8)
    Image.fromarray(grey).save(path)
    return str(path)


STROKE = {"points": [[1, 2], [20, 9]], "radius": 3, "hardness": 0.5, "strength": 0.7}
TRIANGLE = [[0, 0], [20, 2], [4, 18]]
SETTINGS: dict[str, Params] = {
    "constant": {"strength": 0.3},
    "linear": {"angle": 30, "low": 0.2, "high": 0.9, "smooth": True},
    "radial": {"centre": [3, 4], "inner": 1, "outer": 9},
    "brush": {"strokes": [STROKE, {"points": [[0, 0]]}]},
    "boxes": {"boxes": [[0, 0, 4.5, 3.25], [2, 2, 90, 90]], "strength": 0.6, "feather": 1},
    "polygons": {"polygons": [TRIANGLE], "strength": 0.5, "feather": 1},
    "noise": {"kind": "white"},
    "compression": {},
    "damage": {"colour": [10, 20, 30], "grow": 2},
    "colour": {"colour": [10, 20, 30], "tolerance": 90},
    "colour_range": {"colour": [10, 20, 30], "tolerance": 20, "softness": 30, "lightness": 0.5},
    "edges": {"scale": 1.5, "percentile": 90, "black": 0.2, "strength": 0.8},
    "contrast": {"scale": 3, "percentile": 90, "black": 0.2, "strength": 0.8},
    "saliency": {"side": 16, "percentile": 90, "black": 0.2, "strength": 0.8},
    "grabcut": {"box": [0, 0, 4.5, 3.25], "side": 64, "feather": 1, "strength": 0.8},
    **{name: dict(settings) for name, settings in map_models.SETTINGS.items()},
}
BAD: dict[str, list[Params]] = {
    "constant": [{"strength": 1.5}, {"strength": float("nan")}, {"strength": "a"}],
    "file": [{"path": "there-is-no-such-file.png"}, {"path": "."}],
    "linear": [{"start": [0, 0]}, {"start": [1, 1], "end": [1, 1]}, {"low": -0.1}, {"angle": "x"}],
    "radial": [{"inner": 5, "outer": 5}, {"centre": [1]}, {"inner": -1}, {"high": 2}],
    "brush": [
        {"strokes": [{}]},
        {"strokes": [{"points": []}]},
        {"strokes": [{"points": [[0, 0]], "colour": "red"}]},
        {"strokes": [{"points": [[0, 0]], "radius": 0}]},
        {"strokes": STROKE},
        {"strokes": 3},
    ],
    "boxes": [{"boxes": [[0, 0, 1]]}, {"boxes": [[4, 0, 2, 9]]}, {"boxes": 1}, {"boxes": [7]}],
    "polygons": [{"polygons": [[[0, 0], [1, 1]]]}, {"polygons": [[[0, 0], [1, 1], [2]]]}],
    "noise": [{"kind": "pink"}],
    "compression": [],
    "damage": [
        {"grow": -1},
        {"noise": -0.5},
        {"colour": [1, 2]},
        {"colour": [1, 2, 3], "tolerance": 999},
    ],
    "colour": [
        {"colour": [0, 0, 256]},
        {"colour": "magenta"},
        {"colour": [1, 2, 3], "tolerance": -1},
    ],
    "colour_range": [
        {"colour": [0, 0, 256]},
        {"colour": 3},
        {"colour": [1, 2, 3], "tolerance": -1},
        {"colour": [1, 2, 3], "softness": float("nan")},
        {"colour": [1, 2, 3], "lightness": 1.5},
        {"colour": [1, 2, 3], "strength": True},
    ],
    "edges": [
        {"scale": 0},
        {"scale": True},
        {"scale": 1e9},
        {"percentile": 101},
        {"black": 1},
        {"strength": -0.1},
    ],
    "contrast": [{"scale": float("nan")}, {"scale": "fine"}, {"black": -1}, {"percentile": None}],
    "saliency": [{"side": 0}, {"side": 64.5}, {"side": 10**6}, {"black": 1}, {"strength": 2}],
    "grabcut": [
        {"box": [0, 0, 1]},
        {"box": [4, 0, 2, 9]},
        {"box": 1},
        {"box": [0, 0, True, 9]},
        {"box": [0, 0, 9, float("nan")]},
        {"box": [40, 0, 50, 9]},
        {"box": [0, 0, 31, 24]},
        {"box": [0, 0, 9, 9], "side": 3},
        {"box": [0, 0, 9, 9], "feather": -1},
        {"box": [0, 0, 9, 9], "strength": 2},
    ],
    "depth": [
        {"model": "there-is-no-such-model"},
        {"model": 3},
        {"model": ".", "near": 1.5},
        {"model": ".", "far": "a"},
        {"model": ".", "larger": "bigger"},
        {"model": ".", "percentile": 50},
    ],
    "segmentation": [
        {"model": "there-is-no-such-model", "classes": {"sky": 1}},
        {"model": ".", "classes": {"sky": 1}, "default": -1},
        {"model": ".", "classes": {"sky": 1}, "soft": "no"},
    ],
    "detection": [
        {"model": "there-is-no-such-model", "classes": {"cat": 1}},
        {"model": ".", "classes": {"cat": 1}, "threshold": 2},
        {"model": ".", "classes": {"cat": 1}, "default": True},
        {"model": ".", "classes": {"cat": 1}, "feather": -1},
    ],
    "text": [
        {"model": "there-is-no-such-model", "text": "a"},
        {"model": ".", "text": ""},
        {"model": ".", "text": "a", "black": 0.5, "white": 0.5},
        {"model": ".", "text": "a", "threshold": 0},
        {"model": ".", "text": "a", "strength": 2},
    ],
    "salient": [
        {"model": "there-is-no-such-model"},
        {"model": ".", "strength": "a"},
        {"model": ".", "default": 2},
    ],
}


@pytest.fixture(scope="module", autouse=True)
def _tiny_models(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Gives the sources that look through a model a tiny one."""
    folder = tmp_path_factory.mktemp("models")
    for name in map_models.SETTINGS:
        SETTINGS[name]["model"] = str(map_models.save(name, folder))


def settings_of(name: str, folder: Path, height: int, width: int) -> Params:
    return {"path": file_of(folder, height, width)} if name == "file" else SETTINGS[name]


def refuse(make: Callable[[], object], *mentions: str) -> None:
    """The call raises InputError, in one sentence of one line that holds the words given."""
    with pytest.raises(InputError) as caught:
        make()
    message = str(caught.value)
    assert "\n" not in message
    assert message.endswith(".")
    for mention in mentions:
        assert mention in message


def test_every_source_has_settings_here() -> None:
    assert set(MAPS) == set(SETTINGS) | {"file"} == set(BAD)


@pytest.fixture(params=MAPS)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.mark.parametrize("shape", SIZES, ids=str)
def test_the_map_fits_the_picture(name: str, shape: tuple[int, int, int], tmp_path: Path) -> None:
    made = make_map(name, picture(*shape), settings_of(name, tmp_path, *shape[:2]))
    assert isinstance(made, StrengthMap)
    assert made.array.shape == (made.height, made.width) == shape[:2]
    assert made.array.dtype == np.float32
    assert made.array.min() >= 0
    assert made.array.max() <= 1


def test_the_map_is_the_same_each_time_and_cannot_change(name: str, tmp_path: Path) -> None:
    image = picture(24, 31, 3)
    before = image.copy()
    params = settings_of(name, tmp_path, 24, 31)
    made = make_map(name, image, params)
    assert made == make_map(name, image, params)
    np.testing.assert_array_equal(image, before)
    with pytest.raises(ValueError, match="read-only"):
        made.array[0, 0] = 0.5
    with pytest.raises(AttributeError, match="immutable"):
        made.array = np.zeros((24, 31))  # type: ignore[misc]


def test_settings_pass_through_json(name: str, tmp_path: Path) -> None:
    params = settings_of(name, tmp_path, 24, 31)
    image = picture(24, 31, 3)
    assert make_map(name, image, json.loads(json.dumps(params))) == make_map(name, image, params)


def test_the_map_does_not_share_the_picture(name: str, tmp_path: Path) -> None:
    image = picture(24, 31, 3)
    made = make_map(name, image, settings_of(name, tmp_path, 24, 31))
    values = made.array.copy()
    image[:] = 0
    np.testing.assert_array_equal(made.array, values)


@pytest.mark.parametrize(
    ("name", "params"), [(name, bad) for name, every in BAD.items() for bad in every], ids=str
)
def test_bad_settings_are_refused(name: str, params: Params) -> None:
    refuse(lambda: make_map(name, picture(24, 31, 3), params))


@pytest.mark.parametrize(
    ("name", "params"),
    [
        ("file", {"path": 3}),
        ("linear", {"smooth": "no"}),
        ("boxes", {"boxes": [[0, 0, 9, 10**400]]}),
        ("boxes", {"boxes": [[0, 0, 9, 9]], "feather": 1e9}),
        ("damage", {"noise": "a"}),
        ("damage", {"scratches": "no"}),
    ],
    ids=lambda value: str(value)[:40],
)
def test_settings_of_the_wrong_kind_are_refused(name: str, params: Params) -> None:
    refuse(lambda: make_map(name, picture(24, 31, 3), params))


@pytest.mark.parametrize("image", [np.zeros(3, np.float32), [[0.0]]], ids=str)
def test_what_is_no_picture_is_refused(image: Any) -> None:
    refuse(lambda: make_map("constant", image))


def test_unknown_settings_are_refused_with_those_there_are(name: str, tmp_path: Path) -> None:
    params = settings_of(name, tmp_path, 24, 31)
    known = [
        setting for setting in inspect.signature(MAPS[name]).parameters if setting not in GIVEN
    ]
    image = picture(24, 31, 3)
    refuse(lambda: make_map(name, image, {**params, "strenght": 1}), "'strenght'", name, *known)
    for taken in GIVEN:
        refuse(lambda taken=taken: make_map(name, image, {**params, taken: 3}), f"'{taken}'")


def test_missing_settings_are_named(name: str) -> None:
    parameters = inspect.signature(MAPS[name]).parameters.items()
    needed = [key for key, parameter in parameters if parameter.default is parameter.empty]
    needed = [key for key in needed if key not in GIVEN]
    if needed:
        refuse(lambda: make_map(name, picture(24, 31, 3)), name, f"'{needed[0]}'")
    else:
        assert make_map(name, picture(24, 31, 3)).array.shape == (24, 31)


def test_every_setting_is_described(name: str) -> None:
    text = inspect.getdoc(MAPS[name])
    assert text is not None
    first, _, rest = text.partition("\n\n")
    assert first.endswith(".")
    assert "\n" not in first
    assert "Raises:\n    InputError:" in rest
    for setting in inspect.signature(MAPS[name]).parameters:
        assert f"\n    {setting}: " in rest, f"'{setting}' of '{name}' has no description"


def test_sources_that_need_the_picture_check_it() -> None:
    asking = [name for name, made in MAPS.items() if "image" in inspect.signature(made).parameters]
    assert {"noise", "damage", "colour", "edges", "grabcut"} <= set(asking)
    broken = picture(6, 6, 3)
    broken[2, 2] = np.nan
    for name in asking:
        for bad in (broken, picture(6, 6, 2), np.zeros((6, 6, 3), np.uint8)):
            refuse(lambda name=name, bad=bad: make_map(name, bad, SETTINGS[name]), "image")


def test_unknown_sources_are_refused_with_those_there_are() -> None:
    refuse(lambda: make_map("deep", picture(4, 4, 3)), "'deep'", *MAPS)


def test_a_file_of_another_size_is_refused_with_the_remedy(tmp_path: Path) -> None:
    params = {"path": file_of(tmp_path, 5, 7)}
    refuse(lambda: make_map("file", picture(24, 31, 3), params), "7x5", "31x24", "resize(24, 31)")
