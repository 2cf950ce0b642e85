"""Fill holes before a pipeline sees them: the original would overpower the prompt.

Even at full strength most schedules leave a trace of the picture in the noise they start from.
"""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
import torch
from torch import Tensor

from ..core.noise import PositionalNoise, derive_seed
from ..errors import InputError
from ..schema import InpaintRequest, build

__all__ = ["prefilled"]

_COARSE, _RING = 256, 32
_FULL = 253.5 / 255  # what a lossy file makes of white
_STREAM = 7


def prefilled(
    image: Tensor, strength: Tensor, how: str, seed: int, mend: Callable[[InpaintRequest], Tensor]
) -> Tensor:
    """The picture with new content where strength is 1.

    Args:
        image: (1,3,H,W) in [-1, 1].
        strength: (1,1,H,W), or (1,1,1,1).
        how: "mean" colour of what is around; "noise" with the colours' mean and spread; "coarse",
            the surroundings carried on inwards; "prior", the bundled model's filling.
        seed: of noise and of the prior.
        mend: carries an inpainting request out.

    Raises:
        InputError: if there is no hole.
    """
    hole = (strength >= _FULL).expand(1, 1, *image.shape[-2:])
    if not bool(hole.any()):
        raise InputError(
            f"prefill is '{how}', and the map is nowhere 1, so that there is no hole to fill: "
            "leave it out, or raise the map"
        )
    return torch.where(hole, _filling(image, hole, how, seed, mend), image)


def _filling(
    image: Tensor, hole: Tensor, how: str, seed: int, mend: Callable[[InpaintRequest], Tensor]
) -> Tensor:
    if how == "prior":
        pixels = ((image[0].permute(1, 2, 0).numpy() + 1) / 2).clip(0, 1)
        mask = hole[0, 0].numpy().astype(np.float32)
        return mend(build(InpaintRequest, image=pixels, mask=mask, seed=seed, steps=4))
    if how == "coarse" and not bool(hole.all()):
        return _coarse(image, hole)
    around = _around(hole)
    known = image[:, :, around] if bool(around.any()) else torch.zeros(1, 3, 1)
    mean = known.mean(2)[:, :, None, None]
    if how != "noise":
        return mean.expand_as(image)
    spread = known.std(2, correction=0)[:, :, None, None].clamp(min=0.05)
    noise = PositionalNoise([derive_seed(seed, _STREAM)], 3, *image.shape[-2:])(0)
    return (mean + spread * noise).clamp(-1, 1)


def _around(hole: Tensor) -> Tensor:
    """(H,W) known pixels near the holes; all that are known if none is near."""
    inside = hole[0, 0].numpy().astype(np.uint8)
    near = cv2.dilate(inside, np.ones((2 * _RING + 1, 2 * _RING + 1), np.uint8))
    ring = (near > 0) & (inside == 0)
    return torch.from_numpy(ring if ring.any() else inside == 0)


def _coarse(image: Tensor, hole: Tensor) -> Tensor:
    """Telea's filling of a small version, enlarged: colours without detail."""
    height, width = image.shape[-2:]
    scale = min(1.0, _COARSE / max(height, width))
    size = max(1, round(width * scale)), max(1, round(height * scale))
    levels = np.rint((image[0].permute(1, 2, 0).numpy() + 1) * 127.5).clip(0, 255).astype(np.uint8)
    inside = hole[0, 0].numpy().astype(np.uint8)
    small = cv2.resize(levels, size, interpolation=cv2.INTER_AREA)
    mask = (cv2.resize(inside * 255, size, interpolation=cv2.INTER_AREA) > 0).astype(np.uint8)
    filled = cv2.inpaint(small, mask, 5, cv2.INPAINT_TELEA)
    large = cv2.resize(filled, (width, height), interpolation=cv2.INTER_CUBIC)
    return torch.from_numpy(large.astype(np.float32) / 127.5 - 1).permute(2, 0, 1)[None]
