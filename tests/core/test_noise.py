"""Noise by position, and the law of the σ fields."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.ndimage import fourier_gaussian

from differential_diffusion.core.noise import (
    CameraNoise,
    PositionalNoise,
    SigmaFields,
    Window,
    derive_seed,
    generator,
    random_mask,
    shape_noise,
)
from differential_diffusion.errors import InputError


@given(data=st.data(), height=st.integers(1, 200), width=st.integers(1, 40), seed=st.integers())
def test_a_crop_sees_the_noise_of_the_whole(
    data: st.DataObject, height: int, width: int, seed: int
) -> None:
    top = data.draw(st.integers(0, height - 1))
    left = data.draw(st.integers(0, width - 1))
    bottom = data.draw(st.integers(top + 1, height))
    right = data.draw(st.integers(left + 1, width))
    whole = PositionalNoise([seed % 2**60], 3, height, width)
    crop = whole.crop(Window(top, left, bottom, right))
    assert torch.equal(crop(5), whole(5)[..., top:bottom, left:right])


def test_a_batch_sees_the_noise_of_each_image() -> None:
    batch = PositionalNoise([3, 0, 7], 3, 70, 9)(2)
    for index, seed in enumerate([3, 0, 7]):
        assert torch.equal(batch[index : index + 1], PositionalNoise([seed], 3, 70, 9)(2))


def test_noise_is_standard_normal_and_draws_are_independent() -> None:
    noise = PositionalNoise([1], 3, 256, 256)
    a, b = noise(0).flatten(), noise(1).flatten()
    n = a.numel()
    assert abs(float(a.mean())) < 4 / math.sqrt(n)
    assert abs(float(a.var()) - 1) < 4 * math.sqrt(2 / n)
    assert abs(float((a * b).mean())) < 4 / math.sqrt(n)
    blocks = noise(0)[0, 0].unflatten(0, (4, 64)).flatten(1)
    assert float(torch.corrcoef(blocks).triu(1).abs().max()) < 4 / math.sqrt(blocks.shape[1])


def test_seeds_differ_by_every_key() -> None:
    keys = [(a, b) for a in range(-20, 20) for b in range(20)]
    assert len({derive_seed(*key) for key in keys}) == len(keys)
    assert derive_seed(1, 23) != derive_seed(12, 3)


def fields(**weights: float) -> torch.Tensor:
    law = SigmaFields(**({"uniform": 0, "smooth": 0, "holes": 0, "paths": 0} | weights))
    return law.sample(400, 24, 24, generator(1))


def test_uniform_fields_have_the_stated_law() -> None:
    sigma = fields(uniform=1)
    assert torch.equal(sigma.amax((1, 2, 3)), sigma.amin((1, 2, 3)))
    log = sigma[:, 0, 0, 0].log()
    assert abs(float(log.mean()) - -1.4) < 4 * 1.2 / 20
    assert abs(float(log.std()) - 1.2) < 4 * 1.2 / math.sqrt(800)


def test_holes_have_clean_surroundings_and_reach_sigma_max() -> None:
    sigma = fields(holes=1)
    levels = [torch.unique(field) for field in sigma]
    assert all(len(level) <= 2 for level in levels)
    two = torch.stack([level for level in levels if len(level) == 2])
    assert 0.6 < float((two[:, 0] == 0).float().mean()) < 0.9
    assert float((two[:, 1] == 20).float().mean()) > 0.05
    assert float((two[:, 1] > 1).float().mean()) > 0.4


def test_smooth_fields_vary_and_keep_the_mean_level() -> None:
    log = fields(smooth=1).log()
    within, between = log.flatten(1).std(1), log.flatten(1).mean(1).std()
    assert float(within.max()) > 0.5
    assert float(within.mean()) < float(between)


def test_paths_are_cut_at_one_level_and_may_hold_still_pixels() -> None:
    sigma = fields(paths=1)
    tops = (sigma == sigma.amax((1, 2, 3), keepdim=True)).float().mean((1, 2, 3))
    assert float((tops > 0.05).float().mean()) > 0.5
    assert bool((sigma == 0).any())


def test_every_field_is_in_range_and_reproducible() -> None:
    law = SigmaFields()
    sigma = law.sample(64, 40, 56, generator(9))
    assert sigma.shape == (64, 1, 40, 56)
    assert bool(((sigma == 0) | ((sigma >= 0.0019) & (sigma <= 20.01))).all())
    assert torch.equal(sigma, law.sample(64, 40, 56, generator(9)))
    kinds = (sigma.amax((1, 2, 3)) == sigma.amin((1, 2, 3))).float().mean()
    assert 0.45 < float(kinds) < 0.6


def test_masks_of_all_kinds_have_both_sides() -> None:
    shares = torch.tensor(
        [float(random_mask(64, 64, generator(k)).float().mean()) for k in range(200)]
    )
    assert float(((shares > 0) & (shares < 1)).float().mean()) > 0.95
    assert float(shares.min()) < 0.1
    assert float(shares.max()) > 0.6


@pytest.mark.parametrize("size", [(16, 16), (17, 12), (9, 21)])
def test_shaped_noise_equals_scipy(size: tuple[int, int]) -> None:
    noise = PositionalNoise([1, 2], 3, *size)(0)
    gain = torch.tensor([[1.0, 0.5, 2.0], [1.5, 1.0, 0.7]]).view(2, 3, 1, 1)
    chroma_gain = torch.tensor([0.8, 1.2]).view(2, 1, 1, 1)
    luma_blur, chroma_blur = (torch.tensor(b).view(2, 1, 1, 1) for b in ([0.3, 0.6], [1.0, 1.7]))
    made = shape_noise(noise, gain, chroma_gain, luma_blur, chroma_blur)
    for b in range(2):
        pixels = noise[b].double().numpy()
        luma = pixels.mean(0, keepdims=True)
        parts = []
        for part, blur in ((luma, luma_blur), (pixels - luma, chroma_blur)):
            spectra = [fourier_gaussian(np.fft.fft2(plane), float(blur[b])) for plane in part]
            parts.append(np.fft.ifft2(spectra).real)
        expected = gain[b].numpy() * (parts[0] + float(chroma_gain[b]) * parts[1])
        np.testing.assert_allclose(made[b].numpy(), expected, atol=2e-6)


def test_coloured_noise_has_unit_variance_and_soft_chroma() -> None:
    white = PositionalNoise(range(64), 3, 48, 48)(0)
    made = CameraNoise.draw(len(white), generator(0)).shape(white)
    torch.testing.assert_close(made.square().mean((1, 2, 3)), torch.ones(64))
    assert torch.equal(made, CameraNoise.draw(len(white), generator(0)).shape(white))
    power = torch.fft.rfft2(made).abs().square()[..., 1:, 1:]
    luma = torch.fft.rfft2(made.mean(1)).abs().square()[..., 1:, 1:]
    high, low = power[..., 16:32, 16:].mean(), power[..., :8, :8].mean()
    high_luma, low_luma = luma[..., 16:32, 16:].mean(), luma[..., :8, :8].mean()
    assert high / low < 0.7 * high_luma / low_luma < 0.7


@pytest.mark.parametrize(
    ("bad", "word"),
    [
        ({"uniform": -1}, "negative"),
        ({"uniform": 0, "smooth": 0, "holes": 0, "paths": 0}, "positive"),
        ({"sigma_min": 0}, "sigma_min"),
        ({"sigma_min": 3, "sigma_max": 2}, "sigma_max"),
        ({"deviation": -1}, "deviation"),
    ],
)
def test_bad_laws_are_refused(bad: dict[str, float], word: str) -> None:
    with pytest.raises(InputError, match=word):
        SigmaFields(**bad)
