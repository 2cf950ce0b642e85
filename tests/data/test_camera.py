"""The simulated camera against the model that it states."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import cv2
import numpy as np
import pytest

from differential_diffusion.data.camera import Camera, decode_srgb, encode_srgb, simulate_camera
from differential_diffusion.errors import InputError

PLAIN = Camera(shot=0, read=0, red_gain=1, blue_gain=1, bits=16, jpeg_quality=None)


def flat(level: float, side: int = 128) -> np.ndarray[Any, Any]:
    return np.full((side, side, 3), level, np.float32)


def test_srgb_encoding_is_that_of_the_standard_and_its_own_inverse() -> None:
    # IEC 61966-2-1: 0.5 encodes to 0.735357, and 0.0031308 lies at the joint.
    np.testing.assert_allclose(encode_srgb(np.float32([0.5, 0.0031308])), [0.735357, 0.04045], 1e-5)
    values = np.linspace(0, 1, 256, dtype=np.float32)
    np.testing.assert_allclose(encode_srgb(decode_srgb(values)), values, atol=2e-6)


@pytest.mark.parametrize("demosaic", ["malvar", "bilinear"])
@pytest.mark.parametrize("optics", [0.0, 0.6])
def test_a_flat_scene_without_noise_comes_back(demosaic: str, optics: float) -> None:
    scene = flat(0) + np.float32([-0.5, 0.1, 0.7])
    camera = replace(PLAIN, demosaic=demosaic, optics=optics, red_gain=2, blue_gain=1.6)
    np.testing.assert_allclose(simulate_camera(scene, camera, seed=0), scene, atol=1.01 / 127.5)


@pytest.mark.parametrize("encoded", [-0.2, 0.3])
def test_noise_has_the_stated_variance(encoded: float) -> None:
    """Malvar's demosaicing keeps samples, so green at green sites is the sensor's own value."""
    camera = replace(PLAIN, shot=2e-3, read=1e-4)
    taken = simulate_camera(flat(encoded, 256), camera, seed=1)
    linear = decode_srgb((taken + 1) / 2)[..., 1]
    samples = np.concatenate([linear[0::2, 1::2].ravel(), linear[1::2, 0::2].ravel()])
    signal = float(decode_srgb(np.float32([(encoded + 1) / 2]))[0])
    assert samples.mean() == pytest.approx(signal, rel=0.01)
    assert samples.var() == pytest.approx(2e-3 * signal + 1e-4, rel=0.05)


def test_optics_blur_in_linear_light_and_tame_false_colour() -> None:
    rng = np.random.default_rng(0)
    grey = cv2.GaussianBlur(rng.random((96, 96), np.float32), (0, 0), 0.4)
    scene = np.repeat(grey[..., None], 3, -1) * 2 - 1
    blurred = encode_srgb(cv2.GaussianBlur(decode_srgb((scene + 1) / 2), (0, 0), 0.6)) * 2 - 1
    taken = simulate_camera(scene, PLAIN, seed=0)
    sharp = simulate_camera(scene, replace(PLAIN, optics=0), seed=0)
    assert np.abs(taken - blurred).mean() < 0.5 * np.abs(sharp - scene).mean()
    assert np.ptp(taken, axis=-1).mean() < 0.5 * np.ptp(sharp, axis=-1).mean()


def test_the_same_seed_gives_the_same_picture() -> None:
    scene = flat(0.2, 32)
    first = simulate_camera(scene, seed=3)
    np.testing.assert_array_equal(first, simulate_camera(scene, seed=3))
    assert (first != simulate_camera(scene, seed=4)).any()


@pytest.mark.parametrize(
    "bad",
    [
        {"shot": -1},
        {"read": float("nan")},
        {"red_gain": 0.5},
        {"optics": -1},
        {"bits": 0},
        {"demosaic": "none"},
        {"jpeg_quality": 0},
    ],
    ids=str,
)
def test_bad_cameras_are_refused(bad: dict[str, Any]) -> None:
    (name,) = bad
    with pytest.raises(InputError, match=f"^{name} "):
        Camera(**bad)


@pytest.mark.parametrize(
    "scene", [np.zeros((4, 4)), np.full((4, 4, 3), np.nan)], ids=["2-D", "NaN"]
)
def test_what_is_no_scene_is_refused(scene: Any) -> None:
    with pytest.raises(InputError, match="rgb"):
        simulate_camera(scene, seed=0)
