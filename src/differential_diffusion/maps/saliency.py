"""Strength where the picture strikes the eye."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy import fft, ndimage

from . import _check
from ._measure import LEVEL, Tone
from .strength import StrengthMap

__all__ = ["saliency_strength"]

Array = NDArray[np.float32]

_BLUR = 2.5
_LEAST = 1.0  # about the mean where the spectrum is smooth
_INVISIBLE = LEVEL / 16
_FAINT = 4 * LEVEL  # a picture whose values differ by no more has nothing to see


def saliency_strength(
    image: NDArray[np.floating],
    *,
    side: int = 64,
    percentile: float = 95.0,
    black: float = 0.3,
    strength: float = 1.0,
) -> StrengthMap:
    """Strength where the picture strikes the eye: what its spectrum does not lead to expect.

    With F the Fourier transform of the picture at a small size, A = log|F|, P its phase and h a
    3x3 mean, the spectral residual is R = A - h * A and the measure m = g * |F⁻¹(exp(R + iP))|²,
    g a Gaussian of 2.5 pixels of that size. It finds small things that differ from what repeats
    around them, and knows nothing of faces or objects.

    The picture is mirrored at its borders, so that these are no edges of their own; its mean,
    whose brightness says nothing, is left out; and the measure is the mean of the channels'.

    Args:
        image: (H,W,3), or (H,W,1) or (H,W) for grey, floats; values beyond [-1, 1] are clipped.
        side: longer side, 8 to 512 pixels, to which the picture is shrunk; larger finds smaller
            things.
        percentile: share of the visible measures, in percent, up to which the strength grows;
            lower for more of full strength.
        black: share of the full measure, 0 to 0.99, up to which the strength is 0.
        strength: the largest strength, in [0, 1].

    Raises:
        InputError: a bad picture, or settings out of range.

    Hou and Zhang, "Saliency detection: a spectral residual approach", CVPR 2007, equations 3 to 6.
    """
    image = _check.picture(image)
    side = int(_check.number("side", _check.side("side", side), 8, 512))
    tone = Tone(percentile, black, strength)
    height, width = image.shape[:2]
    measure = _measure(np.clip(_shrunk(image, side), -1, 1))
    if measure.shape != (height, width):
        resized = cv2.resize(measure, (width, height), interpolation=cv2.INTER_CUBIC)
        measure = np.asarray(resized, np.float32)
    return StrengthMap(tone.strengths(measure, _LEAST))


def _shrunk(image: Array, side: int) -> Array:
    """The picture (H,W,C) with a longer side of at most `side` pixels."""
    height, width = image.shape[:2]
    share = min(1.0, side / max(height, width))
    size = max(1, round(width * share)), max(1, round(height * share))
    if size != (width, height):
        image = np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.float32)
    return image.reshape(size[1], size[0], -1)


def _measure(image: Array) -> Array:
    channels = np.moveaxis(image.astype(np.float64), -1, 0)
    energy = np.mean([_unexpected(channel) for channel in channels], axis=0)
    blurred = cv2.GaussianBlur(energy, (0, 0), _BLUR, borderType=cv2.BORDER_REFLECT)
    return np.asarray(blurred, np.float32)


def _unexpected(channel: NDArray[np.float64]) -> NDArray[np.float64]:
    """|F⁻¹(exp(R + iP))|² of a channel (H,W), scaled so that R = 0 gives a mean of 1.

    exp(R + iP) is F exp(-h * A), which is 0 and not noise where F is.
    """
    spectrum = fft.dctn(channel)
    points = 4 * channel.size  # of the mirrored picture
    known = np.ones(channel.shape)
    known[0, 0] = spectrum[0, 0] = 0
    amplitude = known * np.log(np.abs(spectrum) + _INVISIBLE * np.sqrt(points))
    # The cosine transform is even about frequency 0, as is the mirror of its samples.
    total, count = (9 * ndimage.uniform_filter(a, 3, mode="mirror") for a in (amplitude, known))
    residual = fft.idctn(spectrum * np.exp(-total / np.maximum(count, 1)))
    seen = np.clip(np.ptp(channel) / _FAINT - 1, 0, 1)
    return np.asarray(seen * points * residual**2)
