"""Lift a denoiser that wants one noise level for the whole picture to one that takes a map."""

from __future__ import annotations

import torch
from torch import Tensor

from .types import Denoiser

__all__ = ["lift"]


def lift(denoise: Denoiser, reference: Tensor, noise: Tensor) -> Denoiser:
    """A map denoiser from one for uniform levels, by noising every pixel to the highest level.

    Let σ be the map, s its maximum in the image, and n one frozen noise. A pixel's own noise is
    in part n (it was noised to its start level with n) and in part not (a camera's noise, or
    noise renewed by a stochastic solver). With c the correlation of the two, the amount a of n
    that brings the pixel from σ to s has

        Var(σ e + a n) = σ² + 2 a c σ + a² = s²
        a = sqrt(s² - (1 - c²) σ²) - c σ
        D = denoise(x + a n, s)    where σ > 0, else x

    and what the pixel carries is read off its difference to the picture the run began from:

        c = <x - reference, n> / (σ <n, n>) over the channels, within [0, 1]

    So a known pixel (σ = 0) becomes reference + s n, the usual replacement for 0/1 maps; a
    pixel that waits at reference + σ n becomes reference + s n too; one that waits with noise
    of its own, x = reference, gets sqrt(s² - σ²) n; and one at level s is left alone. The noise
    must stay frozen during a run: solvers with memory compare estimates of successive steps.

    Lifted pixels are judged at the level s, not their own, which loses what they know: a
    denoiser trained on maps does better.

    Args:
        denoise: D(x, σ) for σ of shape (B,1,1,1).
        reference: the picture before its start noise was added, (B or 1,C,H,W).
        noise: n, standard normal, (B or 1,C,H,W): that of the start where there was one.
    """

    def lifted(x: Tensor, sigma: Tensor) -> Tensor:
        s = sigma.amax((1, 2, 3), keepdim=True).expand(len(x), 1, 1, 1)
        ref, n = reference.to(x), noise.to(x)
        carried = ((x - ref) * n).sum(1, keepdim=True)
        own = sigma * (n * n).sum(1, keepdim=True)
        c = torch.where(own > 0, carried / torch.where(own > 0, own, 1.0), 0.0).clamp(0, 1)
        a = (s * s - (1 - c * c) * sigma * sigma).sqrt() - c * sigma
        raised = torch.where(sigma < s, x + a * n, x)
        return torch.where(sigma > 0, denoise(raised, s), x)

    return lifted
