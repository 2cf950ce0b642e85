"""From band energies to noise levels: statistics that do not take texture for noise.

One model of a cell: in ring k the energy is  e_k = p_k θ + t_k, with θ the noise variance, p_k
the share of the noise spectrum in that ring (1 for white noise) and t_k texture. Texture falls
with frequency: t_k = κ t_j for the next lower ring j, with κ known from photographs up to a
spread. Hence

    θ = (e_k - κ e_j) / (p_k - κ p_j),    deviation by texture: spread * t_j / (p_k - κ p_j),

one estimate for each ring, with its own uncertainty: tiny in chroma, where photographs have
little texture, and large for luma on grass.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d

from ._bands import COUNTS, Bands

__all__ = ["Evidence", "flat_spectrum", "gather", "level_field", "level_of_intensity"]

Array = NDArray[np.float32]

LUMA, CHROMA = 0, 1
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
INTENSITY_BINS = 24


@dataclass(frozen=True)
class Evidence:
    """Estimates of the noise variance in each cell, one for each of K rings.

    Attributes:
        value: (K, rows, columns) unbiased where κ is right, so that it can be negative.
        lower: (K, rows, columns) energy of the next lower ring, which bounds the texture.
        share: (K,) p_j of that ring.
        spread: (K,) deviation of `value` for each unit of texture in that ring.
        freedom: (K,) independent coefficients behind a value.
        trust: (rows, columns) factor on the weight; small for saturated or ignored cells.
    """

    value: Array
    lower: Array
    share: NDArray[np.float64]
    spread: NDArray[np.float64]
    freedom: NDArray[np.float64]
    trust: Array

    def combined(self, level: Array) -> tuple[Array, Array, Array]:
        """Best estimate at a supposed level: value, sampling variance, texture deviation."""
        sampling = (2 / self.freedom)[:, None, None] * level**2
        texture = np.maximum(self.lower - self.share[:, None, None] * level, 0)
        texture = self.spread[:, None, None] * texture
        weight = 1 / (sampling + texture**2 + _FLOOR**2)
        total = weight.sum(0)
        return (
            (weight * self.value).sum(0) / total,
            (weight**2 * sampling).sum(0) / total**2,
            (weight * texture).sum(0) / total,
        )

    def scaled(self, factor: Array) -> Evidence:
        """The same evidence with the noise variance measured in units of `factor`."""
        return Evidence(
            self.value / factor,
            self.lower / factor,
            self.share,
            self.spread,
            self.freedom,
            self.trust,
        )


def gather(
    cells: Bands, share: NDArray[np.float64] | None = None, *, luma_only: bool = False
) -> Evidence:
    """Evidence from cells of 2x2 blocks, for noise with the spectrum `share` (groups, 5).

    Without a share the noise is white. Rings that hold less than a quarter of the noise tell
    nothing and are left out.
    """
    groups = cells.energy.shape[0]
    if share is None:
        share = np.ones((groups, 5))
    energy = cells.energy.copy()
    energy[:, _ROBUST_FROM:] = cells.amplitude[:, _ROBUST_FROM:] ** 2
    value, lower, shares, spreads, freedom = [], [], [], [], []
    for group, ring, below, kappa, spread in _RATIOS:
        if group >= groups or (luma_only and group == CHROMA):
            continue
        own, other = share[group, ring], share[group, below]
        if own < 0.25 and ring > 2:
            continue
        kappa = min(kappa, 0.5 * own / other)
        unit = own - kappa * other
        value.append((energy[group, ring] - kappa * energy[group, below]) / unit)
        lower.append(energy[group, below])
        shares.append(other)
        spreads.append(spread / unit)
        freedom.append(COUNTS[ring] * 2.0 * (1 + (group == CHROMA)))
    constant = energy.sum((0, 1)) < _FLOOR
    doubtful = (cells.saturated > 0.1) | constant
    trust = np.where(doubtful, 0.02, 1.0) * np.where(cells.ignored > 0.25, 1e-6, 1.0)
    return Evidence(
        np.stack(value),
        np.stack(lower),
        np.array(shares),
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


def level_of_intensity(
    evidence: Evidence,
    intensity: Array,
    start: float,
    *,
    rise: float = 25.0,
    fall: float = 9.0,
    limit: float = 4.0,
) -> NDArray[np.float64]:
    """Noise variance at `INTENSITY_BINS` intensities from 0 to 255.

    As `level_field`, with windows of intensity in place of windows of space. The result stays
    within a factor `limit` of the starting variance.
    """
    position = np.clip(intensity / 255 * INTENSITY_BINS, 0, INTENSITY_BINS - 1e-3)
    bins, centres = position.astype(int).ravel(), np.arange(INTENSITY_BINS)

    def gather_bins(values: Array, scale: float) -> NDArray[np.float64]:
        sums = np.bincount(bins, values.ravel(), INTENSITY_BINS)
        return np.asarray(gaussian_filter1d(sums, scale, mode="constant"))

    curve = np.full(INTENSITY_BINS, start)
    for scale in (8, 8, 4, 4, 2, 2, 1, 1):
        level = np.exp(np.interp(position - 0.5, centres, np.log(curve))).astype(np.float32)
        value, sampling, texture = evidence.combined(level)
        weight = evidence.trust / (sampling + texture**2)
        total = gather_bins(weight, scale)
        seen = total > 1e-4 * total.max()
        total = np.where(seen, total, 1)
        sampling_bins = gather_bins(weight**2 * sampling, scale) / total**2
        variance = sampling_bins + (gather_bins(weight * texture, scale) / total) ** 2
        before = np.where(seen, gather_bins(weight * level, scale) / total, curve)
        stepped = _step(before, gather_bins(weight * value, scale) / total, variance, rise, fall)
        curve = np.interp(centres, centres[seen], stepped[seen])
        curve = np.clip(curve, start / limit, start * limit)
    return curve


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


@dataclass(frozen=True)
class FlatSpectrum:
    """Spectrum of the flattest parts of a picture, where noise shows.

    Attributes:
        energy: (groups, 5) median energies in squared 8-bit levels.
        gaussian: (groups, 5) log of (mean absolute value)² over mean square, 0 for Gaussian
            noise and negative for texture, at least -0.8.
    """

    energy: NDArray[np.float64]
    gaussian: NDArray[np.float64]


def flat_spectrum(bands: Bands) -> FlatSpectrum:
    """The flattest 2 % of windows of 3x3 blocks, by their lowest luma ring."""
    size = 3 if min(bands.intensity.shape) >= 3 else 1
    windows = bands.pooled(size)
    groups = windows.energy.shape[0]
    energy = windows.energy.reshape(groups, 5, -1).astype(np.float64)
    ratio = windows.amplitude.reshape(groups, 5, -1).astype(np.float64) ** 2 / (energy + 1e-2)
    usable = (windows.saturated.ravel() <= 0.1) & (windows.ignored.ravel() <= 0.25)
    if usable.sum() > 20:
        energy, ratio = energy[..., usable], ratio[..., usable]
    count = max(4, int(energy.shape[-1] * 0.02))
    flattest = np.argsort(energy[LUMA, 0], kind="stable")[:count]
    gaussian = np.log(np.median(ratio[..., flattest], -1) + 1e-2)
    return FlatSpectrum(np.median(energy[..., flattest], -1) + 1e-2, np.maximum(gaussian, -0.8))
