"""Sources of maps against their closed forms."""

from __future__ import annotations

import itertools
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image
from skimage.measure import points_in_poly

from differential_diffusion.errors import InputError
from differential_diffusion.maps import (
    StrengthMap,
    Stroke,
    boxes,
    brush_strokes,
    constant_map,
    from_file,
    from_image,
    linear_gradient,
    polygons,
    radial_gradient,
)

HEIGHT, WIDTH = 7, 11
COORDINATES = st.integers(-16, 104).map(lambda eighths: eighths / 8)
Array = NDArray[np.float64]


def each_pixel(value: Any, height: int = HEIGHT, width: int = WIDTH) -> Array:
    """The values of value(x, y) at the pixels' centres."""
    return np.array([[value(x + 0.5, y + 0.5) for x in range(width)] for y in range(height)])


def close(made: StrengthMap, expected: Any, atol: float = 1e-6) -> None:
    np.testing.assert_allclose(made.array, expected, rtol=0, atol=atol)


def test_constant() -> None:
    assert constant_map(2, 3).array.tolist() == [[1.0] * 3] * 2
    assert constant_map(2, 3, strength=0.25).array.tolist() == [[0.25] * 3] * 2


@pytest.mark.parametrize(
    ("angle", "expected"),
    [
        (None, lambda x, y: x / WIDTH),
        (0, lambda x, y: x / WIDTH),
        (90, lambda x, y: y / HEIGHT),
        (180, lambda x, y: 1 - x / WIDTH),
        (-90, lambda x, y: 1 - y / HEIGHT),
        (45, lambda x, y: (x + y) / (WIDTH + HEIGHT)),
        (135, lambda x, y: (WIDTH - x + y) / (WIDTH + HEIGHT)),
        (405, lambda x, y: (x + y) / (WIDTH + HEIGHT)),
    ],
)
def test_linear_gradient_at_an_angle(angle: float | None, expected: Any) -> None:
    close(linear_gradient(HEIGHT, WIDTH, angle=angle), each_pixel(expected))


@given(start=st.tuples(COORDINATES, COORDINATES), end=st.tuples(COORDINATES, COORDINATES))
def test_linear_gradient_between_points(
    start: tuple[float, float], end: tuple[float, float]
) -> None:
    """Distance along the line: by the law of cosines, from the distances to both ends."""
    length = math.dist(start, end)
    if length == 0:
        with pytest.raises(InputError, match="same point"):
            linear_gradient(HEIGHT, WIDTH, start=start, end=end)
        return

    def expected(x: float, y: float) -> float:
        to_start, to_end = math.dist((x, y), start), math.dist((x, y), end)
        along = (to_start**2 + length**2 - to_end**2) / (2 * length)
        return 0.9 - 0.7 * min(max(along / length, 0), 1)

    made = linear_gradient(HEIGHT, WIDTH, start=start, end=end, low=0.9, high=0.2)
    close(made, each_pixel(expected))


def test_smooth_gradients_ease_in_and_out() -> None:
    t = (np.arange(100) + 0.5) / 100
    made = linear_gradient(1, 100, smooth=True, low=0.2, high=0.6).array[0]
    np.testing.assert_allclose(made, 0.2 + 0.4 * (3 * t**2 - 2 * t**3), rtol=0, atol=1e-6)
    assert made[1] - made[0] < 0.05 * (made[50] - made[49])


@given(centre=st.tuples(COORDINATES, COORDINATES), inner=st.integers(0, 5), width=st.integers(1, 8))
def test_radial_gradient(centre: tuple[float, float], inner: int, width: int) -> None:
    def expected(x: float, y: float) -> float:
        t = (math.dist((x, y), centre) - inner) / width
        return 0.8 - 0.7 * min(max(t, 0), 1)

    made = radial_gradient(
        HEIGHT, WIDTH, centre=centre, inner=inner, outer=inner + width, low=0.1, high=0.8
    )
    close(made, each_pixel(expected))


def test_radial_gradient_is_by_default_a_disc_in_the_middle() -> None:
    middle, radius = (WIDTH / 2, HEIGHT / 2), HEIGHT / 2
    expected = each_pixel(lambda x, y: max(0, 1 - math.dist((x, y), middle) / radius))
    close(radial_gradient(HEIGHT, WIDTH), expected)
    assert radial_gradient(HEIGHT, WIDTH).array[3, 5] == 1


@pytest.mark.parametrize(("radius", "hardness"), [(2.5, 1.0), (2.5, 0.0), (4.0, 0.5), (0.5, 1.0)])
def test_a_dot_is_a_function_of_the_distance(radius: float, hardness: float) -> None:
    softness = max(radius * (1 - hardness), 1)

    def expected(x: float, y: float) -> float:
        distance = math.dist((x, y), (5.25, 3.5))
        return 0.6 * min(max((radius + 0.5 - distance) / softness, 0), 1)

    stroke = Stroke([(5.25, 3.5)], radius, hardness, 0.6)
    close(brush_strokes(HEIGHT, WIDTH, strokes=[stroke]), each_pixel(expected))


@given(
    line=st.lists(st.tuples(COORDINATES, COORDINATES), min_size=1, max_size=4),
    radius=st.sampled_from([0.5, 1.5, 3.0]),
    hardness=st.sampled_from([0.0, 0.5, 1.0]),
)
def test_a_stroke_is_a_function_of_the_distance(
    line: list[tuple[float, float]], radius: float, hardness: float
) -> None:
    """The distance to the polyline is that to the nearest of many points on it."""
    corners = np.array([line[0], *line])
    t = np.linspace(0, 1, 1001)[:, None]
    dense = np.concatenate([a + t * (b - a) for a, b in itertools.pairwise(corners)])
    centres = each_pixel(lambda x, y: (x, y))
    distance = np.linalg.norm(centres[:, :, None] - dense, axis=-1).min(-1)
    expected = np.clip((radius + 0.5 - distance) / max(radius * (1 - hardness), 1), 0, 1)
    stroke = {"points": line, "radius": radius, "hardness": hardness}
    close(brush_strokes(HEIGHT, WIDTH, strokes=[stroke]), expected, atol=0.02)


def test_a_hard_line_covers_what_its_width_covers() -> None:
    """A horizontal line of radius 2 about y = 3.5 covers rows 1.5 to 5.5, ends apart."""
    stroke = Stroke([(-20, 3.5), (40, 3.5)], radius=2)
    column = brush_strokes(HEIGHT, WIDTH, strokes=[stroke]).array[:, 5]
    assert column.tolist() == [0, 0.5, 1, 1, 1, 0.5, 0]


def test_where_strokes_overlap_the_largest_counts() -> None:
    one = Stroke([(2, 2), (9, 2)], radius=2, strength=0.4)
    other = {"points": [[5, 0], [5, 7]], "radius": 1, "strength": 0.9}
    alone = [brush_strokes(HEIGHT, WIDTH, strokes=[stroke]) for stroke in (one, other)]
    assert brush_strokes(HEIGHT, WIDTH, strokes=[one, other]) == alone[0] | alone[1]
    assert brush_strokes(HEIGHT, WIDTH, strokes=[]) == constant_map(HEIGHT, WIDTH, strength=0)


def test_a_box_of_fractions() -> None:
    made = boxes(3, 4, boxes=[(1.25, 0.5, 3.5, 2)], strength=0.8)
    close(made, 0.8 * np.outer([0.5, 1, 0], [0, 0.75, 1, 0.5]))


def test_a_box_of_whole_pixels_is_half_open() -> None:
    made = boxes(20, 30, boxes=[(10, 0, 20, 5)])
    expected = np.zeros((20, 30))
    expected[0:5, 10:20] = 1
    assert made.array.tolist() == expected.tolist()


def test_a_box_inside_one_pixel() -> None:
    assert boxes(1, 1, boxes=[(0.25, 0.25, 0.75, 0.5)]).array[0, 0] == 0.125


@given(corners=st.tuples(COORDINATES, COORDINATES, COORDINATES, COORDINATES))
def test_boxes_cover_shares_of_pixels(corners: tuple[float, float, float, float]) -> None:
    """Corners at eighths of pixels: count the eighths inside."""
    x0, x1 = sorted(corners[:2])
    y0, y1 = sorted(corners[2:])
    if x0 == x1 or y0 == y1:
        with pytest.raises(InputError, match="give left, top, right, bottom"):
            boxes(HEIGHT, WIDTH, boxes=[(x0, y0, x1, y1)])
        return
    x, y = (np.arange(WIDTH * 8) + 0.5) / 8, (np.arange(HEIGHT * 8) + 0.5) / 8
    inside = np.outer((y0 < y) & (y < y1), (x0 < x) & (x < x1))
    expected = inside.reshape(HEIGHT, 8, WIDTH, 8).mean((1, 3))
    close(boxes(HEIGHT, WIDTH, boxes=[(x0, y0, x1, y1)]), expected)


def test_where_boxes_overlap_the_largest_counts_and_feather_softens() -> None:
    one, other = (0, 0, 5.5, 4), (3, 2, 11, 7)
    alone = [boxes(HEIGHT, WIDTH, boxes=[box], strength=0.5) for box in (one, other)]
    union = boxes(HEIGHT, WIDTH, boxes=[one, other], strength=0.5)
    assert union == alone[0] | alone[1]
    soft = boxes(HEIGHT, WIDTH, boxes=[one, other], strength=0.5, feather=2)
    assert soft == union.feather(2) != union


def test_polygons_with_corners_on_pixels_are_boxes() -> None:
    outline = [(2, 1), (9, 1), (9, 5), (2, 5)]
    for corners in (outline, outline[::-1], outline[2:] + outline[:2]):
        close(
            polygons(HEIGHT, WIDTH, polygons=[corners]), boxes(HEIGHT, WIDTH, boxes=[(2, 1, 9, 5)])
        )


def by_samples(corners: list[tuple[float, float]], fine: int = 24) -> Array:
    """Share of each pixel inside by the even-odd rule, by many samples."""
    x, y = ((np.arange(side * fine) + 0.5) / fine for side in (WIDTH, HEIGHT))
    samples = np.stack(np.meshgrid(x, y), -1).reshape(-1, 2)
    inside = points_in_poly(samples, corners).reshape(HEIGHT, fine, WIDTH, fine)
    return np.asarray(inside.mean((1, 3)))


@given(st.lists(st.tuples(COORDINATES, COORDINATES), min_size=3, max_size=6))
def test_polygons_cover_shares_of_pixels(corners: list[tuple[float, float]]) -> None:
    """A third of a pixel where many edges cross, a twentieth on the mean."""
    made = polygons(HEIGHT, WIDTH, polygons=[corners]).array
    expected = by_samples(corners)
    np.testing.assert_allclose(made, expected, rtol=0, atol=0.35)
    assert np.abs(made - expected).mean() < 0.06


@pytest.mark.parametrize(
    "corners",
    [
        [(10, 12), (80, 20), (30, 90)],
        [(10.3, 12.7), (80.1, 20.2), (33.3, 91.9)],
        [(50, 5), (95, 50), (50, 95), (5, 50)],
    ],
)
def test_polygons_have_their_area(corners: list[tuple[float, float]]) -> None:
    """Edges lie within a sixteenth of a pixel, half a sample, of where they should."""
    x, y = np.array(corners).T
    area = abs(x @ np.roll(y, -1) - y @ np.roll(x, -1)) / 2
    perimeter = np.hypot(x - np.roll(x, -1), y - np.roll(y, -1)).sum()
    covered = polygons(100, 100, polygons=[corners]).array.sum(dtype=float)
    assert abs(covered - area) < perimeter / 16


def test_a_polygon_that_crosses_itself_is_hollow_where_it_overlaps() -> None:
    """A pentagram: its points are inside, its middle is outside."""
    turns = [math.radians(-90 + 144 * k) for k in range(5)]
    star = [(50 + 45 * math.cos(turn), 50 + 45 * math.sin(turn)) for turn in turns]
    made = polygons(100, 100, polygons=[star], strength=0.7).array
    assert made[50, 50] == 0
    assert made[20, 50] == np.float32(0.7)
    assert made[2, 2] == 0


def test_polygons_add_up_and_what_lies_outside_is_cut_off() -> None:
    one, other = [(-50, -50), (6, 0), (0, 6)], [(4, 1), (300, 3), (6, 90)]
    alone = [polygons(HEIGHT, WIDTH, polygons=[corners]) for corners in (one, other)]
    assert polygons(HEIGHT, WIDTH, polygons=[one, other]) == alone[0] | alone[1]
    far = [(1000, 1000), (1100, 1000), (1000, 1100)]
    assert polygons(HEIGHT, WIDTH, polygons=[far]).max == 0


def test_large_polygons_are_filled_in_strips_without_seams() -> None:
    corners = [(0, 0), (900, 0), (900, 700), (0, 700)]
    assert polygons(700, 900, polygons=[corners]) == constant_map(700, 900)


GREY = (np.arange(256, dtype=np.uint8)).reshape(16, 16)


def saved(folder: Path, image: Image.Image, name: str = "map.png", **options: Any) -> Path:
    path = folder / name
    image.save(path, **options)
    return path


def test_files_of_8_bits(tmp_path: Path) -> None:
    path = saved(tmp_path, Image.fromarray(GREY))
    close(from_file(path), GREY / 255, atol=1e-7)
    assert from_file(str(path)) == from_file(path)
    close(from_file(path, invert=True), 1 - GREY / 255, atol=1e-7)


@pytest.mark.parametrize("name", ["map.png", "map.tif"])
def test_files_of_16_bits_keep_them(tmp_path: Path, name: str) -> None:
    levels = np.linspace(0, 65535, 256).astype(np.uint16).reshape(16, 16)
    levels[0, 1] = 1
    made = from_file(saved(tmp_path, Image.fromarray(levels), name))
    close(made, levels / 65535, atol=1e-7)
    assert made.array[0, 1] > 0


def test_files_of_1_bit_are_0_and_1(tmp_path: Path) -> None:
    bits = GREY > 100
    made = from_file(saved(tmp_path, Image.fromarray(bits)))
    assert made.array.tolist() == bits.astype(float).tolist()


def test_files_of_floats(tmp_path: Path) -> None:
    values = (GREY / 255).astype(np.float32)
    assert from_file(saved(tmp_path, Image.fromarray(values), "map.tif")) == StrengthMap(values)
    with pytest.raises(InputError, match="holds floats from 0 to 2"):
        from_file(saved(tmp_path, Image.fromarray(values * 2), "map.tif"))


@pytest.mark.parametrize("mode", ["RGB", "P", "RGBA", "CMYK"])
def test_colour_counts_by_its_luma(tmp_path: Path, mode: str) -> None:
    colours = np.array([[(255, 0, 0), (0, 255, 0)], [(0, 0, 255), (255, 255, 255)]], np.uint8)
    made = from_file(saved(tmp_path, Image.fromarray(colours).convert(mode), "map.tif"))
    close(made, [[0.299, 0.587], [0.114, 1]], atol=1e-5)


def test_grey_in_a_palette_or_in_colour_is_grey(tmp_path: Path) -> None:
    image = Image.fromarray(GREY)
    for mode in ("P", "RGB", "RGBA", "LA"):
        close(from_image(image.convert(mode)), GREY / 255, atol=1e-6)


def test_transparency_is_refused(tmp_path: Path) -> None:
    clear = Image.fromarray(GREY).convert("RGBA")
    clear.putpixel((3, 3), (1, 2, 3, 254))
    keyed = Image.fromarray(GREY)
    for image, options in ((clear, {}), (keyed, {"transparency": 7})):
        with pytest.raises(InputError, match=r"map\.png' has transparent pixels.*flatten"):
            from_file(saved(tmp_path, image, **options))


def test_the_orientation_of_the_camera_is_applied(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # the top of the picture is at the right: turn clockwise
    made = from_file(saved(tmp_path, Image.fromarray(GREY[:4]), exif=exif))
    close(made, np.rot90(GREY[:4] / 255, -1), atol=1e-7)


def test_integers_of_32_bits_are_refused() -> None:
    with pytest.raises(InputError, match="mode 'I', which is not read: convert"):
        from_image(Image.fromarray(np.full((2, 2), 70000, np.int32)))


def test_colour_of_16_bits_keeps_them(tmp_path: Path) -> None:
    levels = np.repeat(np.array([[1, 2, 256], [40000, 65534, 65535]], np.uint16)[..., None], 3, 2)
    path = tmp_path / "map.tif"
    tifffile.imwrite(path, levels, photometric="rgb")
    close(from_file(path), levels[..., 0] / 65535, atol=1e-7)


def test_files_of_arrays(tmp_path: Path) -> None:
    values = (GREY / 255).astype(np.float32)
    np.save(tmp_path / "map.npy", values)
    assert from_file(tmp_path / "map.npy") == StrengthMap(values)


def test_broken_files_are_refused_in_one_sentence(tmp_path: Path) -> None:
    speckled = np.random.default_rng(0).integers(0, 256, (64, 64)).astype(np.uint8)
    whole = saved(tmp_path, Image.fromarray(speckled)).read_bytes()
    refused = r"broken\.png' (cannot be decoded|is empty|is no PNG)"
    for content in (b"", b"no image", whole[:60], whole[: len(whole) // 2]):
        path = tmp_path / "broken.png"
        path.write_bytes(content)
        with pytest.raises(InputError, match=refused) as caught:
            from_file(path)
        assert "\n" not in str(caught.value)
