"""Operations on maps: laws, closed forms and brute force."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from scipy import ndimage

from differential_diffusion.errors import InputError
from differential_diffusion.maps import StrengthMap, boxes, constant_map, heat_map

Array = NDArray[np.float32]
SHAPES = hnp.array_shapes(min_dims=2, max_dims=2, max_side=9)
# Multiples of 1/256, half of them 0: exact under 1 - s.
LEVELS = st.one_of(st.just(0.0), st.integers(0, 256).map(lambda level: level / 256))


def maps_of(shape: tuple[int, ...]) -> st.SearchStrategy[StrengthMap]:
    return hnp.arrays(np.float32, shape, elements=LEVELS).map(StrengthMap)


ONE = SHAPES.flatmap(maps_of)
TWO = SHAPES.flatmap(lambda shape: st.tuples(maps_of(shape), maps_of(shape)))
THREE = SHAPES.flatmap(lambda shape: st.tuples(maps_of(shape), maps_of(shape), maps_of(shape)))


@given(TWO)
def test_de_morgan(maps: tuple[StrengthMap, StrengthMap]) -> None:
    a, b = maps
    assert ~(a | b) == ~a & ~b
    assert ~(a & b) == ~a | ~b
    assert ~~a == a


@given(THREE)
def test_union_and_intersection_are_a_distributive_lattice(
    maps: tuple[StrengthMap, StrengthMap, StrengthMap],
) -> None:
    a, b, c = maps
    zero, one = constant_map(a.height, a.width, strength=0), constant_map(a.height, a.width)
    assert a | a == a == a & a
    assert a | b == b | a
    assert a & b == b & a
    assert a | (b | c) == (a | b) | c
    assert a & (b & c) == (a & b) & c
    assert a | (a & b) == a == a & (a | b)
    assert a & (b | c) == (a & b) | (a & c)
    assert a | zero == a == a & one
    assert a & zero == zero
    assert a | one == one


@given(TWO)
def test_products_lie_below_intersections(maps: tuple[StrengthMap, StrengthMap]) -> None:
    a, b = maps
    product = (a * b).array
    np.testing.assert_array_equal(product, a.array * b.array)
    assert (product <= (a & b).array).all()
    assert a * constant_map(a.height, a.width) == a


def test_maps_of_different_sizes_are_refused() -> None:
    a, b = constant_map(2, 3), constant_map(3, 2)
    for operate in (lambda: a | b, lambda: a & b, lambda: a * b):
        with pytest.raises(InputError, match=r"3x2 and 2x3 .*resize"):
            operate()


@given(ONE, st.floats(0.1, 6))
def test_feather_inside_never_raises_and_keeps_zeros(made: StrengthMap, radius: float) -> None:
    soft = made.feather(radius, inside=True)
    assert (soft.array <= made.array).all()
    np.testing.assert_array_equal(soft.active, made.active)


def test_feather_inside_is_a_ramp_of_the_distance_to_kept_pixels() -> None:
    values = np.full((15, 15), 0.8, np.float32)
    values[3, 4] = values[12, 12] = 0
    rows, columns = np.mgrid[:15, :15]
    distance = np.minimum(np.hypot(rows - 3, columns - 4), np.hypot(rows - 12, columns - 12))
    soft = StrengthMap(values).feather(4, inside=True)
    np.testing.assert_allclose(soft.array, 0.8 * np.minimum(distance / 5, 1), rtol=0, atol=1e-5)


def test_feather_inside_leaves_a_map_without_kept_pixels_alone() -> None:
    made = StrengthMap(np.full((5, 6), 0.3))
    assert made.feather(3, inside=True) == made


def test_feather_is_a_gaussian_of_half_the_radius() -> None:
    edge = boxes(41, 41, boxes=[(20, -9, 99, 99)])
    x = np.arange(41) - 19.5
    expected = [0.5 * (1 + math.erf(at / 3 / math.sqrt(2))) for at in x]
    np.testing.assert_allclose(edge.feather(6).array[20], expected, rtol=0, atol=5e-3)


@given(ONE, st.sampled_from([1.0, 2.5, 6.0]))
def test_feather_equals_an_independent_blur(made: StrengthMap, radius: float) -> None:
    blurred = ndimage.gaussian_filter(made.array.astype(float), radius / 2, mode="nearest")
    np.testing.assert_allclose(made.feather(radius).array, blurred, rtol=0, atol=1e-3)


@given(ONE)
def test_a_radius_of_0_changes_nothing(made: StrengthMap) -> None:
    assert made.feather(0) == made == made.feather(0, inside=True)
    assert made.dilate(0) == made


@given(ONE, st.sampled_from([1.0, 1.5, 2.0, 2.9, 4.0]))
def test_dilate_equals_grey_dilation_with_a_disc(made: StrengthMap, radius: float) -> None:
    reach = math.floor(radius)
    offsets = np.arange(-reach, reach + 1)
    disc = np.hypot(offsets[:, None], offsets) <= radius
    expected = ndimage.grey_dilation(made.array, footprint=disc, mode="constant", cval=0)
    np.testing.assert_array_equal(made.dilate(radius).array, expected)


@given(
    ONE,
    st.tuples(st.floats(0, 1), st.floats(0, 1)).filter(lambda pair: pair[1] - pair[0] > 1e-3),
    st.sampled_from([0.5, 1.0, 2.2]),
)
def test_levels_are_their_formula(
    made: StrengthMap, ends: tuple[float, float], gamma: float
) -> None:
    black, white = ends

    def expected(s: float) -> float:
        return min(max((s - black) / (white - black), 0), 1) ** (1 / gamma)

    values = [[expected(float(s)) for s in row] for row in made.array]
    np.testing.assert_allclose(made.levels(black, white, gamma).array, values, rtol=0, atol=1e-6)


def test_levels_at_their_ends() -> None:
    made = StrengthMap(np.array([[0, 0.25, 0.5, 0.75, 1]]))
    assert made.levels() == made
    assert made.levels(0.25, 0.75).array.tolist() == [[0, 0, 0.5, 1, 1]]
    assert made.levels(gamma=2).array[0, 1] == 0.5


@pytest.mark.parametrize("level", [0.001, 0.25, 0.5, 1.0])
def test_threshold(level: float) -> None:
    values = np.array([[0, 0.25, 0.4999, 0.5, 1]], np.float32)
    expected = [[float(value >= level) for value in values[0].tolist()]]
    assert StrengthMap(values).threshold(level).array.tolist() == expected


@pytest.mark.parametrize(
    ("name", "arguments", "says"),
    [
        ("feather", (-1,), "feather radius is -1"),
        ("feather", (math.nan,), "feather radius"),
        ("dilate", (-1,), "dilation radius is -1"),
        ("levels", (0.5, 0.5), "white above black"),
        ("levels", (-0.1, 1), "black is -0.1"),
        ("levels", (0, 1, 0), "gamma is 0"),
        ("threshold", (0,), "level above 0"),
        ("threshold", (1.1,), "level is 1.1"),
        ("resize", (0, 4), "height is 0"),
        ("resize", (4, 2.5), "width is 2.5"),
        ("to_latent_grid", (0,), "cell is 0"),
    ],
)
def test_bad_numbers_are_refused(name: str, arguments: tuple[Any, ...], says: str) -> None:
    with pytest.raises(InputError, match=says):
        getattr(constant_map(4, 4), name)(*arguments)


def block_maximum(values: Array, cell: int) -> Array:
    rows, columns = (math.ceil(side / cell) for side in values.shape)
    return np.array(
        [
            [
                values[i * cell : (i + 1) * cell, j * cell : (j + 1) * cell].max()
                for j in range(columns)
            ]
            for i in range(rows)
        ]
    )


@given(SHAPES, st.integers(1, 5), st.data())
def test_resize_by_whole_factors_is_the_block_maximum(
    shape: tuple[int, int], factor: int, data: st.DataObject
) -> None:
    made = data.draw(maps_of((shape[0] * factor, shape[1] * factor)))
    np.testing.assert_array_equal(made.resize(*shape).array, block_maximum(made.array, factor))


@given(ONE, st.integers(1, 9), st.integers(1, 9))
def test_shrinking_takes_the_maximum_of_what_a_pixel_covers_in_part(
    made: StrengthMap, height: int, width: int
) -> None:
    rows, columns = min(height, made.height), min(width, made.width)

    def covered(index: int, size: int, source: int) -> slice:
        return slice(index * source // size, math.ceil((index + 1) * source / size))

    expected = [
        [
            made.array[covered(i, rows, made.height), covered(j, columns, made.width)].max()
            for j in range(columns)
        ]
        for i in range(rows)
    ]
    np.testing.assert_array_equal(made.resize(rows, columns).array, expected)


@given(ONE, st.integers(0, 20), st.integers(0, 20))
def test_growing_is_linear_between_pixel_centres(
    made: StrengthMap, more_rows: int, more_columns: int
) -> None:
    def at(size: int, source: int) -> NDArray[np.float64]:
        return np.clip((np.arange(size) + 0.5) * source / size - 0.5, 0, source - 1)

    height, width = made.height + more_rows, made.width + more_columns
    grid = np.meshgrid(at(height, made.height), at(width, made.width), indexing="ij")
    expected = ndimage.map_coordinates(made.array.astype(float), grid, order=1, mode="nearest")
    np.testing.assert_allclose(made.resize(height, width).array, expected, rtol=0, atol=1e-5)


@given(
    size=st.tuples(st.integers(1, 64), st.integers(1, 64)),
    target=st.tuples(st.integers(1, 64), st.integers(1, 64)),
    column=st.integers(0, 63),
    seed=st.integers(0, 99),
)
def test_shrinking_loses_no_stroke_of_one_pixel(
    size: tuple[int, int], target: tuple[int, int], column: int, seed: int
) -> None:
    """A column of ones, and one dot, stay at full strength; nothing free becomes kept."""
    height, width = min(size[0], target[0]), min(size[1], target[1])
    values = np.zeros(size, np.float32)
    values[:, column % size[1]] = 1
    stroke = StrengthMap(values).resize(height, width).array
    assert (stroke.max(axis=1) == 1).all()
    dot = np.zeros(size, np.float32)
    dot[tuple(np.random.default_rng(seed).integers(size))] = 1
    assert StrengthMap(dot).resize(height, width).max == 1


@given(ONE, st.integers(1, 11))
def test_a_latent_grid_is_the_block_maximum(made: StrengthMap, cell: int) -> None:
    np.testing.assert_array_equal(made.to_latent_grid(cell).array, block_maximum(made.array, cell))


def test_a_stroke_of_one_pixel_reaches_the_latent_grid() -> None:
    values = np.zeros((64, 60), np.float32)
    values[:, 59] = 0.75
    assert StrengthMap(values).to_latent_grid(8).array.tolist() == [[0] * 7 + [0.75]] * 8


def bytes_of(*shape: int) -> NDArray[np.uint8]:
    return np.random.default_rng(shape).integers(0, 256, shape).astype(np.uint8)


@given(made=ONE, alpha=st.floats(0, 1))
def test_heat_maps_leave_kept_pixels_unchanged(made: StrengthMap, alpha: float) -> None:
    picture = bytes_of(made.height, made.width, 3)
    shown = made.heat_map(picture, alpha)
    assert shown.dtype == np.uint8
    np.testing.assert_array_equal(shown[~made.active], picture[~made.active])
    np.testing.assert_array_equal(heat_map(made.array, picture, alpha), shown)


def test_heat_maps_show_every_level_of_a_kept_picture() -> None:
    picture = np.arange(256, dtype=np.uint8).reshape(16, 16, 1).repeat(3, 2)
    kept = constant_map(16, 16, strength=0)
    np.testing.assert_array_equal(kept.heat_map(picture), picture)
    np.testing.assert_array_equal(kept.heat_map(picture.astype(np.float32) / 127.5 - 1), picture)
    np.testing.assert_array_equal(kept.heat_map(picture[..., 0]), picture)
    np.testing.assert_array_equal(constant_map(16, 16).heat_map(picture, alpha=0), picture)


def test_heat_maps_run_from_violet_to_yellow_and_blend_by_alpha() -> None:
    """The published ends of the plasma scale: #0d0887 and #f0f921."""
    made = StrengthMap(np.array([[1e-6, 1.0]]))
    black, white = np.zeros((1, 2, 3), np.uint8), np.full((1, 2, 3), 255, np.uint8)
    ends = np.array([[(13, 8, 135), (240, 249, 33)]])
    assert np.abs(made.heat_map(black, 1.0).astype(int) - ends).max() <= 1
    for picture, base in ((black, 0.0), (white, 255.0)):
        shown = made.heat_map(picture, 0.25).astype(float)
        np.testing.assert_allclose(shown, 0.75 * base + 0.25 * ends, rtol=0, atol=1)


def test_heat_maps_refuse_what_does_not_fit() -> None:
    made = constant_map(4, 5)
    with pytest.raises(InputError, match=r"\(4, 5\) and the picture \(5, 4\)"):
        made.heat_map(bytes_of(5, 4, 3))
    with pytest.raises(InputError, match="image has the shape"):
        made.heat_map(bytes_of(4, 5, 4))
    with pytest.raises(InputError, match="alpha is 2"):
        made.heat_map(bytes_of(4, 5, 3), 2)
    with pytest.raises(InputError, match="leaves"):
        heat_map(np.full((4, 5), 2.0), bytes_of(4, 5, 3))
