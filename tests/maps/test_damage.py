"""Damage found on photographs that come with scikit-image, and the generators of its truth."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage
from skimage import data

from differential_diffusion.data.damage import (
    COLOURS,
    add_dead_pixels,
    add_dust,
    add_missing_patch,
    add_scratches,
)
from differential_diffusion.errors import InputError
from differential_diffusion.maps import find_colour, find_damage

Bytes = NDArray[np.uint8]
Mask = NDArray[np.bool_]
PHOTOGRAPHS = ("astronaut", "coffee", "chelsea")
SEEDS = (0, 1)
VISIBLE = 16  # 8-bit steps: what lies closer to the picture beneath cannot be seen, nor found


def torn_corner(image: NDArray[Any], *, seed: int) -> tuple[NDArray[Any], Mask]:
    return add_missing_patch(image, shape="corner", colour="magenta", seed=seed)


GENERATORS: dict[str, Callable[..., tuple[NDArray[Any], Mask]]] = {
    "scratches": add_scratches,
    "dust": add_dust,
    "dead pixels": add_dead_pixels,
    "missing patch": add_missing_patch,
    "torn corner": torn_corner,
}


def photograph(name: str) -> Bytes:
    return np.asarray(getattr(data, name)())


def floats(image: Bytes) -> NDArray[np.float32]:
    return image.astype(np.float32) / np.float32(127.5) - 1


@pytest.fixture(params=GENERATORS)
def generator(request: pytest.FixtureRequest) -> Callable[..., tuple[NDArray[Any], Mask]]:
    return GENERATORS[request.param]


@pytest.mark.parametrize("name", PHOTOGRAPHS)
def test_damage_that_can_be_seen_is_found(
    name: str, generator: Callable[..., tuple[Bytes, Mask]]
) -> None:
    image = photograph(name)
    found = seen = 0
    for seed in SEEDS:
        damaged, _ = generator(image, seed=seed)
        visible = np.abs(damaged.astype(int) - image).max(-1) > VISIBLE
        found += int((find_damage(floats(damaged)).active & visible).sum())
        seen += int(visible.sum())
    assert found / seen > 0.9


def test_missing_patches_are_found_whole_and_little_else() -> None:
    for shape in ("rectangle", "corner"):
        damaged, mask = add_missing_patch(photograph("chelsea"), shape=shape, seed=3)
        found = find_damage(floats(damaged), grow=0).active
        assert found[mask].all()
        assert found[~mask].mean() < 1e-4


@pytest.mark.parametrize("name", PHOTOGRAPHS)
def test_undamaged_photographs_are_left_alone(name: str) -> None:
    found = find_damage(floats(photograph(name)))
    assert found.array.mean() < 0.005
    assert set(np.unique(found.array)) <= {0.0, 1.0}


def test_noise_alone_is_not_damage() -> None:
    noise = np.random.default_rng(0).standard_normal((200, 200, 3)).astype(np.float32)
    picture = np.clip(floats(photograph("chelsea")[:200, :200]) + noise * 25 / 127.5, -1, 1)
    assert find_damage(picture).array.mean() < 0.005


def test_each_kind_can_be_switched_off() -> None:
    """What one kind finds, together, is what all find; with none on, nothing is."""
    kinds = ("scratches", "dust", "dead_pixels", "patches")
    picture = photograph("chelsea")[:200, :200]
    for generate in GENERATORS.values():
        picture, _ = generate(picture, seed=5)
    off = dict.fromkeys(kinds, False)
    each = [find_damage(floats(picture), **{**off, kind: True}) for kind in kinds]  # type: ignore[arg-type]
    assert all(found.max == 1 for found in each)
    assert find_damage(floats(picture), **off).max == 0  # type: ignore[arg-type]
    together = each[0] | each[1] | each[2] | each[3]
    assert together == find_damage(floats(picture))


def test_a_dead_pixel_is_found_alone() -> None:
    picture = np.full((20, 20, 3), -0.2, np.float32)
    picture[7, 9] = 1
    picture[15, 3, 1] = -1
    expected = np.zeros((20, 20), bool)
    expected[7, 9] = expected[15, 3] = True
    only = {"scratches": False, "dust": False, "patches": False}
    np.testing.assert_array_equal(find_damage(picture, **only).active, expected)  # type: ignore[arg-type]


def test_deviations_within_the_given_noise_are_no_damage() -> None:
    picture = np.zeros((20, 20, 1), np.float32)
    picture[7, 9] = 1
    only = {"scratches": False, "dust": False, "patches": False}
    assert find_damage(picture, noise=0.1, **only).active.sum() == 1  # type: ignore[arg-type]
    assert find_damage(picture, noise=0.5, **only).max == 0  # type: ignore[arg-type]
    level = np.full((20, 20), 0.1)
    level[:10] = 0.5
    assert find_damage(picture, noise=level, **only).max == 0  # type: ignore[arg-type]


@pytest.mark.parametrize("tolerance", [0, 8, 60])
@pytest.mark.parametrize("channels", [1, 3])
def test_a_colour_is_found_exactly(tolerance: int, channels: int) -> None:
    picture = np.random.default_rng(0).integers(100, 200, (40, 50, channels)).astype(np.uint8)
    colour = (150, 150, 150) if channels == 1 else (150, 140, 160)
    picture[3:9, 4:20] = colour[:channels]
    exact = (np.abs(picture.astype(int) - colour) <= tolerance).all(-1)
    np.testing.assert_array_equal(
        find_colour(floats(picture), colour=colour, tolerance=tolerance, grow=0).active, exact
    )
    for grow in (1, 3):
        square = np.ones((2 * grow + 1, 2 * grow + 1))
        np.testing.assert_array_equal(
            find_colour(floats(picture), colour=colour, tolerance=tolerance, grow=grow).active,
            ndimage.binary_dilation(exact, square),
        )


def test_every_8_bit_level_is_told_from_its_neighbours() -> None:
    ramp = np.arange(256, dtype=np.uint8).reshape(1, 256, 1).repeat(3, 2)
    for level in range(0, 256, 5):
        found = find_colour(floats(ramp), colour=[level] * 3, tolerance=0, grow=0).active[0]
        assert np.flatnonzero(found).tolist() == [level]


def test_a_colour_adds_to_other_damage() -> None:
    picture = photograph("chelsea")[:120, :120].copy()
    picture[50:60, 20:90] = (0, 255, 0)
    marked = find_damage(floats(picture), colour=(0, 255, 0))
    assert marked.active[49:61, 19:91].all()
    assert marked == find_damage(floats(picture)) | find_colour(floats(picture), colour=(0, 255, 0))


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"noise": -1}, "noise is negative"),
        ({"noise": np.zeros((3, 3))}, "noise has the shape \\(3, 3\\)"),
        ({"grow": -1}, "grow is -1"),
        ({"colour": (1, 2, 300)}, "channel of colour is 300"),
        ({"colour": "red"}, "colour is 'red'"),
        ({"colour": (1, 2, 3), "tolerance": -1}, "tolerance is -1"),
    ],
)
def test_bad_settings_are_refused(options: dict[str, Any], says: str) -> None:
    with pytest.raises(InputError, match=says):
        find_damage(np.zeros((9, 9, 3), np.float32), **options)


def plain(channels: int, whole: bool) -> NDArray[Any]:
    """A picture of which no pixel has the colour of any damage."""
    shape = (60, 80, channels) if channels else (60, 80)
    values = np.random.default_rng(0).uniform(-0.5, -0.1, shape)
    return np.rint((values + 1) * 127.5).astype(np.uint8) if whole else values.astype(np.float32)


@pytest.mark.parametrize("channels", [0, 1, 3])
def test_the_truth_is_the_pixels_that_changed(
    channels: int, generator: Callable[..., tuple[NDArray[Any], Mask]]
) -> None:
    image = plain(channels, whole=False)
    damaged, mask = generator(image, seed=4)
    changed = damaged != image
    assert (damaged.dtype, damaged.shape, mask.dtype) == (image.dtype, image.shape, bool)
    assert 0 < mask.sum() < mask.size
    np.testing.assert_array_equal(mask, changed.any(-1) if image.ndim == 3 else changed)


@pytest.mark.parametrize("channels", [0, 1, 3])
def test_bytes_and_floats_are_damaged_alike(
    channels: int, generator: Callable[..., tuple[NDArray[Any], Mask]]
) -> None:
    image = plain(channels, whole=True)
    damaged, mask = generator(image, seed=4)
    as_floats, same = generator(floats(image), seed=4)
    assert damaged.dtype == np.uint8
    np.testing.assert_array_equal(mask, same)
    np.testing.assert_array_equal(damaged[~mask], image[~mask])
    np.testing.assert_allclose((as_floats + 1) * 127.5, damaged, rtol=0, atol=0.501)


def test_damage_depends_on_the_seed_alone(
    generator: Callable[..., tuple[NDArray[Any], Mask]],
) -> None:
    image = plain(3, whole=True)
    before = image.copy()
    first, mask = generator(image, seed=0)
    np.random.seed(9)  # noqa: NPY002 - the global state must not matter
    again, same = generator(image, seed=0)
    np.testing.assert_array_equal(first, again)
    np.testing.assert_array_equal(mask, same)
    np.testing.assert_array_equal(image, before)
    other, _ = generator(image, seed=1)
    assert (other != first).any()


def test_as_many_pixels_die_as_asked() -> None:
    for fraction, count in ((0, 0), (1e-9, 1), (0.01, 48), (1, 4800)):
        damaged, mask = add_dead_pixels(plain(3, whole=True), fraction=fraction, seed=0)
        assert mask.sum() == count
        assert np.isin(damaged[mask], (0, 255)).any(-1).all()


def test_a_patch_has_its_size_and_colour() -> None:
    for colour, rgb in (*COLOURS.items(), ((9, 8, 7), (9, 8, 7))):
        damaged, mask = add_missing_patch(plain(3, whole=True), size=0.5, colour=colour, seed=0)
        assert mask.sum() == 30 * 40
        assert (damaged[mask] == rgb).all()
        rows, columns = np.nonzero(mask)
        assert (np.ptp(rows) + 1, np.ptp(columns) + 1) == (30, 40)


def test_bad_requests_for_damage_are_refused() -> None:
    image = plain(3, whole=True)
    calls: list[tuple[Callable[[], object], str]] = [
        (lambda: add_scratches(image, width=(3, 1), seed=0), "width is"),
        (lambda: add_scratches(image, colours=["pink"], seed=0), "'pink' is no known colour"),
        (lambda: add_dust(image, radius=(0, 1), seed=0), "radius is"),
        (lambda: add_dead_pixels(image, fraction=2, seed=0), "fraction is 2"),
        (lambda: add_missing_patch(image, shape="round", seed=0), "shape is 'round'"),
        (lambda: add_missing_patch(image, size=0, seed=0), "size is 0"),
        (lambda: add_missing_patch(image, colour=(0, 0, 256), seed=0), "colour is"),
        (lambda: add_dust(image.astype(int), seed=0), "type int64"),
        (lambda: add_dust(image[..., :2], seed=0), "shape"),
    ]
    for call, says in calls:
        with pytest.raises(InputError, match=says):
            call()


def test_the_frame_of_a_picture_is_no_damage() -> None:
    picture = np.asarray(data.chelsea(), np.float32) / 127.5 - 1
    wide, framed = picture.copy(), picture.copy()
    wide[:30] = wide[-30:] = -1
    framed[:20] = framed[-20:] = framed[:, :20] = framed[:, -20:] = 1
    for boxed in (wide, framed):
        assert not find_damage(boxed, scratches=False, dust=False).active[:19].any()
    corner = picture.copy()
    corner[:30, :40] = 1  # torn off
    assert find_damage(corner, scratches=False, dust=False).active[:30, :40].all()
