"""What the benchmarks of measured pictures share: bytes, luminance, consistency, the table."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from differential_diffusion.core.operators import LinearOperator

from . import common
from .common import Array, Photo, Score, Scores

Bytes = NDArray[np.uint8]

PAIRS = (
    "The prior's gain in dB over each, the deviation of the result, measured again, from what was "
    "given, in levels of 255, and seconds a picture:"
)
LUMA = np.array([65.481, 128.553, 24.966]) / 255


@dataclass(frozen=True)
class Measured(Score):
    """A score with the PSNR of the luminance, and how far the result is from what was measured.

    `error` is the deviation in grey levels of 255 of the result, measured again.
    """

    luma: float = float("nan")
    error: float = float("nan")


def levels(picture: NDArray[Any]) -> Bytes:
    """A picture in [0,1] in 8 bits, clipped."""
    return np.round(255 * np.clip(picture, 0, 1)).astype(np.uint8)


def measured(operator: LinearOperator, picture: Bytes | Array) -> NDArray[np.float64]:
    """A of a picture in [0,1] or of bytes: (h,w,C) in [0,1]."""
    unit = picture / 255 if picture.dtype == np.uint8 else picture
    x = torch.from_numpy(np.ascontiguousarray(unit, np.float64)).permute(2, 0, 1)[None]
    found: NDArray[np.float64] = operator.forward(x)[0].permute(1, 2, 0).numpy()
    return found


def luma_psnr(estimate: NDArray[Any], clean: NDArray[Any]) -> float:
    """PSNR in dB of Y as MATLAB's rgb2ycbcr makes it, the peak 255."""
    error = (np.clip(estimate, 0, 1).astype(np.float64) - clean) @ LUMA
    return float(-10 * np.log10((error**2).mean()))


def score(
    photo: Photo,
    case: str,
    method: str,
    made: Bytes,
    truth: Array,
    seconds: float,
    operator: LinearOperator,
    given: Bytes,
    border: int = 0,
) -> Measured:
    """How near a result in 8 bits is to the truth, a border left out, and to what was given."""
    inner = np.s_[border : truth.shape[0] - border, border : truth.shape[1] - border]
    estimate, clean = made[inner] / 255, truth[inner]
    again = measured(operator, made)
    error = (255 * again - given.reshape(again.shape))[border or None : -border or None]
    error = error[:, border or None : -border or None]
    return Measured(
        photo.index,
        case,
        method,
        common.psnr(estimate, clean),
        seconds,
        common.ssim(estimate, clean),
        luma_psnr(estimate, clean),
        float(np.sqrt((error**2).mean())),
    )


def tables(scores: Scores, methods: list[str], ours: str, cases: list[str]) -> list[str]:
    """Quality, and time and consistency, of methods by case."""
    quality = [
        [
            f"**{name}**" if name == ours else name,
            *(
                f"{scores.mean('psnr', name, case):.2f} / {scores.mean('luma', name, case):.2f}"
                f" / {scores.mean('ssim', name, case):.3f}"
                for case in cases
            ),
        ]
        for name in methods
    ]
    others = [
        [
            name,
            *("" if name == ours else f"{scores.gain(ours, name, case):+.2f}" for case in cases),
            *(f"{scores.mean('error', name, case):.2f}" for case in cases),
            f"{scores.mean('seconds', name):.2f}",
        ]
        for name in methods
    ]
    return [
        "PSNR in dB over three channels / of the luminance / SSIM:",
        common.table(["method", *cases], quality),
        PAIRS,
        common.table(
            [
                "method",
                *(f"gain {c}" for c in cases),
                *(f"deviation {c}" for c in cases),
                "seconds",
            ],
            others,
        ),
    ]
