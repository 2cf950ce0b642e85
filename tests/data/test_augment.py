"""Augmentation: what is told is what was done, checked with other code for the same warp."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage, stats

from differential_diffusion.data.augment import SIZE, augment
from differential_diffusion.nn import AUGMENTATIONS


def smooth(height: int = 48, width: int = 48) -> NDArray[np.float32]:
    """Periodic, slow, and without symmetry."""
    r, c = np.mgrid[:height, :width] * 2 * np.pi / 48
    planes = [np.sin(r + 0.3) + np.cos(c), np.sin(r - c + 1) + 0.5 * np.sin(c), np.cos(r + c)]
    return (0.5 + 0.2 * np.stack(planes, -1)).astype(np.float32)


def told_of(seed: int, probability: float) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    return augment(smooth(), probability, np.random.default_rng(seed))


def test_sizes_agree() -> None:
    assert SIZE == AUGMENTATIONS


def test_without_probability_a_picture_or_its_mirror_image() -> None:
    picture, mirrored = smooth(), 0
    for seed in range(200):
        made, told = told_of(seed, 0.0)
        assert np.array_equal(made, picture[:, ::-1] if told[0] else picture)
        assert not told[1:].any()
        mirrored += int(told[0])
    assert stats.binomtest(mirrored, 200).pvalue > 1e-3


def matrix(told: NDArray[np.float32], size: int = 48) -> NDArray[np.float64]:
    """The warp of (column, row) about the centre that is told of, written anew: its inverse."""
    mirror, flip, scale, cosine, sine, along, across, right, down = told.astype(float)
    made = np.diag([1 - 2 * mirror, 1 - 2 * flip]) * 2**scale
    made = np.array([[cosine + 1, -sine], [sine, cosine + 1]]) @ made
    stretch, axis = np.hypot(along, across), np.arctan2(across, along) / 2
    u = np.array([np.cos(axis), np.sin(axis)])
    v = np.array([-np.sin(axis), np.cos(axis)])
    made = (2**stretch * np.outer(u, u) + 2**-stretch * np.outer(v, v)) @ made
    whole = np.eye(3)
    whole[:2, :2] = made
    whole[:2, 2] = size * right, size * down
    return np.linalg.inv(whole)


def test_what_is_told_says_what_was_done() -> None:
    """Every output pixel is the input at the place that the numbers lead back to."""
    picture, kinds = smooth(), np.zeros(SIZE)
    for seed in range(40):
        made, told = told_of(seed, 0.6)
        kinds += told != 0
        rows, columns = np.mgrid[:48, :48] - 23.5
        back = np.tensordot(matrix(told), np.stack([columns, rows, np.ones_like(rows)]), 1)
        places = back[1] + 23.5, back[0] + 23.5
        for channel in range(3):
            # scipy's "mirror" is the border without the last row repeated.
            expected = ndimage.map_coordinates(
                picture[..., channel].astype(float), places, order=3, mode="mirror"
            )
            assert np.abs(made[..., channel] - expected).max() < 0.01
            assert np.abs(made[..., channel] - expected).mean() < 0.002
    assert (kinds > 5).all()


def test_turns_preserve_lengths_and_stretches_areas() -> None:
    for seed in range(100):
        _, told = told_of(seed, 0.5)
        assert abs(np.hypot(told[3] + 1, told[4]) - 1) < 1e-6
        area = abs(np.linalg.det(matrix(told)))
        assert area == pytest.approx(4.0 ** -float(told[2]), rel=1e-5)


def test_laws_of_the_numbers() -> None:
    rng, picture = np.random.default_rng(0), np.zeros((4, 4, 1), np.float32)
    told = np.stack([augment(picture, 0.4, rng)[1] for _ in range(6000)])
    assert stats.binomtest(int(told[:, 0].sum()), 6000, 0.5).pvalue > 1e-3
    assert stats.binomtest(int(told[:, 1].sum()), 6000, 0.2).pvalue > 1e-3
    for column, deviation in ((2, 0.2), (7, 0.125), (8, 0.125)):
        chosen = told[told[:, column] != 0, column]
        assert stats.binomtest(len(chosen), 6000, 0.4).pvalue > 1e-3
        assert stats.kstest(chosen / deviation, "norm").pvalue > 1e-3
    turned = told[told[:, 4] != 0]
    angle = np.arctan2(turned[:, 4], turned[:, 3] + 1)
    assert stats.kstest((angle + np.pi) / (2 * np.pi), "uniform").pvalue > 1e-3
    stretch = np.hypot(told[:, 5], told[:, 6])
    assert stats.kstest(stretch[stretch > 0] / 0.2, "halfnorm").pvalue > 1e-3
    axis = np.arctan2(told[:, 6], told[:, 5])[stretch > 0]
    assert stats.kstest((axis + np.pi) / (2 * np.pi), "uniform").pvalue > 1e-3


def test_equal_in_distribution_to_that_of_the_mirror_image() -> None:
    """The same draws but for the first give the same picture of the mirror image."""
    picture = smooth()
    mirrored = np.ascontiguousarray(picture[:, ::-1])

    class Other:
        """A generator whose first number says the opposite."""

        def __init__(self, seed: int) -> None:
            self.rng, self.first = np.random.default_rng(seed), True

        def random(self, *size: int) -> NDArray[np.float64] | float:
            drawn = self.rng.random(*size)
            if self.first:
                self.first = False
                return 1 - drawn
            return drawn

        def standard_normal(self, *size: int) -> NDArray[np.float64] | float:
            return self.rng.standard_normal(*size)

    for seed in range(30):
        one, told = augment(picture, 0.5, np.random.default_rng(seed))
        two, other = augment(mirrored, 0.5, Other(seed))  # type: ignore[arg-type]
        assert told[0] == 1 - other[0]
        assert np.array_equal(told[1:], other[1:])
        assert np.abs(one - two).max() < 0.01
        assert np.abs(one - two).mean() < 0.001


def test_stays_in_range() -> None:
    """Cubics overshoot at edges."""
    steps = np.kron(np.random.default_rng(0).integers(0, 2, (8, 8, 7)), np.ones((4, 4, 1)))
    for seed in range(20):
        made, _ = augment(steps.astype(np.float32), 1.0, np.random.default_rng(seed))
        assert made.shape == steps.shape
        assert made.dtype == np.float32
        assert made.min() >= 0
        assert made.max() <= 1
