"""Distances between sets of features, against closed forms and independent implementations."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import linalg

from differential_diffusion.errors import InputError
from differential_diffusion.evaluation.distances import (
    Moments,
    frechet_distance,
    kernel_distance,
    neighbours,
)

Array = NDArray[np.float64]


def drawn(count: int, size: int, seed: int = 0, shift: float = 0.0) -> Array:
    rng = np.random.default_rng(seed)
    return rng.normal(size=(count, size)) @ rng.normal(size=(size, size)) + shift


def test_moments_in_batches_are_numpys() -> None:
    features = drawn(101, 7)
    made = Moments.of(np.split(features, [1, 30, 30, 90]))
    assert made.count == 101
    np.testing.assert_allclose(made.mean, features.mean(0), atol=1e-12)
    np.testing.assert_allclose(made.covariance, np.cov(features.T), atol=1e-10)


def gaussian(mean: Array, covariance: Array) -> Moments:
    return Moments(100, mean, covariance)


def test_frechet_of_gaussians_whose_axes_agree_is_the_closed_form() -> None:
    rng = np.random.default_rng(3)
    axes = linalg.qr(rng.normal(size=(6, 6)))[0]
    a, b = rng.uniform(0.1, 4, (2, 6))
    mean = rng.normal(size=(2, 6))
    made = frechet_distance(
        gaussian(mean[0], (axes * a) @ axes.T), gaussian(mean[1], (axes * b) @ axes.T)
    )
    exact = np.square(mean[0] - mean[1]).sum() + np.square(np.sqrt(a) - np.sqrt(b)).sum()
    assert made == pytest.approx(exact, rel=1e-9)


@pytest.mark.parametrize("size", [1, 5, 40])
def test_frechet_is_that_of_scipys_matrix_root(size: int) -> None:
    a, b = (Moments.of([drawn(200, size, seed, shift)]) for seed, shift in ((0, 0.0), (1, 0.4)))
    root = linalg.sqrtm(a.covariance @ b.covariance)
    exact = np.square(a.mean - b.mean).sum()
    exact += np.trace(a.covariance + b.covariance - 2 * np.real(root))
    assert frechet_distance(a, b) == pytest.approx(float(exact), rel=1e-6)
    assert frechet_distance(b, a) == pytest.approx(frechet_distance(a, b), rel=1e-9)
    assert frechet_distance(a, a) == pytest.approx(0, abs=1e-9 * float(np.trace(a.covariance)))


def test_frechet_of_few_vectors() -> None:
    """Two vectors each: covariances of rank 1, whose root's trace is |u·v|."""
    a, b = (Moments.of([drawn(2, 9, seed)]) for seed in (4, 5))
    u, v = (linalg.svd(m.covariance)[0][:, 0] * np.trace(m.covariance) ** 0.5 for m in (a, b))
    exact = np.square(a.mean - b.mean).sum() + u @ u + v @ v - 2 * abs(u @ v)
    assert frechet_distance(a, b) == pytest.approx(float(exact), rel=1e-6)


def test_the_kernel_distance_is_the_sum_over_pairs() -> None:
    x, y = drawn(9, 4), drawn(9, 4, 1)
    made = kernel_distance(x, y, subset=9, subsets=1)

    def k(a: Array, b: Array) -> float:
        return float((a @ b / 4 + 1) ** 3)

    def mean(pairs: list[float]) -> float:
        return sum(pairs) / len(pairs)

    within = sum(
        mean([k(s[i], s[j]) for i in range(9) for j in range(9) if i != j]) for s in (x, y)
    )
    assert made.mean == pytest.approx(within - 2 * mean([k(a, b) for a in x for b in y]))


def test_the_kernel_distance_is_unbiased() -> None:
    """Of two halves of one set it is 0 within its error; of others it is not."""
    rng = np.random.default_rng(0)
    same = [
        kernel_distance(*rng.normal(size=(2, 60, 5)), subset=60, subsets=1).mean for _ in range(200)
    ]
    assert abs(np.mean(same)) < 4 * np.std(same) / 200**0.5
    apart = kernel_distance(rng.normal(size=(300, 5)), rng.normal(1, 1, size=(300, 5)), subset=100)
    assert apart.mean > 10 * apart.error > 0


def by_hand(real: Array, made: Array, k: int) -> tuple[float, float, float, float]:
    def distance(a: Array, b: Array) -> Array:
        return np.array([[np.linalg.norm(p - q) for q in b] for p in a])

    reach_real = np.sort(distance(real, real), 1)[:, k]
    reach_made = np.sort(distance(made, made), 1)[:, k]
    d = distance(real, made)
    inside = d <= reach_real[:, None]
    return (
        float(inside.any(0).mean()),
        float((d <= reach_made[None]).any(1).mean()),
        float(inside.sum() / (k * len(made))),
        float((d.min(1) <= reach_real).mean()),
    )


@pytest.mark.parametrize("k", [1, 3])
def test_neighbours_are_those_found_one_by_one(k: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("differential_diffusion.evaluation.distances._ROWS", 7)
    real, made = drawn(40, 3), drawn(31, 3, 1, 0.5)
    found = neighbours(real, made, k)
    measures = found.precision, found.recall, found.density, found.coverage
    assert measures == pytest.approx(by_hand(real, made, k))
    assert 0 < found.precision < 1


def test_neighbours_of_equal_and_of_distant_sets() -> None:
    rng = np.random.default_rng(2)
    same = neighbours(*rng.normal(size=(2, 1500, 4)))
    assert same.density == pytest.approx(1, abs=0.1)
    assert min(same.precision, same.recall, same.coverage) > 0.85
    apart = neighbours(rng.normal(size=(100, 4)), rng.normal(50, 1, size=(100, 4)))
    assert (apart.precision, apart.recall, apart.density, apart.coverage) == (0, 0, 0, 0)
    collapsed = neighbours(rng.normal(size=(200, 4)), 0.01 * rng.normal(size=(200, 4)))
    assert collapsed.precision > 0.95  # what is made lies among the real
    assert collapsed.recall < 0.05  # of which it covers next to nothing
    assert collapsed.coverage < 0.5


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: Moments.of([drawn(1, 3)]), "two at least"),
        (lambda: Moments.of([drawn(4, 3), drawn(4, 2)]), "from one network"),
        (lambda: Moments.of([np.zeros(3)]), r"give \(n,d\)"),
        (lambda: Moments.of([np.full((3, 2), np.nan)]), "not finite"),
        (
            lambda: frechet_distance(Moments.of([drawn(4, 3)]), Moments.of([drawn(4, 2)])),
            "from one network",
        ),
        (lambda: kernel_distance(drawn(4, 3), drawn(4, 2)), "from one network"),
        (lambda: kernel_distance(drawn(1, 3), drawn(4, 3)), "2 at least of both"),
        (lambda: neighbours(drawn(5, 3), drawn(9, 3)), "6 at least of both"),
        (lambda: neighbours(drawn(9, 3), drawn(9, 3), 0), "k is 0"),
    ],
)
def test_bad_features_are_said(call: Any, said: str) -> None:
    with pytest.raises(InputError, match=said):
        call()
