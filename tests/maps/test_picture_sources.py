"""Maps made from what the picture shows, against closed forms and independent implementations."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from scipy import fft, ndimage
from skimage.draw import disk, ellipse, polygon

from differential_diffusion.errors import InputError
from differential_diffusion.maps import (
    StrengthMap,
    boxes,
    colour_range,
    contrast_strength,
    edge_strength,
    find_colour,
    grab_cut,
    saliency_strength,
)

Array = NDArray[np.float64]
Picture = NDArray[np.float32]
Mask = NDArray[np.bool_]
Source = Callable[..., StrengthMap]

LEVEL = 1 / 127.5
ALL = {"percentile": 100, "black": 0}
MEASURES = [edge_strength, contrast_strength, saliency_strength]
WHAT_IS_SEEN = {edge_strength: 4 * LEVEL, contrast_strength: 4 * LEVEL}

# Multiples of 1/64, exact in sums.
SHAPES = st.tuples(st.integers(1, 14), st.integers(1, 14), st.sampled_from([1, 3]))
PICTURES = hnp.arrays(
    np.float32, SHAPES, elements=st.integers(-32, 32).map(lambda k: np.float32(k / 64))
)
measures = pytest.mark.parametrize("source", MEASURES, ids=lambda made: made.__name__)
local = pytest.mark.parametrize("source", list(WHAT_IS_SEEN), ids=lambda made: made.__name__)


def close(made: Any, expected: Any, atol: float = 1e-5) -> None:
    values = made.array if isinstance(made, StrengthMap) else made
    np.testing.assert_allclose(values, expected, rtol=0, atol=atol)


def floats(levels: Any) -> Picture:
    return (np.asarray(levels, np.float64) / 127.5 - 1).astype(np.float32)


def random_picture(height: int, width: int, channels: int, seed: int = 0) -> Picture:
    rng = np.random.default_rng(seed)
    return rng.uniform(-1, 1, (height, width, channels)).astype(np.float32)


def toned(measure: Array, least: float, percentile: float, black: float) -> Array:
    """The strength of a measure, by its definition."""
    seen = measure[measure > least]
    full = np.percentile(seen, percentile) if seen.size else least
    return np.clip((measure / full - black) / (1 - black), 0, 1)


# What all measures share


@measures
@given(picture=PICTURES, light=st.integers(-32, 32))
def test_light_added_changes_nothing(source: Source, picture: Picture, light: int) -> None:
    close(source(picture + np.float32(light / 64), **ALL), source(picture, **ALL).array, 2e-3)


@measures
@given(picture=PICTURES)
def test_a_turned_picture_has_a_turned_map(source: Source, picture: Picture) -> None:
    made = source(picture, **ALL).array
    close(source(picture[::-1], **ALL), made[::-1], 2e-3)
    close(source(picture[:, ::-1], **ALL), made[:, ::-1], 2e-3)
    close(source(picture.swapaxes(0, 1), **ALL), made.T, 2e-3)


@measures
@given(picture=PICTURES, black=st.integers(0, 9), strength=st.integers(0, 10))
def test_black_and_strength_are_lines(
    source: Source, picture: Picture, black: int, strength: int
) -> None:
    plain = source(picture, percentile=80, black=0).array.astype(np.float64)
    made = source(picture, percentile=80, black=black / 10, strength=strength / 10)
    # Where the plain map is clipped at 1 the other one is too.
    close(made, strength / 10 * np.clip((plain - black / 10) / (1 - black / 10), 0, 1))


@measures
@given(picture=PICTURES)
def test_a_lower_percentile_gives_no_less(source: Source, picture: Picture) -> None:
    made = [source(picture, percentile=percentile).array for percentile in (100, 70, 0)]
    assert (made[0] <= made[1]).all()
    assert (made[1] <= made[2]).all()


@measures
def test_grey_in_three_channels_is_grey(source: Source) -> None:
    grey = random_picture(30, 21, 1)
    close(source(np.repeat(grey, 3, 2)), source(grey).array)
    assert source(grey[..., 0]) == source(grey)


@measures
@pytest.mark.parametrize("value", [-1, 0.3, 1, 1e30])
def test_a_constant_picture_has_nothing(source: Source, value: float) -> None:
    for shape in ((1, 1, 3), (1, 9, 1), (80, 70, 3)):
        assert source(np.full(shape, value, np.float32), black=0).max == 0


@measures
def test_what_cannot_be_seen_is_not_blown_up(source: Source) -> None:
    """A sky of one 8-bit level more from top to bottom, rounded after dither."""
    light = np.linspace(120, 121, 300)[:, None, None] + random_picture(300, 200, 3) / 2
    assert source(floats(np.rint(light))).max < 0.15


@measures
def test_values_beyond_the_range_count_as_its_ends(source: Source) -> None:
    picture = random_picture(20, 30, 3)
    for factor in (3, 1e30):
        wild = picture * np.float32(factor)
        assert source(wild) == source(np.clip(wild, -1, 1))


@measures
def test_the_picture_is_left_as_it_was(source: Source) -> None:
    picture = random_picture(20, 30, 3)
    before = picture.copy()
    source(picture)
    np.testing.assert_array_equal(picture, before)


@local
@pytest.mark.parametrize("scale", [0.5, 2.3, 9])
@pytest.mark.parametrize("shape", [(37, 50, 3), (37, 50, 1), (3, 40, 3), (1, 9, 1)], ids=str)
def test_measures_are_those_of_scipy(
    source: Source, scale: float, shape: tuple[int, int, int]
) -> None:
    picture = random_picture(*shape)
    expected = toned(by_scipy(source, picture, scale), WHAT_IS_SEEN[source], 90, 0.2)
    close(source(picture, scale=scale, percentile=90, black=0.2), expected, 2e-4)


@local
def test_large_pictures_are_measured_without_seams(source: Source) -> None:
    picture = random_picture(1300, 1500, 1)
    expected = toned(by_scipy(source, picture, 4), WHAT_IS_SEEN[source], 95, 0.1)
    close(source(picture, scale=4), expected, 2e-4)


def by_scipy(source: Source, picture: Picture, scale: float) -> Array:
    """Heights of edges or local deviations, in float64."""

    def blurred(plane: Array) -> Array:
        radius = math.ceil(4 * scale)
        return np.asarray(ndimage.gaussian_filter(plane, scale, radius=radius, mode="reflect"))

    squares = np.zeros(picture.shape[:2])
    for plane in np.moveaxis(picture.astype(np.float64), -1, 0):
        if source is contrast_strength:
            squares += blurred(plane**2) - blurred(plane) ** 2
        else:
            for axis in (0, 1):
                squares += ndimage.correlate1d(blurred(plane), [-0.5, 0, 0.5], axis) ** 2
    if source is edge_strength:
        step = blurred(np.repeat([[0.0, 1.0]], 200, axis=1).reshape(1, -1))[0]
        squares /= ((step[201] - step[199]) / 2) ** 2
    return np.sqrt(np.maximum(squares / picture.shape[2], 0))


# Edges


def normal(x: float) -> float:
    return (1 + math.erf(x / math.sqrt(2))) / 2


@pytest.mark.parametrize("scale", [2, 5])
@pytest.mark.parametrize("turned", [False, True])
def test_a_step_has_the_profile_of_the_gaussian(scale: float, turned: bool) -> None:
    """A difference over two pixels of the Gaussian's integral, by the distance to the step."""
    picture = np.full((8, 80, 3), -0.3, np.float32)
    picture[:, 40:] = 0.5
    made = edge_strength(picture.swapaxes(0, 1) if turned else picture, scale=scale, **ALL).array
    x = np.arange(80) + 0.5 - 40
    rise = np.array([normal((d + 1) / scale) - normal((d - 1) / scale) for d in x])
    for line in made.T if turned else made:
        close(line, rise / rise.max(), 0.01)


@pytest.mark.parametrize("scale", [0.5, 1, 2, 7])
def test_the_height_of_a_step_is_told_at_every_scale(scale: float) -> None:
    """Of three 8-bit levels where four are the least that is full; and half of another one."""
    faint = np.full((4, 120, 1), 100.0)
    faint[:, 60:] = 103
    assert edge_strength(floats(faint), scale=scale, black=0).max == pytest.approx(3 / 4, rel=1e-3)
    two = np.full((4, 240, 1), 40.0)
    two[:, 80:] = 140
    two[:, 160:] = 190
    made = edge_strength(floats(two), scale=scale, **ALL).array[2]
    assert made[80] == pytest.approx(1)
    assert made[160] == pytest.approx(1 / 2, rel=1e-3)
    assert made[120] == 0


@pytest.mark.parametrize(("right", "down"), [(0.2, 0), (0, -0.15), (0.12, 0.16)])
def test_a_ramp_has_its_slope(right: float, down: float) -> None:
    """A step of height h has the slope h / (scale √2π) in its middle."""
    scale = 4
    row, column = np.mgrid[:60, :70]
    ramp = floats(100 + right * column + down * row)[..., None]
    made = edge_strength(ramp, scale=scale, black=0).array[20:-20, 20:-20]
    height = math.hypot(right, down) * scale * math.sqrt(2 * math.pi)
    close(made, height / 4, 0.01)


def test_edges_between_colours_of_one_lightness_count() -> None:
    """Two channels that change by h against each other, and a third that does not."""
    picture = np.zeros((6, 60, 3), np.float32)
    picture[:, 30:] = (0.01, -0.01, 0)
    made = edge_strength(picture, black=0)
    assert made.max == pytest.approx(0.01 * math.sqrt(2 / 3) / (4 * LEVEL), rel=1e-3)


# Contrast


@pytest.mark.parametrize(("period", "scale"), [(4, 4), (9, 3), (23, 5)])
def test_a_sine_has_its_deviation(period: float, scale: float) -> None:
    """m² = A²/2 (1 - cos(2ωx) e^{-2ω²σ²}) - A² sin²(ωx) e^{-ω²σ²}."""
    x, omega, amplitude = np.arange(200), 2 * math.pi / period, 4.4
    picture = floats(np.tile(120 + amplitude * np.sin(omega * x), (5, 1)))[..., None]
    made = contrast_strength(picture, scale=scale, black=0).array[2, 40:-40]
    x = x[40:-40]
    spread = math.exp(-((omega * scale) ** 2))
    variance = (1 - np.cos(2 * omega * x) * spread**2) / 2 - np.sin(omega * x) ** 2 * spread
    close(made, amplitude * np.sqrt(variance) / 4, 0.01)


def test_noise_has_its_level_whatever_its_mean() -> None:
    """Standard deviation 10 beside 20: half the strength, in colour as in grey."""
    rng = np.random.default_rng(1)
    for channels in (1, 3):
        noise = rng.normal(0, 10, (200, 400, channels))
        noise[:, 200:] = 2 * noise[:, 200:] + 60
        made = contrast_strength(floats(100 + noise), scale=12, percentile=100, black=0).array
        quiet, loud = made[:, 50:150].mean(), made[:, 250:350].mean()
        assert quiet / loud == pytest.approx(1 / 2, rel=0.03)


def test_texture_counts_and_a_slow_change_of_light_does_not() -> None:
    row, column = np.mgrid[:120, :240]
    light = 80 + 90 * column / 240
    light[:, 120:] += 30 * ((row + column) % 2)[:, 120:] - 15
    made = contrast_strength(floats(light)[..., None]).array
    assert made[20:-20, 20:100].max() == 0
    assert made[20:-20, 140:-20].min() > 0.95


# Saliency


def by_definition(picture: Picture) -> Array:
    """The measure of Hou and Zhang by the Fourier transform of the mirrored picture.

    That is 0 at the highest frequency, in whose place the last but one is read.
    """
    found = np.zeros(picture.shape[:2])
    for plane in np.moveaxis(picture.astype(np.float64), -1, 0):
        rows, columns = plane.shape
        whole = np.concatenate([plane, plane[:, ::-1]], 1)
        spectrum = fft.fft2(np.concatenate([whole, whole[::-1]], 0))
        log, phase = np.log(np.abs(spectrum) + 1e-12), np.angle(spectrum)
        log[0, 0] = np.nan  # the mean brightness, which is left out
        log[rows] = log[rows - 2]
        log[:, columns] = log[:, columns - 2]
        turns = [np.roll(log, (i, j), (0, 1)) for i in (-1, 0, 1) for j in (-1, 0, 1)]
        residual = log - np.nanmean(turns, axis=0)
        residual[0, 0] = residual[rows] = residual[:, columns] = -np.inf
        found += np.abs(fft.ifft2(np.exp(residual + 1j * phase))[:rows, :columns]) ** 2
    return np.asarray(ndimage.gaussian_filter(found, 2.5, mode="reflect"))


@pytest.mark.parametrize("shape", [(40, 60, 1), (60, 33, 3)], ids=str)
def test_saliency_is_that_of_the_paper(shape: tuple[int, int, int]) -> None:
    """To a few percent, as what cannot be seen is added to the amplitudes."""
    picture = random_picture(*shape)
    expected = by_definition(picture)
    close(saliency_strength(picture, **ALL), expected / expected.max(), 0.05)


def field_of_bars(odd: tuple[int, int], pixels: int) -> Picture:
    """Upright bars in 6 rows of 8, none quite in its place, and one of them level."""
    rng = np.random.default_rng(odd)
    unit = pixels // 8
    light = np.full((6 * pixels, 8 * pixels), 90.0)
    for row in range(6):
        for column in range(8):
            y, x = row * pixels + unit * rng.integers(3), column * pixels + unit * rng.integers(3)
            long, short = 6 * unit, 2 * unit
            if (row, column) == odd:
                light[y + short : y + 2 * short, x : x + long] = 200
            else:
                light[y : y + long, x + short : x + 2 * short] = 200
    return floats(light)[..., None]


@pytest.mark.parametrize("odd", [(1, 2), (4, 6), (2, 4), (0, 0), (5, 3)])
def test_the_odd_one_out_strikes_the_eye(odd: tuple[int, int]) -> None:
    made = saliency_strength(field_of_bars(odd, 8), **ALL).array
    in_cells = made.reshape(6, 8, 8, 8).mean((1, 3))
    assert np.unravel_index(in_cells.argmax(), in_cells.shape) == odd
    usual, second, first = np.sort(in_cells.ravel())[[24, -2, -1]]
    assert first - usual > 1.5 * (second - usual)


@pytest.mark.parametrize("odd", [(2, 2), (0, 4), (3, 1)])
def test_colour_strikes_the_eye_where_the_light_is_the_same(odd: tuple[int, int]) -> None:
    """A disc that differs from clouds of grey in hue alone, in a picture and in its luma."""
    clouds = ndimage.gaussian_filter(np.random.default_rng(odd).normal(0, 1, (120, 150)), 3)
    picture = np.repeat(110 + 10 * (clouds / clouds.std())[..., None], 3, 2)
    picture[disk((30 * odd[0] + 15, 30 * odd[1] + 15), 9)] += (60, -0.299 / 0.587 * 60, 0)
    grey = picture @ (0.299, 0.587, 0.114)
    made = [saliency_strength(floats(shown), **ALL).array for shown in (picture, grey)]
    in_colour, in_grey = (one.reshape(4, 30, 5, 30).mean((1, 3)) for one in made)
    assert np.unravel_index(in_colour.argmax(), in_colour.shape) == odd
    assert in_colour[odd] > 2 * np.sort(in_colour.ravel())[-2]
    assert in_grey[odd] < 1.5 * np.median(in_grey)


def test_a_larger_picture_has_the_same_map() -> None:
    small = saliency_strength(field_of_bars((2, 5), 8)).array
    large = saliency_strength(field_of_bars((2, 5), 72)).array
    close(large.reshape(48, 9, 64, 9).mean((1, 3)), small, 0.05)


# GrabCut


def textured(mask: Mask, inner: Any, outer: Any, seed: int = 0) -> Picture:
    """An object of one colour before a background of another, both striped and noisy."""
    rng = np.random.default_rng(seed)
    row, column = np.mgrid[: mask.shape[0], : mask.shape[1]]
    stripes = 18 * np.where(mask, np.sin(row / 5 + column / 9), np.sin(row / 11 - column / 4))
    colours = np.where(mask[..., None], np.array(inner), np.array(outer))
    return floats(colours + stripes[..., None] + rng.normal(0, 8, (*mask.shape, 1)))


def ellipse_scene() -> Mask:
    mask = np.zeros((120, 160), bool)
    mask[ellipse(60, 75, 38, 48, mask.shape)] = True
    return mask


def star_scene() -> Mask:
    mask = np.zeros((150, 150), bool)
    turns = np.radians(36 * np.arange(10))
    reach = np.where(np.arange(10) % 2, 30, 62)
    mask[polygon(75 + reach * np.sin(turns), 75 + reach * np.cos(turns), mask.shape)] = True
    return mask


def two_discs_scene() -> Mask:
    mask = np.zeros((100, 180), bool)
    mask[disk((50, 55), 30)] = mask[disk((45, 128), 25)] = True
    return mask


def box_of(mask: Mask, margin: float = 6) -> list[float]:
    rows, columns = np.nonzero(mask)
    return [
        columns.min() - margin,
        rows.min() - margin,
        columns.max() + 1 + margin,
        rows.max() + 1 + margin,
    ]


def overlap(made: StrengthMap, mask: Mask) -> float:
    """Intersection over union."""
    found = made.array > 0.5
    return float((found & mask).sum() / (found | mask).sum())


@pytest.mark.parametrize("scene", [ellipse_scene, star_scene, two_discs_scene])
@pytest.mark.parametrize(
    ("inner", "outer"), [((200, 90, 60), (60, 110, 160)), ((70,), (170,))], ids=["colour", "grey"]
)
def test_the_object_is_cut_out(scene: Callable[[], Mask], inner: Any, outer: Any) -> None:
    mask = scene()
    made = grab_cut(textured(mask, inner, outer), box=box_of(mask))
    assert overlap(made, mask) > 0.98
    assert set(np.unique(made.array)) == {0, 1}


def test_a_large_picture_is_cut_at_a_working_size() -> None:
    """The border is off by less than a pixel of that size, and a few of the picture's wide."""
    mask = np.zeros((1100, 1500), bool)
    mask[ellipse(520, 700, 260, 340, mask.shape, rotation=0.4)] = True
    made = grab_cut(textured(mask, (200, 90, 60), (60, 110, 160)), box=box_of(mask, 40), side=256)
    assert overlap(made, mask) > 0.97
    distance = ndimage.distance_transform_edt(mask) + ndimage.distance_transform_edt(~mask)
    assert distance[(made.array > 0.5) != mask].max() < 1500 / 256
    between = (made.array > 0.02) & (made.array < 0.98)
    assert 0 < between.sum() < 3 * (distance == 1).sum() / 2


def test_the_same_picture_gives_the_same_map_and_opencv_keeps_its_state() -> None:
    def drawn() -> list[int]:
        return list(cv2.randu(np.zeros(8, np.uint8), 0, 255).ravel())

    mask = star_scene()
    picture = textured(mask, (150, 110, 90), (110, 120, 130))
    cv2.setRNGSeed(7)
    untouched = [drawn(), drawn()]
    cv2.setRNGSeed(7)
    first = grab_cut(picture, box=box_of(mask))
    assert drawn() == untouched[0]
    assert grab_cut(picture, box=box_of(mask)) == first
    assert drawn() == untouched[1]


def test_nothing_lies_outside_the_box() -> None:
    rng = np.random.default_rng(2)
    for shape in ((40, 50, 3), (90, 700, 1)):
        picture = random_picture(*shape)
        for _ in range(4):
            left, right = np.sort(rng.choice(shape[1], 2, replace=False))
            top, bottom = np.sort(rng.choice(shape[0], 2, replace=False))
            box = [int(left), int(top), int(right), int(bottom)]
            made = grab_cut(picture, box=box, side=64)
            outside = ~boxes(*shape[:2], boxes=[box]).active
            assert (made.array[outside] == 0).all()


def test_what_of_the_box_lies_outside_the_picture_is_cut_off() -> None:
    mask = ellipse_scene()
    picture = textured(mask, (200, 90, 60), (60, 110, 160))[:, 50:]
    wide, cut = (grab_cut(picture, box=box) for box in ([-90, 10, 90, 110], [0, 10, 90, 110]))
    assert wide == cut
    assert overlap(cut, mask[:, 50:]) > 0.98


def test_specks_and_holes_are_taken_away() -> None:
    mask = ellipse_scene()
    picture = textured(mask, (200, 90, 60), (60, 110, 160))
    picture[60, 70:72] = picture[5, 5]
    picture[30, 34] = picture[60, 80]
    made = grab_cut(picture, box=box_of(mask)).array
    assert made[60, 70:72].tolist() == [1, 1]
    assert made[30, 34] == 0


def test_strength_and_feather() -> None:
    mask = ellipse_scene()
    picture, box = textured(mask, (200, 90, 60), (60, 110, 160)), box_of(mask)
    plain = grab_cut(picture, box=box)
    assert grab_cut(picture, box=box, strength=0.5) == StrengthMap(plain.array * 0.5)
    assert grab_cut(picture, box=box, feather=5) == plain.feather(5)


@pytest.mark.parametrize("shape", [(40, 50, 3), (2, 1, 3), (1, 2, 1), (900, 3, 3)], ids=str)
@pytest.mark.parametrize("value", [-1, 0.25, 1e30])
def test_a_picture_of_one_colour_has_no_object_apart_from_its_box(
    shape: tuple[int, int, int], value: float
) -> None:
    made = grab_cut(np.full(shape, value, np.float32), box=[0, 0, 1, 1], side=64).array
    assert len(np.unique(made[:1, :1])) == 1
    assert made.sum() == made[0, 0]


def test_a_single_pixel_is_its_own_object() -> None:
    assert grab_cut(np.zeros((1, 1, 3), np.float32), box=[0, 0, 1, 1]).array.tolist() == [[1]]


@pytest.mark.parametrize("box", [[0, 0, 50, 40], [-3, -2, 60, 41], [0.2, 0.9, 49.1, 39.5]])
def test_a_box_that_leaves_no_background_is_refused(box: list[float]) -> None:
    with pytest.raises(InputError, match="box covers the whole picture"):
        grab_cut(random_picture(40, 50, 3), box=box)


@pytest.mark.parametrize("box", [[50, 0, 60, 9], [-9, 0, 0, 9], [0, 40, 9, 41], [3, -5, 9, -1]])
def test_a_box_outside_the_picture_is_refused(box: list[float]) -> None:
    with pytest.raises(InputError, match="outside the picture of 50x40 pixels"):
        grab_cut(random_picture(40, 50, 3), box=box)


# Ranges of colour


def lab(rgb: Any) -> Array:
    """CIELAB of 8-bit sRGB, after IEC 61966-2-1 and CIE 15, with the white of D65."""
    value = np.asarray(rgb, np.float64) / 255
    linear = np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)
    to_xyz = np.array(
        [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]
    )
    t = linear @ to_xyz.T / (0.9505, 1.0, 1.0890)
    dark = t / 3 * (29 / 6) ** 2 + 4 / 29
    x, y, z = np.moveaxis(np.where(t > (6 / 29) ** 3, np.cbrt(t), dark), -1, 0)
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=-1)


@given(
    colour=st.tuples(*3 * [st.integers(0, 255)]),
    tolerance=st.floats(0, 80),
    softness=st.floats(1, 80),
    lightness=st.floats(0, 1),
)
def test_strength_falls_with_the_difference_in_cielab(
    colour: tuple[int, int, int], tolerance: float, softness: float, lightness: float
) -> None:
    levels = np.random.default_rng(3).integers(0, 256, (9, 8, 3))
    levels[0, 0] = colour
    apart = (lab(levels) - lab(colour)) * (lightness, 1, 1)
    difference = np.sqrt((apart**2).sum(-1))
    expected = np.clip((tolerance + softness - difference) / softness, 0, 1)
    made = colour_range(
        floats(levels), colour=colour, tolerance=tolerance, softness=softness, lightness=lightness
    )
    close(made, expected, 0.02)


@pytest.mark.parametrize(
    ("one", "other", "difference"),
    [
        ((0, 0, 0), (255, 255, 255), 100),
        ((255, 0, 0), (0, 255, 0), math.dist((53.24, 80.09, 67.20), (87.74, -86.18, 83.18))),
        ((0, 0, 255), (255, 255, 0), math.dist((32.30, 79.19, -107.86), (97.14, -21.55, 94.48))),
    ],
)
def test_published_coordinates_of_the_primaries(one: Any, other: Any, difference: float) -> None:
    picture = floats([[other]])
    near = colour_range(picture, colour=one, tolerance=difference + 0.1, softness=0)
    far = colour_range(picture, colour=one, tolerance=difference - 0.1, softness=0)
    assert (near.max, far.max) == (1, 0)


@given(
    levels=hnp.arrays(np.uint8, st.tuples(st.integers(1, 6), st.integers(1, 6), st.just(3))),
    data=st.data(),
)
@settings(max_examples=50)
def test_without_tolerance_it_is_the_exact_colour(levels: Any, data: Any) -> None:
    row = data.draw(st.integers(0, levels.shape[0] - 1))
    colour = [int(value) for value in levels[row, 0]]
    made = colour_range(floats(levels), colour=colour, tolerance=0, softness=0)
    assert made == find_colour(floats(levels), colour=colour, tolerance=0, grow=0)
    assert made.array[row, 0] == 1


def test_without_lightness_all_greys_are_one_colour() -> None:
    greys = np.arange(256.0).reshape(16, 16, 1)
    assert colour_range(floats(greys), colour=(80, 80, 80), lightness=0).array.min() == 1
    made = colour_range(floats(greys), colour=(80, 80, 80), tolerance=3, softness=0)
    assert 10 < made.array.sum() < 20
    in_colour = floats(greys.repeat(3, 2))
    assert made == colour_range(in_colour, colour=(80, 80, 80), tolerance=3, softness=0)


def test_large_pictures_are_compared_without_seams_and_strength_scales() -> None:
    levels = np.random.default_rng(4).integers(0, 256, (700, 800, 3))
    difference = np.linalg.norm(lab(levels) - lab((120, 90, 60)), axis=-1)
    expected = 0.4 * np.clip((35 - difference) / 20, 0, 1)
    close(colour_range(floats(levels), colour=(120, 90, 60), strength=0.4), expected, 0.005)
