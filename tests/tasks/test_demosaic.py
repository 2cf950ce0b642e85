"""Demosaicing: what is filtered again is the raw picture, and colours are nearer to the truth."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

import differential_diffusion as dd
from differential_diffusion.core.operators import BAYER_PATTERNS, bayer
from differential_diffusion.data.images import load_images
from differential_diffusion.errors import InputError
from differential_diffusion.tasks.demosaic import interpolated


def plane(height: int, width: int) -> Tensor:
    """A picture whose colours rise linearly, each in its own way."""
    row, column = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    return torch.stack([0.01 * row, 0.2 + 0.008 * column, 0.5 - 0.005 * (row + column)])[None]


@pytest.mark.parametrize("pattern", BAYER_PATTERNS)
def test_the_first_guess_is_exact_on_planes(pattern: str) -> None:
    """Linear filters with sums right by the paper: inside, slopes come out as they are."""
    picture = plane(20, 26)
    operator = bayer(pattern, 20, 26)
    found = interpolated(operator.forward(picture), operator.weights)
    inner = np.s_[..., 2:-2, 2:-2]
    torch.testing.assert_close(found[inner], picture[inner], rtol=0, atol=1e-5)


@pytest.mark.parametrize("pattern", BAYER_PATTERNS)
def test_filtered_again_it_is_the_raw_picture(pattern: Any) -> None:
    raw = bayer(pattern, 20, 26).forward(plane(20, 26))[0]
    for estimate in ("mean", "sample"):
        made = dd.demosaic(raw, pattern, estimate=estimate, passes=3, steps=3).image
        assert made.shape == (3, 20, 26)
        again = bayer(pattern, 20, 26).forward(made[None])[0]
        assert float((again - raw).square().mean().sqrt()) < 0.5 / 255


def test_kinds_come_back_with_three_channels() -> None:
    raw = np.random.default_rng(0).integers(0, 65536, (12, 16)).astype(np.uint16)
    made = dd.demosaic(raw, passes=1).image
    assert made.shape == (12, 16, 3)
    assert made.dtype == np.uint16
    with pytest.raises(InputError, match="has colours already"):
        dd.demosaic(made)
    with pytest.raises(InputError, match="4 x 4 at least"):
        dd.demosaic(raw[:3])


@pytest.mark.slow
def test_photographs_are_nearer_to_the_truth_than_by_opencv(shared_data: Path) -> None:
    codes = (cv2.COLOR_BayerBG2RGB, cv2.COLOR_BayerBG2RGB_VNG, cv2.COLOR_BayerBG2RGB_EA)
    gains = []
    for index in (10, 30, 50):
        truth = sorted(load_images(shared_data / "cbsd68.tar").images)[index].pixels[:200, :200]
        channels = torch.from_numpy(truth.copy()).permute(2, 0, 1)[None].float()
        raw = bayer("RGGB", 200, 200).forward(channels)[0, 0].byte().numpy()
        best = max(psnr(cv2.cvtColor(raw, code), truth) for code in codes)
        gains.append(psnr(dd.demosaic(raw).image, truth) - best)
    assert np.mean(gains) > 2, gains


def psnr(made: NDArray[np.uint8], truth: NDArray[np.uint8]) -> float:
    inner = np.s_[4:-4, 4:-4]  # OpenCV leaves the border out
    error = float(((made[inner].astype(float) - truth[inner]) ** 2).mean())
    return 10 * math.log10(255**2 / error)
