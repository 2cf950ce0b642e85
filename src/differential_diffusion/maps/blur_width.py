"""The width of a Gaussian blur, estimated from the picture alone."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import least_squares

from ..core.operators.channels import LUMA
from . import _check

__all__ = ["SHARP", "estimate_blur"]

SHARP = 0.55
"""Widths in pixels below this do not differ from a sharp photograph's."""

_BINS = 32
_SLOPE, _SLOPE_VARIES = 2.4, 0.25  # of the spectra of photographs
_MISFIT, _NOISE_VARIES = 0.3, 0.1  # deviations of logarithms
_WIDEST = 8.0
_BENT = 1.035  # photographs' spectra bend up a little, which hides some of a blur
_SMALLEST = 24


def estimate_blur(image: NDArray[np.floating], noise_sigma: float) -> float:
    """Deviation in pixels of the Gaussian that blurred a photograph.

    Sharp photographs have spectra that fall as a power of the frequency f, from 1.6 to 2.8 (Field,
    1987; Burton and Moorhead, 1987). A Gaussian blur of deviation w makes of that

        S(f) = A f^-α exp(-4π² w² f²) + R,    f in cycles a pixel,

    where R is the noise. A, α, w and R are fitted to the logarithm of the picture's spectrum, mean
    over directions under a Hann window, with priors for α and R.

    Args:
        image: (H,W,3), or (H,W,1) or (H,W) for grey, floats in [-1, 1].
        noise_sigma: of the picture's noise in each channel, on that scale.

    Returns: pixels from 0 to 8; below `SHARP` there is no blur to be seen. 0 for pictures of fewer
    than 24 pixels a side, or with nothing in them.

    Raises:
        InputError: another shape, or NaN.
    """
    image = _check.picture(image)
    colours = image.shape[2] == 3 and bool((image != image[..., :1]).any())
    weights = np.asarray(LUMA if colours else (1.0,))
    luma = image[..., : weights.size].astype(np.float64) @ weights
    if min(luma.shape) < _SMALLEST or np.ptp(luma) == 0:
        return 0.0
    frequency, power = _spectrum(luma)
    floor = max(noise_sigma, 1e-4) ** 2 * float((weights**2).sum())

    def misfit(fit: NDArray[np.float64]) -> NDArray[np.float64]:
        amplitude, slope, width, level = fit
        signal = np.exp(amplitude - 4 * (np.pi * width * frequency) ** 2) * frequency**-slope
        model = signal + floor * np.exp(level)
        priors = (slope - _SLOPE) / _SLOPE_VARIES, level / _NOISE_VARIES
        return np.append(np.log(power / model) / _MISFIT, priors)

    start = float(np.log(power[3] * frequency[3] ** _SLOPE))
    bounds: Any = ([-np.inf, 0.5, 0, -2], [np.inf, 4.5, _WIDEST, 2])
    fits = [least_squares(misfit, [start, _SLOPE, w, 0], bounds=bounds) for w in (0.3, 1.5)]
    return _BENT * float(min(fits, key=lambda fit: fit.cost).x[2])


def _spectrum(plane: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Frequencies, evenly in logarithm, and the mean power around each."""
    height, width = plane.shape
    window = np.hanning(height + 2)[1:-1, None] * np.hanning(width + 2)[None, 1:-1]
    around = plane - (plane * window).sum() / window.sum()
    power = np.abs(np.fft.rfft2(around * window)) ** 2 / (window**2).sum()
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None])
    edges = np.geomspace(4 / min(height, width), 0.5, _BINS + 1)
    place = np.digitize(frequency, edges)
    bins = [place == k for k in range(1, _BINS + 1)]
    full = [b for b in bins if b.sum() >= 4]
    return (
        np.array([np.exp(np.log(frequency[b]).mean()) for b in full]),
        np.array([power[b].mean() for b in full]),
    )
