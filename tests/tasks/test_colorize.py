"""Colouring: made grey again it is the picture that was given, and hints' colours fill regions."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image, ImageCms
from scipy.spatial import cKDTree
from torch import Tensor
from typer.testing import CliRunner

import differential_diffusion as dd
from differential_diffusion.cli import app
from differential_diffusion.core.operators import grey
from differential_diffusion.data.images import load_images
from differential_diffusion.errors import InputError
from differential_diffusion.schema import ColorizeRequest, build
from differential_diffusion.tasks import propagation
from differential_diffusion.tasks.propagation import affinity, propagated

from ..core.helpers import normal

RED, BLUE = (130, 60, 60), (110, 130, 190)
Pixels = NDArray[np.uint8]


def luma(pixels: NDArray[Any]) -> NDArray[np.float64]:
    values: NDArray[np.float64] = pixels.astype(float) @ np.array([0.299, 0.587, 0.114])
    return values


def halves() -> Pixels:
    """Dark on the left and light on the right, with texture."""
    rng = np.random.default_rng(0)
    picture = np.where(np.arange(40)[None] < 20, 80, 170) + rng.integers(-6, 7, (30, 40))
    return picture.astype(np.uint8)


def strokes(alpha: int = 255) -> Pixels:
    """A short red stroke on the left and a blue one on the right, transparent elsewhere."""
    hints = np.zeros((30, 40, 4), np.uint8)
    hints[10, 5:9] = (*RED, alpha)
    hints[20, 30:34] = (*BLUE, alpha)
    return hints


def known(count: int, height: int, width: int, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """A grey picture, values and where they are known."""
    y = normal(1, 1, height, width, seed=seed).float().cumsum(-1) / 10
    places = torch.zeros(height * width)
    places[:: height * width // count] = 1
    return y, normal(1, 2, height, width, seed=seed + 1).float(), places.view(1, 1, height, width)


def test_propagation_is_the_minimum_of_its_objective() -> None:
    """Against a dense solution of the same squares, written out pair by pair."""
    y, values, sure = known(6, 6, 7)
    w = affinity(y[0, 0].numpy()).toarray()
    assert np.array_equal(w, w.T)
    assert ((w > 0).sum(1).reshape(6, 7)[1:-1, 1:-1] == 8).all()
    k = 100 * sure.flatten().double().numpy()
    rows, target = [], []
    for r, s in zip(*np.nonzero(np.triu(w)), strict=True):
        row = np.zeros(42)
        row[[r, s]] = math.sqrt(w[r, s]), -math.sqrt(w[r, s])
        rows.append(row)
        target.append(np.zeros(2))
    for r in np.flatnonzero(k):
        row = np.zeros(42)
        row[r] = math.sqrt(k[r])
        rows.append(row)
        target.append(row[r] * values[0, :, r // 7, r % 7].double().numpy())
    expected = np.linalg.lstsq(np.array(rows), np.array(target), rcond=None)[0].T
    found = propagated(y, values, sure)[0].flatten(1).numpy()
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_large_pictures_are_solved_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    given = known(90, 60, 80)
    direct = propagated(*given)
    monkeypatch.setattr(propagation, "_DIRECT", 300)
    torch.testing.assert_close(propagated(*given), direct, rtol=0, atol=1e-2)


def test_very_large_pictures_are_solved_on_averages(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two flat halves of uneven size: averages know as much but next to the line between them."""
    monkeypatch.setattr(propagation, "_LARGEST", 500)
    y = torch.full((1, 1, 45, 61), -0.5)
    y[..., 30:] = 0.5
    values, sure = torch.zeros(1, 2, 45, 61), torch.zeros(1, 1, 45, 61)
    for place, value in (((3, 4), 0.3), ((40, 50), -0.2)):
        values[..., place[0], place[1]], sure[..., place[0], place[1]] = value, 1
    found = propagated(y, values, sure)
    assert found.shape == values.shape
    torch.testing.assert_close(found[..., :24], torch.full((1, 2, 45, 24), 0.3), rtol=0, atol=0.03)
    torch.testing.assert_close(found[..., 36:], torch.full((1, 2, 45, 25), -0.2), rtol=0, atol=0.03)


def test_colours_fill_the_regions_of_their_hints() -> None:
    made = dd.colorize(halves(), strokes()).image
    for columns, colour in ((np.s_[:, :19], RED), (np.s_[:, 21:], BLUE)):
        chroma = made[columns].astype(float) - luma(made[columns])[..., None]
        expected = np.array(colour) - luma(np.array(colour))
        assert np.abs(chroma - expected).max() < 4
    result = dd.colorize(halves(), strokes())
    assert result.notes[0].startswith("hints: 0.67 %")
    assert result.evaluations == 0


@pytest.mark.parametrize("estimate", ["mean", "sample"])
def test_made_grey_again_it_is_the_picture_that_was_given(estimate: Any) -> None:
    """To the last of 8 bits: rounding three channels moves their weighted sum by half at most."""
    grey_levels = np.random.default_rng(1).integers(0, 256, (24, 32)).astype(np.uint8)
    hints = np.random.default_rng(2).integers(0, 256, (24, 32, 4)).astype(np.uint8)
    hints[..., 3] = np.where(np.random.default_rng(3).random((24, 32)) < 0.1, 255, 0)
    made = dd.colorize(grey_levels, hints, estimate=estimate, steps=3).image
    assert made.shape == (24, 32, 3)
    assert int(np.ptp(made.astype(int), axis=-1).max()) > 20
    assert np.abs(luma(made) - grey_levels).max() <= 0.5 + 1e-3
    again = np.asarray(Image.fromarray(made).convert("L")).astype(int)
    assert np.abs(again - grey_levels).max() <= 1  # Pillow's weights are rounded, too
    exact = torch.from_numpy(grey_levels / 255).float()[None]
    floats = dd.colorize(exact, hints, estimate=estimate, steps=3).image
    torch.testing.assert_close(grey().forward(floats[None])[0], exact, rtol=0, atol=1e-5)


def test_of_a_picture_with_colours_the_luminance_is_coloured_anew() -> None:
    rng = np.random.default_rng(4)
    picture = rng.integers(60, 190, (20, 24, 3)).astype(np.uint8)
    made = dd.colorize(picture).image
    assert np.abs(luma(made) - luma(picture)).max() < 1
    assert int(np.ptp(made.astype(int), axis=-1).max()) <= 1


def test_without_hints_the_mean_is_grey_and_says_so() -> None:
    result = dd.colorize(halves())
    assert np.array_equal(result.image, np.repeat(halves()[..., None], 3, 2))
    assert "give hints" in result.notes[0]


@pytest.mark.parametrize("estimate", ["mean", "sample"])
def test_hints_are_met(estimate: Any) -> None:
    """The chroma of the hint on the lightness of the picture, where there is room for it."""
    made = dd.colorize(halves(), strokes(), estimate=estimate, steps=3).image.astype(float)
    for place, colour in (((10, slice(5, 9)), RED), ((20, slice(30, 34)), BLUE)):
        chroma = made[place] - luma(made[place])[..., None]
        expected = np.array(colour) - luma(np.array(colour))
        assert np.abs(chroma - expected).max() <= 1


def test_half_transparent_hints_count_half(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(propagation, "_HOLD", 1e-9)  # next to nothing spreads
    monkeypatch.setattr(propagation, "_GREY", 1.0)
    picture = torch.full((1, 30, 40), 0.5)
    whole, half = (dd.colorize(picture, strokes(alpha)).image for alpha in (255, 128))
    ratio = (half - 0.5)[:, 10, 5] / (whole - 0.5)[:, 10, 5]
    torch.testing.assert_close(ratio, torch.full((3,), 128 / 255), rtol=0, atol=1e-3)


def test_strokes_on_an_opaque_picture_are_told_by_their_colour() -> None:
    painted = np.repeat(halves()[..., None], 3, 2)
    painted[10, 5:9], painted[20, 30:34] = RED, BLUE
    expected = dd.colorize(halves(), strokes()).image
    np.testing.assert_array_equal(dd.colorize(halves(), painted).image, expected)
    opaque = np.dstack([painted, np.full((30, 40), 255, np.uint8)])
    np.testing.assert_array_equal(dd.colorize(halves(), Image.fromarray(opaque)).image, expected)


def test_kept_pixels_stay_bit_for_bit() -> None:
    strength = np.linspace(0, 1, 40, dtype=np.float32)[None].repeat(30, 0)
    strength[:, :8] = 0
    made = dd.colorize(halves(), strokes(), strength=strength).image
    assert np.array_equal(made[:, :8], np.repeat(halves()[:, :8, None], 3, 2))
    whole = dd.colorize(halves(), strokes()).image.astype(float)
    levels = halves()[..., None].astype(float)
    expected = levels + strength[..., None] * (whole - levels)
    assert np.abs(made - expected).max() <= 1
    inverted = dd.colorize(halves(), strokes(), strength=1 - strength, invert=True).image
    assert np.abs(inverted.astype(int) - made).max() <= 1


def test_kept_colours_are_hints() -> None:
    """What lies beside a coloured part of a picture continues its colours."""
    picture = np.repeat(halves()[..., None], 3, 2)
    left = picture[:, :6].astype(int) + (np.array(RED) - luma(np.array(RED))).round().astype(int)
    picture[:, :6] = np.clip(left, 0, 255)
    strength = np.ones((30, 40), np.float32)
    strength[:, :6] = 0
    for estimate in ("mean", "sample"):
        made = dd.colorize(picture, strength=strength, estimate=estimate, steps=2).image
        assert np.array_equal(made[:, :6], picture[:, :6])
    mean = dd.colorize(picture, strength=strength).image.astype(float)
    chroma = (mean - luma(mean)[..., None])[:, 6:18]
    assert np.abs(chroma - (np.array(RED) - luma(np.array(RED)))).max() < 4


def test_samples_differ_but_where_hints_are() -> None:
    result = dd.colorize(halves(), strokes(), samples=3, steps=3)
    assert result.std is not None
    assert result.std.mean() > 0.5
    assert result.std[10, 5:9].max() <= 0.5
    np.testing.assert_array_equal(result.image, dd.colorize(halves(), strokes()).image)


def test_bad_hints_are_refused_in_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="hints are 40x30 pixels and the picture 40x20"):
        dd.colorize(halves()[:20], strokes())
    with pytest.raises(InputError, match=r"none\.png"):
        dd.colorize(halves(), tmp_path / "none.png")
    with pytest.raises(InputError, match="the request's hints is a ndarray, which JSON cannot"):
        build(ColorizeRequest, image="photo.png", hints=strokes()).to_json()


def test_the_command_line_says_what_python_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Image.fromarray(halves()).save("photo.png")
    Image.fromarray(strokes()).save("hints.png")
    request = build(ColorizeRequest, image="photo.png", hints="hints.png")
    assert ColorizeRequest.model_validate_json(request.to_json()) == request
    given = ["--hints", "hints.png", "--strength", "0.7", "-o", "made.png", "--json"]
    done = CliRunner().invoke(app, ["colorize", "photo.png", *given])
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["notes"][0].startswith("hints: 0.67 %")
    expected = dd.colorize("photo.png", "hints.png", strength=0.7).image
    with Image.open("made.png") as made:
        np.testing.assert_array_equal(np.asarray(made), np.asarray(expected))


@pytest.mark.slow
@pytest.mark.parametrize(("share", "over_grey", "over_nearest"), [(0.001, 4, 1), (0.01, 8, 2)])
def test_photographs_get_their_colours_back_from_a_few_pixels(
    shared_data: Path, share: float, over_grey: float, over_nearest: float
) -> None:
    gains = []
    for index in (10, 30, 50):
        truth = sorted(load_images(shared_data / "cbsd68.tar").images)[index].pixels[:200, :200]
        levels = luma(truth).round().astype(np.uint8)
        mask = np.random.default_rng(index).random((200, 200)) < share
        hints = np.dstack([truth, 255 * mask.astype(np.uint8)])
        made = dd.colorize(levels, hints).image
        plain = np.repeat(levels[..., None], 3, 2)
        _, nearest = cKDTree(np.argwhere(mask)).query(np.argwhere(mask | True))
        chroma = truth[mask].astype(float) - luma(truth[mask])[:, None]
        copied = np.clip(plain + chroma[nearest].reshape(200, 200, 3), 0, 255)
        gains.append([psnr(made, truth) - psnr(other, truth) for other in (plain, copied)])
    assert np.all(np.mean(gains, 0) > (over_grey, over_nearest)), gains


def psnr(made: NDArray[Any], truth: Pixels) -> float:
    error = float(((made.astype(float) - truth) ** 2).mean())
    return 10 * math.log10(255**2 / error)


def test_the_profile_of_a_grey_picture_does_not_go_with_colours(tmp_path: Path) -> None:
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    profile[16:20] = b"GRAY"
    grey = Image.fromarray(np.full((16, 20), 90, np.uint8))
    grey.save(tmp_path / "grey.png", icc_profile=bytes(profile))
    result = dd.colorize(tmp_path / "grey.png")
    assert any("profile" in note for note in result.notes)
    result.save(tmp_path / "colours.png")
    with Image.open(tmp_path / "colours.png") as made:
        assert made.mode == "RGB"
        assert "icc_profile" not in made.info
