"""The noise of a picture, estimated at each pixel from the picture alone."""

from __future__ import annotations

import math
from typing import Literal, get_args

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from ..core.ladder import sigma_to_strength
from ..errors import InputError
from . import _check
from ._bands import BLOCK, block_bands
from ._camera_noise import camera_deviation, camera_likelihood, flat_windows
from ._white_noise import gather, level_field
from .strength import StrengthMap

__all__ = ["NoiseKind", "estimate_noise", "noise_strength"]

Array = NDArray[np.float32]
NoiseKind = Literal["auto", "white", "camera"]

_SMALLEST = 2 * BLOCK


def estimate_noise(
    image: NDArray[np.floating],
    *,
    kind: NoiseKind = "auto",
    ignore: NDArray[np.bool_] | None = None,
) -> Array:
    """Noise level σ of each pixel, as a denoiser of white noise should be told it.

    "white" is independent noise whose level may change across the picture, slowly or at the
    edges of patches. It is read from the high frequencies, in colour pictures mostly of chroma,
    where photographs have little texture; several scales of smoothing are chosen between by
    evidence. "camera" is what demosaicing, a tone curve and JPEG leave of sensor noise: its high
    frequencies are gone. It is read from the flattest parts, as the scale of curves over each
    channel that are usual for cameras, and is never below the "white" estimate. "auto" weighs the
    two by how Gaussian, how colourful and how far from white the flattest parts are.

    Args:
        image: (H,W,3), or (H,W,1) or (H,W) for grey, floats in [-1, 1]; values beyond are taken
            as noise that has not been clipped.
        kind: "auto", "white" or "camera".
        ignore: (H,W) pixels to leave out, such as known damage; their level comes from around.

    Returns:
        (H,W) float32 σ on the [-1, 1] scale (8-bit levels / 127.5): one level for all channels,
        the root of their mean variance. Near 0 for a clean picture, and 0 where all pixels are
        equal, or the picture is too small (under 3 pixels a side) to tell.

    Raises:
        InputError: another shape, NaN, an unknown kind, or a mask of another size.

    The approach follows Liu, Tanaka and Okutomi, "Single-image noise level estimation for blind
    denoising", IEEE TIP 2013 (noise shows in weakly textured patches) and Colom, Buades and
    Morel, "Nonparametric noise estimation method for raw images", JOSA A 2014 (by intensity and
    frequency).
    """
    image = _check.picture(image)
    if kind not in get_args(NoiseKind):
        raise InputError(f"kind is {kind!r}: give one of {', '.join(get_args(NoiseKind))}.")
    if image.shape[2] == 3 and (image == image[..., :1]).all():
        image = image[..., :1]
    if ignore is not None:
        ignore = np.asarray(ignore, bool)
        if ignore.shape != image.shape[:2]:
            raise InputError(
                f"ignore has the shape {ignore.shape} and the picture {image.shape[:2]}: "
                "give one value for each pixel."
            )
        image = _filled(image, ignore)
    if min(image.shape[:2]) < _SMALLEST:
        return np.full(image.shape[:2], _tiny_level(image), np.float32)

    bands = block_bands(image, ignore)
    cells = bands.pooled(2)
    deviation = _at_pixels(np.sqrt(level_field(gather(cells))), bands.step, image.shape[:2])
    if kind != "white":
        windows = flat_windows(bands)
        # Half a doubt would lower the level by much, as the two estimates differ by much.
        sure = 1.0 if kind == "camera" else camera_likelihood(windows)
        weight = min(1.0, max(0.0, (sure - 0.2) / 0.5))
        if weight > 0:
            camera = np.maximum(camera_deviation(image, windows), deviation)
            deviation = deviation ** np.float32(1 - weight) * camera ** np.float32(weight)
    sigma = deviation / np.float32(127.5)
    sigma[_constant(image)] = 0
    return np.asarray(sigma, np.float32)


def noise_strength(image: NDArray[np.floating], *, kind: NoiseKind = "auto") -> StrengthMap:
    """The noise of the picture as strength: the strength whose noise level is the estimated one.

    Args:
        image: the picture, see `estimate_noise`.
        kind: "auto", "white" or "camera".

    Raises:
        InputError: see `estimate_noise`.
    """
    sigma = torch.from_numpy(estimate_noise(image, kind=kind))
    return StrengthMap(sigma_to_strength(sigma).numpy())


def _at_pixels(grid: Array, step: int, shape: tuple[int, int]) -> Array:
    """Values of cells of 2x2 blocks at the pixels, linear between the cells' centres."""
    cell, first = 2 * step, (step + BLOCK) / 2
    values = grid.astype(np.float32)
    for side in shape:  # each axis in turn; OpenCV's `remap` ends at 32767 pixels
        count = values.shape[0]
        at = np.clip((np.arange(side) + 0.5 - first) / cell, 0, count - 1)
        low = np.minimum(at.astype(np.intp), max(0, count - 2))
        share = (at - low).astype(np.float32)[:, None]
        between = values[np.minimum(low + 1, count - 1)]
        between -= values[low]
        between *= share
        between += values[low]
        values = between.T
    return np.ascontiguousarray(values)


def _filled(image: Array, ignore: NDArray[np.bool_]) -> Array:
    """The picture with ignored pixels replaced by the mean of those around."""
    if not ignore.any() or ignore.all():
        return image
    known = (~ignore).astype(np.float32)
    filled = image.copy()
    for size in (5, 17, 65):
        missing = ignore & (known == 0)
        if not missing.any():
            break
        share = cv2.blur(known, (size, size))
        for channel in range(image.shape[2]):
            mean = cv2.blur(filled[..., channel] * known, (size, size)) / np.maximum(share, 1e-9)
            filled[..., channel][missing] = mean[missing]
        known = np.maximum(known, (share > 1e-6).astype(np.float32))
    return np.asarray(filled, np.float32)


def _constant(image: Array) -> NDArray[np.bool_]:
    """Pixels in the middle of a 5x5 neighbourhood of one exact value."""
    kernel = np.ones((5, 5), np.uint8)
    spread = cv2.dilate(image, kernel) - cv2.erode(image, kernel)
    return np.asarray(spread.reshape(*image.shape).max(-1) == 0)


def _tiny_level(image: Array) -> float:
    """One σ for a small picture: the median of its second differences, scaled for Gaussians."""
    differences = [np.diff(image, 2, axis).ravel() for axis in (0, 1) if image.shape[axis] >= 3]
    if not differences:
        return 0.0
    values = np.abs(np.concatenate(differences))
    return float(np.median(values) / 0.6745 / math.sqrt(6))
