"""What JPEG has done to a picture, from its pixels alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from ..core.ladder import sigma_to_strength
from ..core.operators.channels import LUMA
from . import _check
from ._bands import BLOCK, DCT
from .strength import StrengthMap

__all__ = ["Quantisation", "compression_strength", "estimate_compression", "find_quantisation"]

Array = NDArray[np.float32]

_LARGEST_STEP = 255
_FEWEST, _FEWEST_STEPS = 16, 4  # coefficients that tell a step, steps that tell a JPEG
_COMBED = 0.25  # of the step; of coefficients at random, four fifths lie within 0.4 of a multiple
_ROUNDING = 0.7  # levels: rounded pixels move four fifths of the coefficients by 0.4 or less
_MOST_BLOCKS = 2048
_FEW_BLOCKS = 400
_SPREAD = 4.0  # pixels over which a block's error is taken to vary


@dataclass(frozen=True)
class Quantisation:
    """How the luma of a JPEG was quantised.

    Attributes:
        steps: (8,8) of the coefficients at each vertical and horizontal frequency, in 8-bit
            levels; 0 where too few coefficients are left to tell.
        top, left: first row and column of a block, 0 to 7: the picture may have been cropped.
    """

    steps: Array
    top: int
    left: int


def find_quantisation(image: NDArray[np.floating]) -> Quantisation | None:
    """The grid and the steps of the JPEG that a picture came from, or None if it shows none.

    On the grid of its blocks, the coefficients of a JPEG's luma lie near multiples of a step, by
    the rounding of the pixels: the largest step near whose multiples they lie is taken (Fan and de
    Queiroz, "Identification of bitmap compression history", IEEE TIP 2003). What was done to the
    picture since, other than a crop, hides the steps.

    Args:
        image: (H,W,3), or (H,W,1) or (H,W) for grey, floats in [-1, 1].

    Raises:
        InputError: another shape, or NaN.
    """
    return _quantisation(_check.picture(image))[0]


def estimate_compression(image: NDArray[np.floating]) -> Array:
    """Error σ of each pixel of a JPEG, as a denoiser of white noise should be told it.

        σ² = mean over the block of q² / 3 where the coefficient is not 0

    A coefficient is off by at most q/2, and by q²/12 on average; twice the deviation allows for
    noise that was there before, which passes where a coefficient does. Where none is above two
    steps, noise may be all there is: the coefficients but the mean count with q². What has become
    0 is smooth now: nothing there is left to remove.

    Args:
        image: as in `find_quantisation`.

    Returns:
        (H,W) float32 on the [-1, 1] scale; 0 for a picture that is no JPEG.

    Raises:
        InputError: as `find_quantisation`.
    """
    image = _check.picture(image)
    found, luma = _quantisation(image)
    if found is None:
        return np.zeros(image.shape[:2], np.float32)
    steps, (rows, columns) = found.steps.ravel(), _blocks(luma, found.top, found.left).shape[:2]
    coefficients = _coefficients(_blocks(luma, found.top, found.left))
    amount = np.abs(coefficients) / np.where(steps > 0, steps, np.inf)
    share = steps * steps / (3 * steps.size)
    kept = amount >= 0.5
    variance = (kept @ share).astype(np.float32)
    faint = (amount[:, 1:] < 2.5).all(1)
    variance[faint] += 2 * (kept[faint, 1:] @ share[1:])
    blocks = cv2.resize(
        variance.reshape(rows, columns),
        (BLOCK * columns, BLOCK * rows),
        interpolation=cv2.INTER_NEAREST,
    )
    around = [
        (first, side - first - size)
        for side, first, size in zip(
            image.shape[:2], (found.top, found.left), blocks.shape, strict=True
        )
    ]
    smooth = cv2.GaussianBlur(np.pad(blocks, around, "edge"), (0, 0), _SPREAD)
    return np.asarray(np.sqrt(smooth) / np.float32(127.5), np.float32)


def compression_strength(image: NDArray[np.floating]) -> StrengthMap:
    """The error of a JPEG as strength: the strength whose noise level is the estimated one.

    Args:
        image: the picture, see `estimate_compression`.

    Raises:
        InputError: as `find_quantisation`.
    """
    sigma = torch.from_numpy(estimate_compression(image))
    return StrengthMap(sigma_to_strength(sigma).numpy())


def _quantisation(image: Array) -> tuple[Quantisation | None, Array]:
    """What `find_quantisation` returns, and the luma (H,W) in 8-bit levels, less 128."""
    levels = np.clip(image, -1, 1) * np.float32(127.5) - np.float32(0.5)
    luma = levels @ np.array(LUMA, np.float32) if levels.shape[2] == 3 else levels[..., 0]
    if min(luma.shape) < 2 * BLOCK:
        return None, luma
    top, left = _grid(luma)
    # Where the range ended the decoder has clipped, and the multiples are gone.
    whole = ((levels > -127.5) & (levels < 126.5)).all(2)
    inside = _blocks(whole, top, left).all((2, 3)).ravel()
    if not inside.any():
        return None, luma
    blocks = _evenly(_blocks(luma, top, left), _MOST_BLOCKS, inside)
    # A pattern that repeats has few values at a frequency, which are no steps: each block once.
    once = np.unique(blocks.reshape(len(blocks), -1), axis=0)
    steps = _steps(_coefficients(once))
    found = None if steps is None else Quantisation(steps.reshape(BLOCK, BLOCK), top, left)
    return found, luma


def _grid(luma: Array) -> tuple[int, int]:
    """First row and column of a block: on the true grid the most coefficients are 0."""
    places = [(top, left) for top in range(BLOCK) for left in range(BLOCK)]
    zeros = [
        float((np.abs(_coefficients(_evenly(_blocks(luma, *place), _FEW_BLOCKS))) < 0.5).mean())
        for place in places
    ]
    return places[int(np.argmax(zeros))]


def _blocks(plane: NDArray[Any], top: int, left: int) -> NDArray[Any]:
    """(rows, columns, 8, 8), a view of the whole blocks of a plane (H,W)."""
    rows, columns = (plane.shape[0] - top) // BLOCK, (plane.shape[1] - left) // BLOCK
    part: NDArray[Any] = plane[top : top + BLOCK * rows, left : left + BLOCK * columns]
    return np.asarray(part.reshape(rows, BLOCK, columns, BLOCK).swapaxes(1, 2))


def _evenly(blocks: Array, most: int, among: NDArray[np.bool_] | None = None) -> Array:
    """(n, 8, 8), at most so many of the blocks, evenly chosen, where `among` (n,) is true."""
    columns = blocks.shape[1]
    index = np.arange(blocks.shape[0] * columns) if among is None else np.flatnonzero(among)
    if index.size > most:
        index = index[np.linspace(0, index.size - 1, most).astype(np.intp)]
    return np.asarray(blocks[index // columns, index % columns])


def _coefficients(blocks: Array) -> Array:
    """(n, 64) DCT coefficients of blocks (..., 8, 8)."""
    return np.asarray(blocks.reshape(-1, BLOCK * BLOCK) @ DCT.T)


def _steps(coefficients: Array) -> Array | None:
    """(64,) the steps, 0 where unknown; None unless most of those that can be told are found."""
    steps, told = np.zeros(coefficients.shape[1], np.float32), 0
    for k, values in enumerate(np.abs(coefficients).T):
        values = values[values >= 1]
        if values.size >= _FEWEST:
            told += k > 0
            steps[k] = _step(values)
    found = np.count_nonzero(steps[1:])
    return steps if told >= _FEWEST_STEPS and found > told / 2 else None


def _step(values: Array) -> int:
    """The largest q near whose multiples four fifths of the values lie, from 2 on, or 0."""
    for q in range(min(_LARGEST_STEP, int(2 * values.max())), 1, -1):
        some = values[values >= q / 2]
        if some.size < _FEWEST:
            continue
        off = np.abs(some - q * np.rint(some / q))
        most = 4 * some.size // 5
        if np.partition(off, most)[most] < min(_ROUNDING, _COMBED * q):
            return q
    return 0
