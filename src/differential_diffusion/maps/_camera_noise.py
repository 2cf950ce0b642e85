"""A camera's noise: whether a picture has it, and how strong it is at each pixel.

Demosaicing, a tone curve and JPEG take the high frequencies from a sensor's noise and tie its
strength to the colour: shot noise grows with the light, the tone curve shrinks it, and white
balance lifts it in red and blue. Up to one factor that is much the same in all cameras, so it lies
in curves, one for each channel, and the factor is read from the picture's flattest parts.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from ._bands import CHROMA, LUMA, Bands

__all__ = [
    "CURVE_LEVELS",
    "GAMMA",
    "SMOOTHING",
    "Curves",
    "Windows",
    "camera_deviation",
    "camera_likelihood",
    "flat_windows",
    "scale_features",
]

Array = NDArray[np.float32]

SMOOTHING = 2.0
"""Deviation in pixels of the Gaussian that finds the colour beneath the noise."""
CURVE_LEVELS = (np.arange(24) + 0.5) / 24 * 2 - 1
"""Values in [-1, 1] at which curves are given."""
GAMMA = 2.2
"""Of light as a power of the encoded value."""


@dataclass(frozen=True)
class Curves:
    """A camera's noise variance by what the channels hold, up to a common factor.

    Green's variance is `green` of its own value. That of red and of blue is `outer` of its own
    value times a light: its own, green's and the other's, since demosaicing borrows the detail
    of red and blue from the other channels, and their noise with it.

    Attributes:
        outer: of red and of blue, at `CURVE_LEVELS`.
        green: of green, at `CURVE_LEVELS`.
        borrowed: what is added to a channel's own linear light, with 1 as white: a constant, and
            how much of green's light and of the other's.
    """

    outer: tuple[float, ...]
    green: tuple[float, ...]
    borrowed: tuple[float, float, float]

    def variance(self, colour: Array, smoothing: float = 0.0) -> Array:
        """Mean variance of the channels (H,W).

        Args:
            colour: (H,W,C) in [-1, 1], C = 1 or 3; grey is taken as the mean of three channels.
            smoothing: deviation in pixels of a Gaussian over the colour first.
        """
        levels = np.linspace(-1, 1, 256)
        light = (((levels + 1) / 2) ** GAMMA).astype(np.float32)
        outer, green = (
            np.interp(levels, CURVE_LEVELS, curve).astype(np.float32)
            for curve in (self.outer, self.green)
        )
        planes = [_quantised(colour[..., c], smoothing) for c in range(colour.shape[-1])]
        constant, of_green, of_other = self.borrowed
        if len(planes) == 1:
            in_all = constant + (1 + of_green + of_other) * light
            return np.asarray((2 * outer * in_all + green)[planes[0]] / 3, np.float32)
        total = green[planes[1]]
        for own, other in ((0, 2), (2, 0)):
            in_all = (of_green * light)[planes[1]]
            in_all += (of_other * light)[planes[other]]
            in_all += (constant + light)[planes[own]]
            in_all *= outer[planes[own]]
            total += in_all
        return np.asarray(total / 3, np.float32)


def _quantised(plane: Array, smoothing: float) -> NDArray[np.uint8]:
    """8-bit levels of a plane in [-1, 1], smoothed."""
    plane = np.array(plane, np.float32, order="C")
    if smoothing:
        plane = np.asarray(cv2.GaussianBlur(plane, (0, 0), smoothing), np.float32)
    return np.asarray(np.clip(np.rint((plane + 1) * 127.5), 0, 255), np.uint8)


# What follows is printed by `python -m benchmarks.fit_noise`, which fits it: the curves, and the
# weights of `scale_features` in the log of their scale.
# fmt: off
_USUAL = Curves(
    outer=(
        30.58, 51.34, 52.87, 47.34, 38.92, 30.8, 23.69, 18.6, 14.62, 11.5, 9.017, 7.196,
        5.809, 4.837, 3.926, 3.369, 2.812, 2.348, 2.003, 1.712, 1.424, 1.166, 0.92, 0.378,
    ),
    green=(
        0.808, 1.608, 1.811, 1.754, 1.602, 1.485, 1.384, 1.286, 1.222, 1.159, 1.098, 1.043,
        1.014, 0.979, 0.943, 0.907, 0.886, 0.845, 0.821, 0.77, 0.732, 0.674, 0.547, 0.325,
    ),
    borrowed=(0.0528, 0.3647, 0.1346),
)
_COLOUR_SCALE = (
    0.269, 0.952, -0.02, -0.148, 0.161, 0.214, 0.126, 0.696, -0.125, 0.123, -0.063,
    0.061, 0.991, -0.188, -0.374, 0.279, 1.692, -2.745, 0.256, -0.106, 0.057,
)
_GREY_SCALE = (
    -0.089, 0.942, -0.097, 0.209, 0.128, -0.074, 0.219, 6.096, -2.909, 0.521, -0.121,
)
# fmt: on

_FEWEST_WINDOWS = 20
_FLATTEST_TO_RECOGNISE, _FLATTEST_TO_MEASURE = 0.02, 0.15
_HIGHEST = 0.9
_MIDDLE = 2  # ring of luma whose noise is much like white noise
_SLOPES, _LEAST_GAUSSIAN = (-6.0, 3.0), -0.8
_FLOOR = 1e-2


@dataclass(frozen=True)
class Windows:
    """Windows of 3x3 blocks, N of them, that may speak for the noise.

    Attributes:
        energy: (groups, 5, N) in squared 8-bit levels, as in `Bands`.
        gaussian: (groups, 5, N) (mean absolute value)² over mean square, 1 for Gaussian noise and
            less for texture.
        relative: (N,) the variance that curves give to the windows' colours.
    """

    energy: NDArray[np.float64]
    gaussian: NDArray[np.float64]
    relative: NDArray[np.float64]

    def flattest(self, share: float, *, scaled: bool) -> tuple[NDArray[Any], NDArray[Any]]:
        """Median energies and logs of median `gaussian`, each (groups, 5), of the flattest.

        Flat is what has little energy in luma's lowest ring, which says nothing about the others
        where there is noise alone.

        Args:
            share: of the windows.
            scaled: count energies in units of `relative`.
        """
        energy = self.energy / (self.relative if scaled else 1)
        count = max(4, int(energy.shape[-1] * share))
        chosen = np.argsort(energy[LUMA, 0], kind="stable")[:count]
        gaussian = np.log(np.median(self.gaussian[..., chosen], -1) + _FLOOR)
        return np.median(energy[..., chosen], -1) + _FLOOR, np.maximum(gaussian, _LEAST_GAUSSIAN)


def flat_windows(bands: Bands, curves: Curves = _USUAL) -> Windows:
    """The windows that are neither saturated nor ignored; all, where that leaves too few."""
    windows = bands.pooled(3 if min(bands.saturated.shape) >= 3 else 1)
    groups = windows.energy.shape[0]
    energy = windows.energy.reshape(groups, 5, -1).astype(np.float64)
    amplitude = windows.amplitude.reshape(groups, 5, -1).astype(np.float64)
    relative = curves.variance(np.moveaxis(windows.colour, 0, -1)).ravel().astype(np.float64)
    usable = ((windows.saturated <= 0.1) & (windows.ignored <= 0.25)).ravel()
    if usable.sum() <= _FEWEST_WINDOWS:
        usable[:] = True
    energy, amplitude = energy[..., usable], amplitude[..., usable]
    return Windows(energy, amplitude**2 / (energy + _FLOOR), relative[usable])


def camera_likelihood(windows: Windows) -> float:
    """How sure it is, in [0, 1], that the flattest parts show camera noise.

    A logistic rule fitted to photographs, as they are and through a simulated camera from ISO 300
    to 12800. Noise is Gaussian, of similar strength in luma and chroma, and leaves no part of
    the picture really flat; texture is none of this. White noise is told apart by chroma's high
    frequencies, which cameras leave nowhere, neither in the flattest parts nor in others.
    """
    energy, gaussian = windows.flattest(_FLATTEST_TO_RECOGNISE, scaled=False)
    log_energy = np.log(energy)
    if len(energy) == 1:
        score = 25 * gaussian[LUMA, 1] + 0.9 * log_energy[LUMA, 1] - 3
        slope = log_energy[LUMA, 4] - log_energy[LUMA, 2]
        return _logistic(score) * float(np.clip((-0.4 - slope) / 0.25, 0, 1))
    colourful = log_energy[CHROMA, 0] - log_energy[LUMA, 0]
    strong = min(log_energy[LUMA, 1], 5.5)
    score = 8 * gaussian[LUMA, 1] + 1.95 * colourful + 1.7 * strong - 4.5
    everywhere = windows.energy + _FLOOR
    highs = np.log(everywhere[CHROMA, 3:].mean(0) / everywhere[LUMA, 2])
    high = max(
        np.log(energy[CHROMA, 3:].mean()) - log_energy[LUMA, 2], np.quantile(highs, _HIGHEST)
    )
    return _logistic(score) * float(np.clip((-0.9 - high) / 0.3, 0, 1))


def _logistic(score: float) -> float:
    """Twice as steep as the log-odds, and exactly 0 for what is unlikely."""
    return 1 / (1 + math.exp(-2 * score)) if score > -2 else 0.0


def camera_deviation(image: Array, windows: Windows) -> Array:
    """Deviation (H,W) in 8-bit levels, the root of the channels' mean variance.

    Args:
        image: (H,W,C) in [-1, 1].
        windows: of this picture.
    """
    weights = _GREY_SCALE if image.shape[-1] == 1 else _COLOUR_SCALE
    scale = np.exp(scale_features(windows) @ weights)
    return np.asarray(np.sqrt(np.float32(scale) * _USUAL.variance(image, SMOOTHING)), np.float32)


def scale_features(windows: Windows) -> NDArray[np.float64]:
    """What speaks for the log of the curves' scale: 21 values in colour, 11 in grey.

    A constant; the log of luma's middle energy in the flattest parts; logs of the other energies
    over that one, since texture falls with frequency faster than noise does; and how Gaussian each
    ring is, which texture is not. How to weigh them was fitted to photographs through simulated
    cameras of ISO 300 to 16,000, of different optics, white balance, demosaicing and compression.
    """
    energy, gaussian = windows.flattest(_FLATTEST_TO_MEASURE, scaled=True)
    logs = np.log(energy).ravel()
    others = np.clip(np.delete(logs, _MIDDLE) - logs[_MIDDLE], *_SLOPES)
    return np.concatenate([[1, logs[_MIDDLE]], others, gaussian.ravel()])
