"""Distances between two sets of pictures, by the features that a network finds in them.

Features are arrays (n,d); which network they are of is the protocol's to say, and figures of
different protocols do not compare.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError

__all__ = [
    "KernelDistance",
    "Moments",
    "Neighbours",
    "frechet_distance",
    "kernel_distance",
    "nearest",
    "neighbours",
]

Array = NDArray[np.float64]

_ROWS = 2048  # of a matrix of distances at a time


@dataclass(frozen=True)
class Moments:
    """Mean (d,) and unbiased covariance (d,d) of `count` feature vectors."""

    count: int
    mean: Array
    covariance: Array

    @classmethod
    def of(cls, batches: Iterable[NDArray[np.floating]]) -> Moments:
        """Of features that come in batches (n,d), none kept (Chan et al., 1983, section 3).

        Raises:
            InputError: fewer than two vectors, vectors of different lengths, or not finite ones.
        """
        count, mean, scatter = 0, np.zeros(0), np.zeros((0, 0))
        for given in batches:
            batch = _features(given, "a batch")
            if not len(batch):
                continue
            if not count:
                mean, scatter = np.zeros(batch.shape[1]), np.zeros(2 * batch.shape[1:])
            if batch.shape[1] != len(mean):
                raise InputError(
                    f"features of {batch.shape[1]} numbers follow on such of {len(mean)}: take all "
                    "from one network"
                )
            centre = batch.mean(0)
            apart, total = centre - mean, count + len(batch)
            scatter += (batch - centre).T @ (batch - centre)
            scatter += np.outer(apart, apart) * (count * len(batch) / total)
            mean, count = mean + apart * (len(batch) / total), total
        if count < 2:
            raise InputError(f"{count} pictures have no covariance: give two at least")
        return cls(count, mean, scatter / (count - 1))


def frechet_distance(a: Moments, b: Moments) -> float:
    """The squared Fréchet distance between Gaussians of these moments (Dowson and Landau, 1982).

        |μ_a - μ_b|² + tr(Σ_a + Σ_b - 2 (Σ_a^½ Σ_b Σ_a^½)^½)

    It is called FID for Inception's features (Heusel et al., 2017). Written with a symmetric root
    it needs no correction where covariances are singular, as they are for fewer vectors than
    numbers in each. It falls with the number of pictures: compare equal numbers.

    Raises:
        InputError: moments of different lengths.
    """
    if len(a.mean) != len(b.mean):
        raise InputError(
            f"features of {len(a.mean)} and {len(b.mean)} numbers do not compare: take both from "
            "one network"
        )
    values, vectors = np.linalg.eigh(a.covariance)
    root = (vectors * np.sqrt(values.clip(0))) @ vectors.T
    product = root @ b.covariance @ root
    crossed = np.sqrt(np.linalg.eigvalsh((product + product.T) / 2).clip(0)).sum()
    apart = np.square(a.mean - b.mean).sum()
    return float(apart + np.trace(a.covariance) + np.trace(b.covariance) - 2 * crossed)


@dataclass(frozen=True)
class KernelDistance:
    """Mean over subsets, and its standard error."""

    mean: float
    error: float


def kernel_distance(
    real: NDArray[np.floating],
    made: NDArray[np.floating],
    *,
    subset: int = 1000,
    subsets: int = 100,
    seed: int = 0,
) -> KernelDistance:
    """The squared maximum mean discrepancy, unbiased, of a cubic kernel (Bińkowski et al., 2018).

        k(x, y) = (x·y/d + 1)³

    It is called KID for Inception's features. Unlike Fréchet's it does not depend on the number of
    pictures but for its error.

    Args:
        real, made: features (n,d).
        subset: vectors that each estimate takes of both; all, where there are fewer.
        subsets: estimates.
        seed: which vectors they take.

    Raises:
        InputError: features of different lengths, or fewer than two of either.
    """
    x, y = _pair(real, made, 2)
    size = min(subset, len(x), len(y))
    if size < 2 or subsets < 1:
        raise InputError(f"subset is {subset} and subsets {subsets}: give 2 and 1 at least")
    draw = np.random.default_rng(seed)
    found = []
    for _ in range(subsets):
        a, b = (each[draw.choice(len(each), size, replace=False)] for each in (x, y))
        within = sum(_cubic(each, each).sum() - _cubic_self(each).sum() for each in (a, b))
        found.append(within / (size * (size - 1)) - 2 * _cubic(a, b).mean())
    error = np.std(found, ddof=1) / subsets**0.5 if subsets > 1 else float("nan")
    return KernelDistance(float(np.mean(found)), float(error))


@dataclass(frozen=True)
class Neighbours:
    """How two sets cover each other.

    Attributes:
        precision, recall: shares of made and of real pictures that lie among the others
            (Kynkäänniemi et al., 2019, equation 2).
        density, coverage: how densely real pictures lie where the made ones are, 1 for equal
            sets, and the share of real ones that have a made one near (Naeem et al., 2020,
            equations 3 and 4).
    """

    precision: float
    recall: float
    density: float
    coverage: float


def neighbours(real: NDArray[np.floating], made: NDArray[np.floating], k: int = 5) -> Neighbours:
    """Precision, recall, density and coverage, by balls that reach to the k-th nearest neighbour.

    Args:
        real, made: features (n,d).
        k: of the vectors of the same set.

    Raises:
        InputError: features of different lengths, or no more than k of either.
    """
    if k < 1:
        raise InputError(f"k is {k}: give 1 at least")
    x, y = _pair(real, made, k + 1)
    radius_real, radius_made = (_reach(each, k) for each in (x, y))
    inside, covered, recalled = np.zeros(len(y), np.int64), [], []
    for rows, squares in _squares(x, y):
        within = squares <= radius_real[rows, None]
        inside += within.sum(0)
        covered.append(within.any(1))
        recalled.append((squares <= radius_made).any(1))
    return Neighbours(
        precision=float((inside > 0).mean()),
        recall=float(np.concatenate(recalled).mean()),
        density=float(inside.mean() / k),
        coverage=float(np.concatenate(covered).mean()),
    )


def nearest(x: NDArray[np.floating], y: NDArray[np.floating]) -> tuple[NDArray[np.intp], Array]:
    """For each vector of x (n,d) the row of y (m,d) that lies nearest, and its distance, both (n,).

    Raises:
        InputError: features of different lengths, or none.
    """
    a, b = _pair(x, y, 1)
    found = [(squares.argmin(1), squares.min(1)) for _, squares in _squares(a, b)]
    rows, least = (np.concatenate(part) for part in zip(*found, strict=True))
    return rows, np.sqrt(least)


def _features(given: Any, name: str) -> Array:
    features = np.asarray(given, np.float64)
    if features.ndim != 2:
        raise InputError(f"{name} of features has the shape {features.shape}: give (n,d)")
    if not np.isfinite(features).all():
        raise InputError(f"{name} of features is not finite: check the network and the pictures")
    return features


def _pair(real: Any, made: Any, least: int) -> tuple[Array, Array]:
    x, y = _features(real, "the real set"), _features(made, "the made set")
    if x.shape[1] != y.shape[1]:
        raise InputError(
            f"features of {x.shape[1]} and {y.shape[1]} numbers do not compare: take both from one "
            "network"
        )
    if min(len(x), len(y)) < least:
        raise InputError(
            f"there are {len(x)} real and {len(y)} made pictures: give {least} at least of both"
        )
    return x, y


def _cubic(x: Array, y: Array) -> Array:
    return np.asarray((x @ y.T / x.shape[1] + 1) ** 3)


def _cubic_self(x: Array) -> Array:
    return np.asarray(((x * x).mean(1) + 1) ** 3)


def _squares(x: Array, y: Array) -> Iterator[tuple[slice, Array]]:
    """Squared distances, some rows at a time: which rows, and (rows, len(y))."""
    norm = np.square(y).sum(1)
    for first in range(0, len(x), _ROWS):
        rows = slice(first, min(first + _ROWS, len(x)))
        part = x[rows]
        squares = np.square(part).sum(1)[:, None] + norm - 2 * part @ y.T
        yield rows, squares.clip(0)


def _reach(x: Array, k: int) -> Array:
    """Squared distance of each vector's k-th nearest neighbour, (n,)."""
    return np.concatenate([np.partition(squares, k, 1)[:, k] for _, squares in _squares(x, x)])
