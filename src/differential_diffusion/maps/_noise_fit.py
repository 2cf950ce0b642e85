"""From band energies to noise levels: statistics that do not take texture for noise.

White noise, by a model of a cell: in ring k the energy is  e_k = θ + t_k, with θ the noise
variance and t_k texture. Texture falls with frequency: t_k = κ t_j for the next lower ring j, with
κ known from photographs up to a spread. Hence

    θ = (e_k - κ e_j) / (1 - κ),    deviation by texture: spread * t_j / (1 - κ),

one estimate for each ring, with its own uncertainty: tiny in chroma, where photographs have
little texture, and large for luma on grass.

A camera's noise, by the flattest parts at each intensity and the curve that cameras leave.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from ._bands import COUNTS, Bands

__all__ = [
    "Evidence",
    "FlatSpectrum",
    "camera_curve",
    "flat_levels",
    "flat_spectrum",
    "gather",
    "level_field",
    "scale_features",
    "usual_curve",
]

Array = NDArray[np.float32]

LUMA, CHROMA = 0, 1
MIDDLE = slice(1, 3)  # rings in which a camera's luma noise is much like white noise
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
_FEWEST = 24
_QUANTILE = 0.1
# Intensity and relative variance: means over photographs through simulated cameras.
_CAMERA = (
    (0.02, 0.06, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9),
    (0.60, 0.75, 0.85, 0.92, 1.0, 0.97, 0.85, 0.62, 0.45, 0.36, 0.30),
)
# Weights of `scale_features` in the log of the scale, by `python -m benchmarks.fit_noise`.
_GREY_SCALE = (0.535, 0.868, -0.427, -0.226)
_COLOUR_SCALE = (0.453, 0.902, -0.359, 0.292, -0.125)
_SLOPES = (-6.0, 3.0)
_FLOOR = 1e-3
INTENSITY_BINS = 24


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


def _windows(bands: Bands) -> tuple[Bands, NDArray[np.bool_]]:
    """Windows of 3x3 blocks, and which of them, as a flat array, may speak for the noise."""
    windows = bands.pooled(3 if min(bands.intensity.shape) >= 3 else 1)
    return windows, (windows.saturated.ravel() <= 0.1) & (windows.ignored.ravel() <= 0.25)


def flat_spectrum(bands: Bands) -> FlatSpectrum:
    """The flattest 2 % of windows of 3x3 blocks, by their lowest luma ring."""
    windows, usable = _windows(bands)
    groups = windows.energy.shape[0]
    energy = windows.energy.reshape(groups, 5, -1).astype(np.float64)
    ratio = windows.amplitude.reshape(groups, 5, -1).astype(np.float64) ** 2 / (energy + 1e-2)
    if usable.sum() > 20:
        energy, ratio = energy[..., usable], ratio[..., usable]
    count = max(4, int(energy.shape[-1] * 0.02))
    flattest = np.argsort(energy[LUMA, 0], kind="stable")[:count]
    gaussian = np.log(np.median(ratio[..., flattest], -1) + 1e-2)
    return FlatSpectrum(np.median(energy[..., flattest], -1) + 1e-2, np.maximum(gaussian, -0.8))


def flat_levels(
    bands: Bands, spectrum: FlatSpectrum
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Noise variance at `INTENSITY_BINS` intensities, mean over channels, and its trust.

    At each intensity the flattest windows of 3x3 blocks speak, by their lowest luma ring, which
    says nothing about the others where there is noise alone. Where even these are not Gaussian,
    texture speaks, and the trust is low; 0 where there are too few windows. If these are too few
    everywhere, the flattest of the whole picture speak for all intensities.
    """
    robust = spectrum.energy[LUMA] * np.exp(spectrum.gaussian[LUMA] * (np.arange(5) >= 3))
    middle = np.average(spectrum.energy[LUMA, MIDDLE], weights=COUNTS[MIDDLE])
    luma_share = float(np.average(robust, weights=COUNTS) / middle)
    windows, usable = _windows(bands)
    energy = windows.energy.reshape(*windows.energy.shape[:2], -1)
    amplitude = windows.amplitude[LUMA, MIDDLE].reshape(2, -1)
    level = np.average(energy[LUMA, MIDDLE], 0, COUNTS[MIDDLE]) + 1e-2
    gaussian = np.log(np.average(amplitude**2, 0, COUNTS[MIDDLE]) / level + 1e-2)
    variance = _mean_of_channels(energy, luma_share)
    position = windows.intensity.ravel() / 255 * INTENSITY_BINS - 0.5
    levels, trust = np.ones(INTENSITY_BINS), np.zeros(INTENSITY_BINS)
    for index in range(INTENSITY_BINS):
        near = np.flatnonzero(usable & (np.abs(position - index) <= 1))
        if near.size < _FEWEST:
            continue
        lowest = np.argsort(energy[LUMA, 0, near], kind="stable")
        flattest = near[lowest[: max(8, near.size // 20)]]
        levels[index] = np.median(variance[flattest])
        texture = max(0.0, -float(np.median(gaussian[flattest])) - 0.02)
        trust[index] = near.size**0.5 * np.exp(-((texture / 0.05) ** 2))
    if not trust.any():
        return np.full_like(levels, _mean_of_channels(spectrum.energy, luma_share)), trust + 1
    return levels, trust


def _mean_of_channels(energy: NDArray[Any], luma_share: float) -> NDArray[Any]:
    """Mean noise variance of the channels from energies (groups, 5, ...).

    Chroma's energies are its variance; `luma_share` is luma's in units of its middle rings'.
    """
    luma = luma_share * np.average(energy[LUMA, MIDDLE], 0, COUNTS[MIDDLE]) + 1e-2
    if len(energy) == 1:
        return np.asarray(luma)
    return np.asarray((luma + 2 * np.average(energy[CHROMA], 0, COUNTS)) / 3)  # of three axes


def usual_curve() -> NDArray[np.float64]:
    """A camera's usual noise variance at each of `INTENSITY_BINS` intensities, up to its scale.

    Shot noise grows with the light and the tone curve shrinks it; what is left varies little
    up to the middle greys and falls towards white, and towards black where it is clipped.
    """
    return np.interp((np.arange(INTENSITY_BINS) + 0.5) / INTENSITY_BINS, *_CAMERA)


def camera_curve(
    variance: NDArray[np.float64], trust: NDArray[np.float64], spectrum: FlatSpectrum
) -> NDArray[np.float64]:
    """Noise variance at each intensity: the usual curve, at the scale of this picture.

    How to weigh what speaks for the scale was fitted to photographs through simulated cameras of
    ISO 300 to 16,000, of different optics, white balance, demosaicing and compression
    (`python -m benchmarks.fit_noise`, which says how well it fits).

    Args:
        variance: (INTENSITY_BINS,) seen, in squared 8-bit levels.
        trust: (INTENSITY_BINS,) weights, not all 0.
        spectrum: of the picture.
    """
    rule = _GREY_SCALE if len(spectrum.energy) == 1 else _COLOUR_SCALE
    return usual_curve() * np.exp(scale_features(variance, trust, spectrum) @ rule)


def scale_features(
    variance: NDArray[np.float64], trust: NDArray[np.float64], spectrum: FlatSpectrum
) -> NDArray[np.float64]:
    """What speaks for the log of the curve's scale, arguments as in `camera_curve`.

    Texture can only add to what is seen at an intensity, so first a low quantile of the scales
    that the intensities ask for. And texture falls with frequency faster than noise, so the slope
    of the flattest parts' spectrum tells how much of it is texture: logs of energies over luma's
    middle one, of luma's lowest and highest ring in grey pictures, and of luma's lowest, chroma's
    lowest and chroma's two highest in colour. With a constant in front: 4 or 5 values.
    """
    asked = variance / usual_curve()
    order = np.argsort(asked)
    reached = np.cumsum(trust[order])
    lowest = asked[order][np.searchsorted(reached, _QUANTILE * reached[-1])]
    energy = spectrum.energy
    seen = [energy[LUMA, 0], energy[LUMA, 4]]
    if len(energy) > 1:
        seen = [energy[LUMA, 0], energy[CHROMA, 0], energy[CHROMA, 3:].mean()]
    slopes = np.clip(np.log(seen) - np.log(energy[LUMA, 2]), *_SLOPES)
    return np.array([1, np.log(lowest), *slopes])
