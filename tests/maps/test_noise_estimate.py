"""The noise estimate against noise of known level, on photographs that come with scikit-image."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from skimage import data

from differential_diffusion.core.ladder import strength_to_sigma
from differential_diffusion.data.camera import Camera, simulate_camera
from differential_diffusion.errors import InputError
from differential_diffusion.maps import estimate_noise, noise_strength

Array = NDArray[np.float32]
PHOTOGRAPHS = ("astronaut", "coffee", "chelsea")


def photograph(name: str) -> Array:
    return np.asarray(getattr(data, name)(), np.float32) / np.float32(127.5) - 1


def noisy(image: Array, level: float | NDArray[Any], seed: int = 0) -> Array:
    """With white noise, not clipped, of a level in 8-bit steps."""
    noise = np.random.default_rng(seed).standard_normal(image.shape)
    return (image + noise * np.asarray(level) / 127.5).astype(np.float32)


def flat(*shape: int) -> Array:
    return np.full(shape, 0.1, np.float32)


def in_levels(image: Array, **options: Any) -> Array:
    return estimate_noise(image, **options) * np.float32(127.5)


@pytest.fixture(params=PHOTOGRAPHS)
def image(request: pytest.FixtureRequest) -> Array:
    return photograph(request.param)


@pytest.mark.parametrize(("level", "within"), [(5, 0.10), (15, 0.05), (25, 0.05), (50, 0.05)])
def test_white_noise_is_measured(image: Array, level: float, within: float) -> None:
    found = in_levels(noisy(image, level))
    assert found.shape == image.shape[:2]
    assert found.dtype == np.float32
    assert abs(np.median(found) / level - 1) < within
    assert np.median(np.abs(found / level - 1)) < within


def test_clean_photographs_have_little_noise(image: Array) -> None:
    found = in_levels(image)
    assert np.median(found) < 2
    assert np.quantile(found, 0.99) < 6
    assert (found >= 0).all()


def test_noise_that_rises_across_the_picture_is_followed(image: Array) -> None:
    ramp = np.broadcast_to(np.linspace(5, 50, image.shape[1]), image.shape[:2])
    found = in_levels(noisy(image, ramp[..., None]))
    assert np.corrcoef(found.ravel(), ramp.ravel())[0, 1] > 0.99
    assert np.median(np.abs(found / ramp - 1)) < 0.06


def test_noise_that_steps_is_followed() -> None:
    level = np.full((256, 256, 1), 10.0)
    level[:, 128:] = 40
    found = in_levels(noisy(photograph("chelsea")[:256, :256], level))
    assert abs(np.median(found[:, :112]) / 10 - 1) < 0.10
    assert abs(np.median(found[:, 144:]) / 40 - 1) < 0.10


@pytest.mark.parametrize("shape", [(128, 160, 3), (128, 160, 1), (128, 160)], ids=str)
@pytest.mark.parametrize("level", [2.0, 20.0, 100.0])
def test_noise_on_nothing_is_measured(shape: tuple[int, ...], level: float) -> None:
    found = in_levels(noisy(flat(*shape), level))
    assert abs(np.median(found) / level - 1) < 0.05


def test_grey_pictures_in_one_channel_two_axes_or_three_channels_are_the_same() -> None:
    grey = noisy(np.asarray(data.camera()[:200, :240], np.float32) / 127.5 - 1, 25)
    found = in_levels(grey)
    assert abs(np.median(found) / 25 - 1) < 0.15
    np.testing.assert_array_equal(in_levels(grey[..., None]), found)
    np.testing.assert_array_equal(in_levels(grey[..., None].repeat(3, 2)), found)


def taken_and_clean(scene: NDArray[np.uint8], iso: float) -> tuple[Array, Array]:
    """A scene by a simulated camera, with its noise and without."""
    rgb, camera = scene.astype(np.float32) / 127.5 - 1, Camera.at_iso(iso)
    return (
        simulate_camera(rgb, camera, seed=2),
        simulate_camera(rgb, camera.without_noise(), seed=2),
    )


def rms(values: Array) -> float:
    return float(np.sqrt(np.mean(values**2)))


@pytest.mark.parametrize("iso", [1600, 6400])
def test_camera_noise_is_estimated_at_its_deviation(iso: float) -> None:
    for scene in (data.astronaut(), data.chelsea(), data.coffee()):
        taken, clean = taken_and_clean(scene[:256, :256], iso)
        for grey in (False, True):
            seen, truth = (x.mean(-1) if grey else x for x in (taken, clean))
            ratio = rms(estimate_noise(seen)) / rms(seen - truth)
            assert 1 / 1.3 < ratio < 1.3, (iso, grey, ratio)


@pytest.mark.parametrize("iso", [1600, 6400])
def test_camera_noise_follows_the_colours(iso: float) -> None:
    """Patches of colour: sky over red's own darkness, foliage, skin, greys, and both ends."""
    colours = np.array(
        [
            [(10, 60, 140), (60, 110, 30), (220, 170, 140), (30, 30, 30)],
            [(128, 128, 128), (200, 200, 200), (180, 40, 30), (245, 235, 220)],
        ],
        np.uint8,
    )
    scene = colours.repeat(96, 0).repeat(96, 1)
    taken, clean = taken_and_clean(scene, iso)
    found = estimate_noise(taken)
    for row, column in np.ndindex(2, 4):
        inside = np.s_[row * 96 + 12 : row * 96 + 84, column * 96 + 12 : column * 96 + 84]
        ratio = rms(found[inside]) / rms((taken - clean)[inside])
        assert 1 / 1.3 < ratio < 1.3, (row, column, ratio)


def test_camera_noise_is_told_from_texture() -> None:
    """Gravel and grass leave no flat part, yet noise falls less with frequency than they do."""
    for scene in (data.gravel(), data.grass()):
        rgb = np.repeat(scene[:256, :256, None], 3, axis=2)
        taken, clean = taken_and_clean(rgb, 1600)
        assert rms(estimate_noise(taken, kind="camera")) < 2 * rms(taken - clean)


def test_a_small_crop_of_a_camera_has_its_noise() -> None:
    taken, clean = taken_and_clean(data.chelsea()[100:132, 100:132], 6400)
    ratio = rms(estimate_noise(taken, kind="camera")) / rms(taken - clean)
    assert 1 / 1.5 < ratio < 1.5


def test_a_long_strip_is_measured() -> None:
    found = in_levels(noisy(flat(16, 300_000, 3), 20))
    assert abs(np.median(found) / 20 - 1) < 0.05


@pytest.mark.parametrize("kind", ["auto", "white", "camera"])
@pytest.mark.parametrize("shape", [(1, 1, 3), (1, 1), (1, 30, 3), (5, 4, 1), (40, 50, 3)], ids=str)
def test_constant_pictures_have_no_noise(shape: tuple[int, ...], kind: str) -> None:
    found = estimate_noise(flat(*shape), kind=kind)  # type: ignore[arg-type]
    assert found.shape == shape[:2]
    assert not found.any()


@pytest.mark.parametrize("shape", [(1, 1, 3), (1, 2, 3), (2, 2, 1), (1, 40, 3), (6, 7, 3), (17, 3)])
def test_small_pictures_have_finite_noise(shape: tuple[int, ...]) -> None:
    found = estimate_noise(noisy(flat(*shape), 30))
    assert found.shape == shape[:2]
    assert np.isfinite(found).all()
    assert (found >= 0).all()
    if max(shape[:2]) < 3:
        assert not found.any()


def test_a_constant_part_of_a_noisy_picture_has_no_noise() -> None:
    picture = noisy(flat(96, 96, 3), 20)
    picture[20:60, 20:60] = 1
    found = in_levels(picture)
    assert not found[22:58, 22:58].any()
    assert abs(np.median(found[70:]) / 20 - 1) < 0.1


def test_what_is_ignored_does_not_count() -> None:
    rng = np.random.default_rng(0)
    picture = noisy(photograph("chelsea")[:200, :200], 10)
    damage = rng.random((200, 200)) < 0.02
    damage[80:120, 90:96] = True
    damaged = picture.copy()
    damaged[damage] = np.where(rng.random((int(damage.sum()), 1)) < 0.5, -1, 1)
    truth = in_levels(picture)
    told = in_levels(damaged, ignore=damage)
    wrong = float(np.median(np.abs(told / truth - 1)))
    misled = float(np.median(np.abs(in_levels(damaged) / truth - 1)))
    assert wrong < 0.10
    assert misled > 2 * wrong
    np.testing.assert_array_equal(in_levels(picture, ignore=np.zeros((200, 200), bool)), truth)


def test_camera_noise_is_never_below_white_noise(image: Array) -> None:
    picture = noisy(image[:200, :200], 10)
    camera, white = (estimate_noise(picture, kind=kind) for kind in ("camera", "white"))  # type: ignore[arg-type]
    assert (camera >= white * (1 - 1e-6)).all()


def test_the_picture_is_left_as_it_is() -> None:
    picture = noisy(photograph("coffee")[:64, :64], 20)
    before = picture.copy()
    first = estimate_noise(picture)
    np.testing.assert_array_equal(picture, before)
    np.testing.assert_array_equal(estimate_noise(picture), first)


def test_the_strength_of_noise_is_that_of_its_level() -> None:
    picture = noisy(photograph("coffee")[:100, :120], 25)
    back = strength_to_sigma(torch.from_numpy(noise_strength(picture).array.copy())).numpy()
    np.testing.assert_allclose(back, estimate_noise(picture), rtol=1e-4)
    assert noise_strength(flat(9, 9, 3)).max == 0


@pytest.mark.parametrize(
    ("picture", "options", "says"),
    [
        (flat(9, 9, 2), {}, "image has the shape \\(9, 9, 2\\)"),
        (flat(9), {}, "image has the shape"),
        (flat(0, 9, 3), {}, "image has the shape"),
        (np.zeros((9, 9, 3), np.uint8), {}, "image has the type uint8"),
        (np.full((9, 9, 3), np.nan), {}, "NaN or infinity"),
        (np.full((9, 9, 3), np.inf), {}, "NaN or infinity"),
        (flat(9, 9, 3), {"kind": "pink"}, "kind is 'pink': give one of auto, white, camera"),
        (flat(9, 9, 3), {"ignore": np.zeros((9, 8), bool)}, "ignore has the shape \\(9, 8\\)"),
    ],
)
def test_bad_input_is_refused(picture: Array, options: dict[str, Any], says: str) -> None:
    with pytest.raises(InputError, match=says) as caught:
        estimate_noise(picture, **options)
    assert "\n" not in str(caught.value)


def test_pictures_may_be_long() -> None:
    assert estimate_noise(noisy(flat(16, 33000, 1), 20)).shape == (16, 33000)
