"""What JPEG did to a picture, read from its pixels, against the tables that Pillow wrote."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from scipy.fft import dctn
from skimage import data

from differential_diffusion.core.ladder import strength_to_sigma
from differential_diffusion.maps import compression_strength, estimate_compression
from differential_diffusion.maps.compression import find_quantisation

Array = NDArray[np.float32]


def photograph(noise: float = 0) -> NDArray[np.uint8]:
    """A crop of a photograph that shows no JPEG, with white noise of a level."""
    pixels = data.astronaut()[:256, :256]
    noisy = pixels + noise * np.random.default_rng(0).standard_normal(pixels.shape)
    return np.clip(np.rint(noisy), 0, 255).astype(np.uint8)


def compressed(
    pixels: NDArray[np.uint8], quality: int, subsampling: int = 0
) -> tuple[NDArray[np.uint8], Array]:
    """The decoded JPEG, and the steps of its luma (8,8)."""
    stream = io.BytesIO()
    kind: dict[str, Any] = {"subsampling": subsampling} if pixels.ndim == 3 else {}
    Image.fromarray(pixels).save(stream, "JPEG", quality=quality, **kind)
    with Image.open(stream) as opened:
        steps = np.float32(opened.quantization[0]).reshape(8, 8)  # type: ignore[attr-defined]
        return np.asarray(opened), steps


def floats(pixels: NDArray[Any]) -> Array:
    return (pixels / 127.5 - 1).astype(np.float32)


@pytest.mark.parametrize("kind", ["4:4:4", "4:2:0", "grey"])
@pytest.mark.parametrize("quality", [40, 60, 75, 90])
def test_the_steps_are_those_of_the_file(quality: int, kind: str) -> None:
    pixels = photograph(noise=5)
    decoded, steps = compressed(
        pixels[..., 1] if kind == "grey" else pixels, quality, 2 if kind == "4:2:0" else 0
    )
    found = find_quantisation(floats(decoded))
    assert found is not None
    assert (found.top, found.left) == (0, 0)
    known = found.steps > 0
    assert known.sum() >= 15
    assert (found.steps == steps)[known].mean() > 0.95


@pytest.mark.parametrize(("top", "left"), [(3, 0), (0, 5), (7, 2)])
def test_a_crop_keeps_the_grid(top: int, left: int) -> None:
    decoded, steps = compressed(photograph(), 75)
    found = find_quantisation(floats(decoded[top:-9, left:-6]))
    assert found is not None
    assert (found.top, found.left) == (-top % 8, -left % 8)
    known = found.steps > 0
    assert (found.steps == steps)[known].mean() > 0.95


def test_what_is_no_jpeg_shows_none() -> None:
    decoded, _ = compressed(photograph(), 75)
    seen = floats(decoded)
    noisy = seen + np.random.default_rng(1).normal(0, 3 / 127.5, seen.shape).astype(np.float32)
    smaller = np.asarray(Image.fromarray(decoded).resize((180, 180), Image.Resampling.BICUBIC))
    flat = np.full((64, 64, 3), 0.2, np.float32)
    small = seen[:15, :15]
    tiles = floats(np.tile(photograph()[:16, :24], (9, 7, 1)))
    drawn = np.zeros((96, 96, 3), np.float32)
    drawn[16:48, 24:56], drawn[40:90, 60:70] = 0.5, -0.7
    every = photograph(), photograph(9), smaller
    for image in (*map(floats, every), noisy, flat, small, tiles, drawn):
        assert find_quantisation(image) is None
        assert estimate_compression(image).max() == 0
        assert compression_strength(image).array.max() == 0


def test_twice_the_error_of_what_was_kept_is_told_where_it_is() -> None:
    pixels = photograph()
    luma = np.float32([0.299, 0.587, 0.114])
    medians = []
    for quality in (60, 75, 90):
        decoded, steps = compressed(pixels, quality)
        told = estimate_compression(floats(decoded)) * 127.5
        assert told.shape == pixels.shape[:2]
        assert told.dtype == np.float32
        before, after = (
            dctn((p @ luma).reshape(32, 8, 32, 8).swapaxes(1, 2), axes=(2, 3), norm="ortho")
            for p in (pixels, decoded)
        )
        found = find_quantisation(floats(decoded))
        assert found is not None
        kept = (np.abs(after) >= steps / 2) & (found.steps > 0)
        error = np.sqrt(np.mean((after - before) ** 2 * kept, axis=(2, 3)))
        said = np.sqrt((told**2).reshape(32, 8, 32, 8).mean((1, 3)))
        assert np.corrcoef(error.ravel(), said.ravel())[0, 1] > 0.8
        assert np.sqrt((said**2).mean() / (error**2).mean()) == pytest.approx(2, rel=0.15)
        medians.append(np.median(told))
    assert medians[0] > medians[1] > medians[2] > 0


def test_smooth_blocks_have_little_error() -> None:
    pixels = photograph()
    pixels[:, :128] = 90
    decoded, _ = compressed(pixels, 75)
    told = estimate_compression(floats(decoded))
    assert told[:, :100].max() < 0.3 * np.median(told[:, 150:])


def test_the_strength_has_the_error_s_noise_level() -> None:
    seen = floats(compressed(photograph(), 60)[0])
    strength = compression_strength(seen).tensor()
    sigma = strength_to_sigma(strength)[0, 0].numpy()
    np.testing.assert_allclose(sigma, estimate_compression(seen), rtol=1e-3, atol=2e-3)


@pytest.mark.parametrize("value", [-1.0, 1.0])
def test_pictures_that_are_clipped_all_over_tell_nothing(value: float) -> None:
    image = np.full((48, 48, 1), value, np.float32)
    assert find_quantisation(image) is None
    assert not estimate_compression(image).any()
