"""Some of a picture's Fourier coefficients, as a magnetic resonance scanner measures them."""

from __future__ import annotations

import torch
from torch import Tensor

from ...errors import InputError
from .base import LinearOperator

__all__ = ["FourierSampling"]


class FourierSampling(LinearOperator):
    """A x = the orthonormal Fourier transform where it is measured, (B,C,H,W) to (B,C,2,H,W).

    Real and imaginary parts lie along the third axis. Where with each frequency its opposite is
    measured too, A Aᵀ y = y for what real pictures have, and all is in closed form, the prox
    where one variance and one noise level hold for all of an image.

    Args:
        mask: (H,W), 1 where a frequency is measured, 0 where not; frequency 0 at the corner.

    Raises:
        InputError: masks of other shapes or values.
    """

    def __init__(self, mask: Tensor) -> None:
        if mask.ndim != 2 or not bool(((mask == 0) | (mask == 1)).all()):
            raise InputError("mask must be (H,W) of zeros and ones: reshape or threshold it.")
        self.mask = mask
        opposite = mask.roll((-1, -1), (0, 1)).flip(0, 1)
        self.symmetric = bool((opposite == mask).all())

    def forward(self, x: Tensor) -> Tensor:
        """A x = m F x."""
        spectrum = torch.fft.fft2(x, norm="ortho") * self.mask.to(x)
        return torch.stack([spectrum.real, spectrum.imag], 2)

    def adjoint(self, y: Tensor) -> Tensor:
        """Aᵀ y = Re F⁻¹ m y."""
        spectrum = torch.complex(y[:, :, 0], y[:, :, 1]) * self.mask.to(y)
        picture: Tensor = torch.fft.ifft2(spectrum, norm="ortho").real
        return picture

    def pseudo_inverse(self, y: Tensor) -> Tensor:
        """A⁺ y, the adjoint where opposite frequencies go together."""
        return self.adjoint(y) if self.symmetric else super().pseudo_inverse(y)

    def prox(
        self, v: Tensor, y: Tensor, variance: Tensor, noise_variance: Tensor | float = 0.0
    ) -> Tensor:
        """The closed form v + V/(V + R) Aᵀ (y - A v); see `LinearOperator.prox` for maps."""
        noise = torch.as_tensor(noise_variance).to(v)
        if not self.symmetric or variance.shape[1:] != (1, 1, 1) or noise.numel() > 1:
            return super().prox(v, y, variance, noise_variance)
        total = variance + noise
        gain = torch.where(total > 0, variance / torch.where(total > 0, total, 1.0), 0.0)
        return v + gain * self.adjoint(y - self.forward(v))
