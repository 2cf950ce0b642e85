"""From band energies to levels of white noise: statistics that do not take texture for noise.

A model of a cell: in ring k the energy is  e_k = θ + t_k, with θ the noise
variance and t_k texture. Texture falls with frequency: t_k = κ t_j for the next lower ring j, with
κ known from photographs up to a spread. Hence

    θ = (e_k - κ e_j) / (1 - κ),    deviation by texture: spread * t_j / (1 - κ),

one estimate for each ring, with its own uncertainty: tiny in chroma, where photographs have
little texture, and large for luma on grass.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from ._bands import CHROMA, COUNTS, LUMA, Bands

__all__ = ["Evidence", "gather", "level_field"]

Array = NDArray[np.float32]

# group, ring, next lower ring, κ, spread of κ: medians and spreads over natural photographs.
_RATIOS = (
    (LUMA, 2, 1, 0.33, 0.40),
    (LUMA, 3, 2, 0.30, 0.25),
    (LUMA, 4, 2, 0.10, 0.13),
    (CHROMA, 1, 0, 0.12, 0.25),
    (CHROMA, 2, 1, 0.10, 0.18),
    (CHROMA, 3, 2, 0.12, 0.13),
    (CHROMA, 4, 2, 0.06, 0.08),
)
_ROBUST_FROM = 3
_FLOOR = 1e-3


@dataclass(frozen=True)
class Evidence:
    """Estimates of the noise variance in each cell, one for each of K rings.

    Attributes:
        value: (K, rows, columns) unbiased where κ is right, so that it can be negative.
        lower: (K, rows, columns) energy of the next lower ring, which bounds the texture.
        spread: (K,) deviation of `value` for each unit of texture in that ring.
        freedom: (K,) independent coefficients behind a value.
        trust: (rows, columns) factor on the weight; small for saturated or ignored cells.
    """

    value: Array
    lower: Array
    spread: NDArray[np.float64]
    freedom: NDArray[np.float64]
    trust: Array

    def combined(self, level: Array) -> tuple[Array, Array, Array]:
        """Best estimate at a supposed level: value, sampling variance, texture deviation."""
        sampling = (2 / self.freedom)[:, None, None] * level**2
        texture = np.maximum(self.lower - level, 0)
        texture = self.spread[:, None, None] * texture
        weight = 1 / (sampling + texture**2 + _FLOOR**2)
        total = weight.sum(0)
        return (
            (weight * self.value).sum(0) / total,
            (weight**2 * sampling).sum(0) / total**2,
            (weight * texture).sum(0) / total,
        )


def gather(cells: Bands) -> Evidence:
    """Evidence from cells of 2x2 blocks, for white noise."""
    energy = cells.energy.copy()
    energy[:, _ROBUST_FROM:] = cells.amplitude[:, _ROBUST_FROM:] ** 2
    value, lower, spreads, freedom = [], [], [], []
    for group, ring, below, kappa, spread in _RATIOS:
        if group >= len(energy):
            continue
        unit = 1 - kappa
        value.append((energy[group, ring] - kappa * energy[group, below]) / unit)
        lower.append(energy[group, below])
        spreads.append(spread / unit)
        freedom.append(COUNTS[ring] * 2.0 * (1 + (group == CHROMA)))
    constant = energy.sum((0, 1)) < _FLOOR
    doubtful = (cells.saturated > 0.1) | constant
    trust = np.where(doubtful, 0.02, 1.0) * np.where(cells.ignored > 0.25, 1e-6, 1.0)
    return Evidence(
        np.stack(value),
        np.stack(lower),
        np.array(spreads),
        np.array(freedom),
        trust.astype(np.float32),
    )


def level_field(
    evidence: Evidence,
    *,
    scales: tuple[float, ...] = (16, 8, 4, 2, 1, 0),
    rise: float = 9.0,
    fall: float = 4.0,
) -> Array:
    """Noise variance (rows, columns), as smooth as the evidence allows.

    From the mean of the whole picture down through Gaussian windows of `scales` cells to the
    single cell, a window changes the coarser level where its own differs from it by more than
    chance and texture explain: squared z-scores above `rise` upwards or `fall` downwards.
    Texture is one error shared by a window, which averaging does not reduce.
    """
    shape = evidence.trust.shape
    level = np.full(shape, max(float(np.median(evidence.value)), _FLOOR), np.float32)
    for _ in range(8):
        value, sampling, texture = evidence.combined(level)
        weight = evidence.trust / (sampling + texture**2)
        level[:] = max(float((weight * value).sum() / weight.sum()), _FLOOR)
    for scale in scales:
        for _ in range(2):
            value, sampling, texture = evidence.combined(level)
            weight = evidence.trust / (sampling + texture**2)
            if scale:
                total = _blur(weight, scale) + 1e-20
                value = _blur(weight * value, scale) / total
                texture = _blur(weight * texture, scale) / total
                # The square of a Gaussian is a narrower Gaussian times 1 / (4 π scale²); 1.5
                # makes up for the overlap of neighbouring cells.
                squared = _blur(weight**2 * sampling, scale / 2**0.5)
                sampling = 1.5 * squared / (4 * np.pi * scale**2) / total**2
            else:
                sampling = sampling / evidence.trust
            level = _step(level, value, sampling + texture**2, rise, fall)
    return level


def _step(
    level: NDArray[Any], value: NDArray[Any], variance: NDArray[Any], rise: float, fall: float
) -> NDArray[Any]:
    """Moves a level towards a value by as much as the difference is significant."""
    value = np.maximum(value, 0.01 * level)
    log_ratio = np.log(value / level)
    difference = np.where(value > level, value / level - 1, log_ratio)
    threshold = np.where(value > level, rise, fall) * variance / level**2
    moved = np.clip(difference**2 / np.maximum(threshold, 1e-12) - 1, 0, 1)
    return np.asarray(np.maximum(level * np.exp(moved * log_ratio), _FLOOR), level.dtype)


def _blur(plane: Array, scale: float) -> Array:
    blurred = cv2.GaussianBlur(plane, (0, 0), scale, borderType=cv2.BORDER_CONSTANT)
    return np.asarray(blurred, np.float32)
