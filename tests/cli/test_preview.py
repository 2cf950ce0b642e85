"""The side-by-side picture shows what happened, in numbers that can be read back."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from typer.testing import Result

from differential_diffusion.cli.preview import (
    BAR,
    GAP,
    PANEL,
    SMALLEST,
    Panel,
    amplified,
    heat,
    sheet,
)

Command = Callable[..., Result]


def panels_of(path: Path, count: int, width: int, height: int) -> list[np.ndarray]:
    """The panels' pixels, cut out of a sheet by its layout."""
    with Image.open(path) as image:
        canvas = np.asarray(image)
    column = (canvas.shape[1] - GAP) // count
    lefts = [GAP + k * column for k in range(count)]
    return [canvas[BAR : BAR + height, left : left + width] for left in lefts]


def test_panels_are_input_map_output_and_difference(run: Command, folder: Path) -> None:
    """A 24x40 picture is enlarged sixfold, so every sixth pixel is the picture's."""
    options = ("--strength", "mask.png", "--steps", "3", "--preview", "sheet.png")
    assert run("edit", "photo.png", *options).exit_code == 0
    scale = SMALLEST // 40
    before, strength, after, difference = (
        panel[::scale, ::scale].astype(int)
        for panel in panels_of(folder / "sheet.png", 4, 40 * scale, 24 * scale)
    )
    np.testing.assert_array_equal(before, np.asarray(Image.open("photo.png")))
    np.testing.assert_array_equal(after, np.asarray(Image.open("photo-edit.png")))
    mask = np.asarray(Image.open("mask.png")) > 0
    assert strength[mask].sum(axis=-1).min() > strength[~mask].sum(axis=-1).max()
    assert (difference[~mask] == 0).all()
    change = np.abs(after - before)
    factors = (
        difference[(change > 0) & (difference < 255)] / change[(change > 0) & (difference < 255)]
    )
    assert len(set(factors)) == 1
    assert factors[0] in {1, 2, 4, 8, 16, 32, 64}


def test_noise_gets_a_panel_where_there_is_noise(run: Command, folder: Path) -> None:
    assert run("denoise", "photo.png", "--noise", "9", "--preview", "sheet.png").exit_code == 0
    with Image.open("sheet.png") as image:
        assert (image.width - GAP) % 5 == 0
        assert (image.width - GAP) // 5 == 40 * (SMALLEST // 40) + GAP


def test_several_pictures_fill_a_folder(run: Command, folder: Path) -> None:
    options = ("--strength", "mask.png", "--steps", "2", "--preview", "sheets", "-o", "made")
    assert run("edit", "photo.png", "other.png", *options).exit_code == 0
    assert {path.name for path in (folder / "sheets").iterdir()} == {"photo.png", "other.png"}


@given(st.integers(0, 255), st.integers(0, 255))
def test_the_difference_is_the_amplified_distance(a: int, b: int) -> None:
    before = np.full((2, 3, 3), a, np.uint8)
    after = np.full((2, 3, 3), b, np.uint8)
    shown, factor = amplified(before, after)
    assert (shown == min(255, factor * abs(a - b))).all()
    assert factor == 64 or abs(a - b) * 2 * factor > 255 or a == b


def test_heat_grows_lighter_with_the_value() -> None:
    """By Rec. 709 luminance of the encoded colours."""
    colours = heat(np.linspace(0, 1, 256, dtype=np.float32)[None])[0].astype(float)
    light = colours @ [0.2126, 0.7152, 0.0722]
    assert (np.diff(light) > -0.5).all()  # 8-bit rounding
    assert light[0] < 2
    assert light[-1] > 240


@pytest.mark.parametrize("shape", [(1, 1), (1, 5000), (3000, 2), (700, 650)])
def test_any_shape_fits(shape: tuple[int, int]) -> None:
    panel = Panel("x", np.zeros((*shape, 3), np.uint8))
    made = sheet([panel, panel])
    assert made.height <= PANEL + BAR + GAP
    assert made.width <= 2 * (max(PANEL, SMALLEST) + GAP) + GAP
