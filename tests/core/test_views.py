"""Averaging over views: against NumPy's turns and flips, and what must survive it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from differential_diffusion.core import average_views

from .helpers import normal

KERNEL = torch.arange(9.0, dtype=torch.float64).view(1, 1, 3, 3) / 36


def lopsided(x: Tensor, sigma: Tensor) -> Tensor:
    """A denoiser whose answer depends on how the picture lies, and equals x where σ = 0."""
    blurred = F.conv2d(F.pad(x, (1, 1, 1, 1), mode="replicate"), KERNEL)
    return torch.where(sigma > 0, torch.lerp(x, blurred.tanh(), sigma / (1 + sigma)), x)


@pytest.mark.parametrize("size", [(7, 12), (8, 8), (1, 5)], ids=str)
def test_eight_views_are_the_turns_and_flips_of_the_square(size: tuple[int, int]) -> None:
    x, sigma = normal(2, 1, *size), normal(1, 1, *size, seed=1).abs()
    expected = np.zeros(x.shape)
    for turns in range(4):
        for mirrored in (False, True):

            def seen(a: np.ndarray, turns: int = turns, mirrored: bool = mirrored) -> Tensor:
                a = np.rot90(a[..., ::-1] if mirrored else a, turns, axes=(2, 3))
                return torch.from_numpy(a.copy())

            estimate = np.rot90(lopsided(seen(x.numpy()), seen(sigma.numpy())), -turns, (2, 3))
            expected += (estimate[..., ::-1] if mirrored else estimate) / 8
    np.testing.assert_allclose(average_views(lopsided, 8)(x, sigma), expected, atol=1e-12)


@pytest.mark.parametrize("sigma_size", [(1, 1), (1, 9), (6, 1), (6, 9)], ids=str)
@pytest.mark.parametrize("stride", [1, 4])
def test_a_map_of_any_broadcastable_shape_means_the_same(
    sigma_size: tuple[int, int], stride: int
) -> None:
    x, sigma = normal(1, 1, 6, 9), normal(1, 1, *sigma_size, seed=2).abs()
    averaged = average_views(lopsided, 5, stride=stride)
    expected = averaged(x, sigma.expand(1, 1, 6, 9))
    torch.testing.assert_close(averaged(x, sigma), expected, rtol=0, atol=1e-12)


@given(
    seed=st.integers(0, 1000),
    views=st.integers(1, 8),
    stride=st.sampled_from([1, 2, 8]),
    size=st.tuples(st.integers(1, 20), st.integers(1, 20)),
)
def test_known_pixels_stay_bit_for_bit(
    seed: int, views: int, stride: int, size: tuple[int, int]
) -> None:
    x = normal(1, 1, *size, seed=seed)
    sigma = normal(1, 1, *size, seed=seed + 1).clamp(min=0)
    out = average_views(lopsided, views, stride=stride)(x, sigma)
    assert out.shape == x.shape
    assert torch.equal(out[sigma == 0], x[sigma == 0])


def test_one_view_is_the_denoiser_and_others_are_refused() -> None:
    assert average_views(lopsided, 1) is lopsided
    for views in (0, 9):
        with pytest.raises(ValueError, match=f"views is {views}"):
            average_views(lopsided, views)
