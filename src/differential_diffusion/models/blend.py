"""Put what a pipeline made back into the picture it was made from.

A latent model changes every pixel: its autoencoder does not return what it was given. What is kept
comes from the picture itself; around it the result fades in, its colours matched to what is kept.
"""

from __future__ import annotations

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["blended", "fade_weight", "matched_colours"]

_RING = 32
_FEWEST = 64


def fade_weight(strength: Tensor, fade_below: float, border: int) -> Tensor:
    """How much of the result a pixel takes, in [0, 1]: 0 exactly where strength is 0.

        w = min(1, s / fade_below) · min(1, d / (1 + border (1 - s)))

    with d the distance to the nearest pixel of strength 0; without any, w = 1. A pixel that may
    change completely owes nothing to the original, which may be what is to disappear: the border
    is the narrower, the stronger the edit.

    Args:
        strength: (B,1,H,W) in [0, 1].
        fade_below: strength from which on the result stands alone; 0 for no fading.
        border: pixels to fade over beside what is kept; 0 for a hard border.
    """
    if not bool((strength == 0).any()):
        return torch.ones_like(strength)
    weight = (strength / fade_below).clamp(max=1) if fade_below else (strength > 0).float()
    if border:
        moving = (strength > 0).cpu().numpy().astype(np.uint8)
        near = [cv2.distanceTransform(one, cv2.DIST_L2, cv2.DIST_MASK_5) for one in moving[:, 0]]
        distance = torch.from_numpy(np.stack(near))[:, None].to(weight)
        weight = weight * (distance / (1 + border * (1 - strength))).clamp(max=1)
    return weight


def matched_colours(made: Tensor, original: Tensor, strength: Tensor) -> Tensor:
    """`made`, moved in colour so that what is kept around the edit has its mean colour again.

    The shift is read off a ring of kept pixels, at most `_RING` pixels from what changes; without
    enough of them nothing is moved.

    Args:
        made, original: (B,3,H,W).
        strength: (B,1,H,W).
    """
    kept = (strength == 0).float()
    rows = F.max_pool2d(1 - kept, (2 * _RING + 1, 1), stride=1, padding=(_RING, 0))
    near = F.max_pool2d(rows, (1, 2 * _RING + 1), stride=1, padding=(0, _RING))
    ring = kept * near
    count = ring.sum((2, 3), keepdim=True)
    shift = (ring * (original - made)).sum((2, 3), keepdim=True) / count.clamp(min=1)
    return made + torch.where(count >= _FEWEST, shift, 0.0)


def blended(
    made: Tensor, original: Tensor, strength: Tensor, fade_below: float, border: int
) -> Tensor:
    """The picture with the result in it; `original` bit for bit where strength is 0."""
    weight = fade_weight(strength, fade_below, border)
    mixed = torch.lerp(original, matched_colours(made, original, strength), weight)
    return torch.where(strength > 0, mixed, original)
