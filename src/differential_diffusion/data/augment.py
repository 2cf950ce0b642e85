"""Augmentation that does not leak into samples: the network is told what was done.

(Karras et al., "Elucidating the Design Space of Diffusion-Based Generative Models", 2022, appendix
F.2.) Sampling tells it that nothing was.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

SIZE = 9
"""Numbers that tell of an augmentation."""


def augment(
    pixels: NDArray[np.float32], probability: float, rng: np.random.Generator
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Mirror, scale, turn, stretch and shift a picture, each with a probability.

    The mirror image is always as likely as the picture. Beyond the border the picture is mirrored.

    Args:
        pixels: (H,W,C) in [0,1].
        probability: of each of the others, in [0, 1].
        rng: of the draws.

    Returns: the picture, and (9,): mirrored, flipped, log2 of the scale, cosine - 1 and sine of
        the turn, log2 of the stretch times cosine and sine of twice its axis' angle, and the shift
        in parts of the sides.
    """
    told = np.zeros(SIZE, np.float32)
    matrix = np.eye(3)
    told[0] = rng.random() < 0.5
    chosen = rng.random(5) < probability
    told[1] = chosen[0] and rng.random() < 0.5
    matrix = np.diag([1 - 2 * told[0], 1 - 2 * told[1], 1.0]) @ matrix
    if chosen[1]:
        told[2] = 0.2 * rng.standard_normal()
        matrix = np.diag([2.0 ** told[2], 2.0 ** told[2], 1.0]) @ matrix
    if chosen[2]:
        angle = np.pi * (2 * rng.random() - 1)
        told[3:5] = np.cos(angle) - 1, np.sin(angle)
        matrix = _turn(angle) @ matrix
    if chosen[3]:
        axis, stretch = np.pi * (2 * rng.random() - 1), 0.2 * rng.standard_normal()
        # Of twice the angle: half a turn on, the axis is the same.
        told[5:7] = stretch * np.cos(2 * axis), stretch * np.sin(2 * axis)
        along = np.diag([2.0**stretch, 2.0**-stretch, 1.0])
        matrix = _turn(axis) @ along @ _turn(-axis) @ matrix
    height, width = pixels.shape[:2]
    if chosen[4]:
        told[7:9] = 0.125 * rng.standard_normal(2)
        matrix[:2, 2] += told[7:9] * (width, height)
    if not chosen[1:].any():  # exact
        flipped = pixels[:: -1 if told[1] else 1, :: -1 if told[0] else 1]
        return np.ascontiguousarray(flipped), told
    centre = np.eye(3)
    centre[:2, 2] = (width - 1) / 2, (height - 1) / 2
    matrix = centre @ matrix @ np.linalg.inv(centre)
    # One channel at a time: OpenCV warps at most four together.
    warped = [
        cv2.warpAffine(
            np.ascontiguousarray(channel),
            matrix[:2],
            (width, height),
            flags=cv2.INTER_CUBIC,
            borderMode=cv2.BORDER_REFLECT_101,
        )
        for channel in np.moveaxis(pixels, -1, 0)
    ]
    return np.stack(warped, axis=-1).clip(0, 1), told


def _turn(angle: float) -> NDArray[np.float64]:
    c, s = np.cos(angle), np.sin(angle)
    return np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])
