"""PSNR and SSIM against scikit-image."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from differential_diffusion.core import psnr, ssim
from differential_diffusion.errors import InputError

from .helpers import normal


def pair(dtype: torch.dtype = torch.float32) -> tuple[torch.Tensor, torch.Tensor]:
    """Smooth pictures in [-1,1], (2,3,32,41), and the same with two kinds of damage."""
    a = torch.nn.functional.interpolate(normal(2, 3, 6, 7), (32, 41), mode="bicubic").tanh()
    noisy = a[:1] + 0.1 * normal(1, 3, 32, 41, seed=1)
    blurred = torch.nn.functional.avg_pool2d(a[1:], 5, 1, 2)
    return a.to(dtype), torch.cat([noisy, blurred]).to(dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_ssim_equals_scikit_image(dtype: torch.dtype) -> None:
    a, b = pair(dtype)
    expected = [
        structural_similarity(
            p.double().numpy(),
            q.double().numpy(),
            channel_axis=0,
            data_range=2.0,
            gaussian_weights=True,
            sigma=1.5,
            use_sample_covariance=False,
        )
        for p, q in zip(a, b, strict=True)
    ]
    np.testing.assert_allclose(ssim(a, b).numpy(), expected, rtol=0, atol=1e-5)
    np.testing.assert_allclose(
        ssim((a + 1) / 2, (b + 1) / 2, data_range=1.0).numpy(),
        [
            structural_similarity(
                (p.double().numpy() + 1) / 2,
                (q.double().numpy() + 1) / 2,
                channel_axis=0,
                data_range=1.0,
                gaussian_weights=True,
                sigma=1.5,
                use_sample_covariance=False,
            )
            for p, q in zip(a, b, strict=True)
        ],
        rtol=0,
        atol=1e-5,
    )


def test_psnr_equals_scikit_image() -> None:
    a, b = pair()
    expected = [
        peak_signal_noise_ratio(p.numpy(), q.numpy(), data_range=2.0)
        for p, q in zip(a, b, strict=True)
    ]
    np.testing.assert_allclose(psnr(a, b).numpy(), expected, rtol=1e-5)


def test_equal_pictures() -> None:
    a, _ = pair()
    assert psnr(a, a).tolist() == [math.inf] * 2
    torch.testing.assert_close(ssim(a, a), torch.ones(2))


def test_known_psnr() -> None:
    a = torch.zeros(1, 1, 4, 4)
    assert psnr(a, a + 25 / 127.5).item() == pytest.approx(20 * math.log10(255 / 25), abs=1e-4)
    assert psnr(a, a + 0.1, data_range=1.0).item() == pytest.approx(20, abs=1e-4)


def test_bad_pairs_are_refused() -> None:
    a = torch.zeros(1, 1, 16, 16)
    for metric in (psnr, ssim):
        with pytest.raises(InputError, match="must both have the shape"):
            metric(a, a[..., 1:])
        with pytest.raises(InputError, match="must both have the shape"):
            metric(a[0], a[0])
        with pytest.raises(InputError, match="data_range must be above 0"):
            metric(a, a, data_range=0)
    with pytest.raises(InputError, match="at least 11x11"):
        ssim(a[..., :10], a[..., :10])
