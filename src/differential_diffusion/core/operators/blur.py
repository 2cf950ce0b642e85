"""Blur by a known kernel."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from ...errors import InputError
from .base import FLOOR, LinearOperator, conjugate_gradients

__all__ = ["Blur", "gaussian_kernel", "motion_kernel"]

_FLAT = 1e-6  # of the largest: what the kernel hardly lets through is taken for lost
_LARGE = 150  # elements of a kernel, from where on Fourier transforms are the quicker way
_ITERATIONS = 40  # what is left then is far below the noise


class Blur(LinearOperator):
    """A x = k * x in each channel, a convolution.

    At the borders the picture is mirrored, or goes round: then all is in closed form, the prox
    where one variance and one noise level hold for all of an image.

    Args:
        kernel: k, (kh,kw) with odd sides; its middle is where a pixel stays.
        circular: whether the picture goes round.

    Raises:
        InputError: kernels of other shapes, or not finite.
    """

    def __init__(self, kernel: Tensor, *, circular: bool = False) -> None:
        odd = kernel.ndim == 2 and all(side % 2 for side in kernel.shape)
        if not odd or not bool(kernel.isfinite().all()):
            raise InputError("kernel must be a finite (kh,kw) with odd sides: pad or fix it.")
        self.kernel, self.circular = kernel, circular
        self._mode = "circular" if circular else "reflect"
        self._transfers: dict[tuple[object, ...], Tensor] = {}

    @property
    def around(self) -> tuple[int, int, int, int]:
        """How far the kernel reaches: left, right, up, down."""
        rows, columns = (side // 2 for side in self.kernel.shape)
        return columns, columns, rows, rows

    def cut(self, wide: Tensor) -> Tensor:
        """What is left of a picture without a border as wide as the kernel reaches."""
        left, right, up, down = self.around
        return F.pad(wide, (-left, -right, -up, -down))

    def forward(self, x: Tensor) -> Tensor:
        """A x = k * x."""
        padded = F.pad(x, self.around, self._mode)
        return self._blurred(padded)

    def adjoint(self, y: Tensor) -> Tensor:
        """Aᵀ y, the gradient of <A x, y> with respect to x."""
        with torch.enable_grad():
            x = torch.zeros_like(y, requires_grad=True)
            padded = F.pad(x, self.around, self._mode)
            (gradient,) = torch.autograd.grad(padded, x, self._spread(y))
        return gradient

    def pseudo_inverse(self, y: Tensor) -> Tensor:
        """A⁺ y; of a picture that goes round by its Fourier transform ŷ/k̂."""
        if not self.circular:
            return super().pseudo_inverse(y)
        transfer = self.transfer(y)
        seen = transfer.abs() > _FLAT * transfer.abs().max()
        inverse = torch.where(seen, 1 / torch.where(seen, transfer, 1.0), 0.0)
        picture: Tensor = torch.fft.irfft2(torch.fft.rfft2(y) * inverse, s=y.shape[-2:])
        return picture

    def prox(
        self, v: Tensor, y: Tensor, variance: Tensor, noise_variance: Tensor | float = 0.0
    ) -> Tensor:
        """In Fourier space where the picture goes round, with one V and one R an image.

            v̂ + V k̂* (ŷ - k̂ v̂)/(V |k̂|² + R)

        See `LinearOperator.prox` for the rest.
        """
        noise = torch.as_tensor(noise_variance).to(v)
        even = variance.shape[1:] == (1, 1, 1)
        if even and not self.circular:
            return self._nearly_circular_prox(v, y, variance, noise.clamp(min=FLOOR))
        if not even or noise.numel() > 1:
            return super().prox(v, y, variance, noise_variance)
        transfer = self.transfer(v)
        total = variance * transfer.abs().square() + noise
        least = _FLAT**2 * total.amax((-2, -1), keepdim=True)
        gain = torch.where(
            total > least, variance * transfer.conj() / torch.where(total > least, total, 1.0), 0.0
        )
        residual = torch.fft.rfft2(y - self.forward(v))
        moved: Tensor = torch.fft.irfft2(gain * residual, s=v.shape[-2:])
        return v + moved

    def passed_noise(self, like: Tensor, variance: float, noise_variance: float) -> float:
        """Variance of what the prox makes of the measurement's noise, at even V and R.

            mean over frequencies of  V² |k̂|² R/(V |k̂|² + R)²

        for pictures of the size of `like` that go round.
        """
        power = self.transfer(like).abs().square()
        passed = variance**2 * power * noise_variance / (variance * power + noise_variance) ** 2
        twice = torch.full_like(passed[:1], 2.0)  # rfft2 leaves out columns that others mirror
        twice[:, 0] = 1
        if like.shape[-1] % 2 == 0:
            twice[:, -1] = 1
        return float((twice * passed).sum() / (like.shape[-2] * like.shape[-1]))

    def _nearly_circular_prox(
        self, v: Tensor, y: Tensor, variance: Tensor, noise: Tensor
    ) -> Tensor:
        """The prox at other borders: the system is nearly that of a picture that goes round."""
        dims = (-3, -2, -1)
        level = noise.mean(dims, keepdim=True) if noise.ndim == 4 else noise
        height, width = y.shape[-2:]
        size = _quick(height), _quick(width)
        gain = 1 / (variance * self.transfer(y, size).abs().square() + level)

        def system(z: Tensor) -> Tensor:
            return self.forward(variance * self.adjoint(z)) + noise * z

        def nearly(r: Tensor) -> Tensor:
            solved: Tensor = torch.fft.irfft2(gain * torch.fft.rfft2(r, s=size), s=size)
            return solved[..., :height, :width]

        enough = 1e4 * torch.finfo(v.dtype).eps
        z = conjugate_gradients(system, y - self.forward(v), _ITERATIONS, nearly, enough)
        return v + variance * self.adjoint(z)

    def transfer(self, like: Tensor, size: tuple[int, int] | None = None) -> Tensor:
        """k̂ for pictures of a size, by default that of `like`, at which they go round."""
        height, width = size or (like.shape[-2], like.shape[-1])
        key = (height, width, like.dtype, like.device)
        if key not in self._transfers:
            rows, columns = (side // 2 for side in self.kernel.shape)
            at_y = torch.arange(-rows, rows + 1, device=like.device) % height
            at_x = torch.arange(-columns, columns + 1, device=like.device) % width
            whole = torch.zeros(height, width, dtype=like.dtype, device=like.device)
            whole.index_put_(
                (at_y[:, None].expand(self.kernel.shape), at_x.expand(self.kernel.shape)),
                self.kernel.to(like),
                accumulate=True,
            )
            self._transfers[key] = torch.fft.rfft2(whole)
        return self._transfers[key]

    def _blurred(self, wide: Tensor) -> Tensor:
        """The part of k * x where the kernel stays within x: less on all sides by its reach."""
        if self.kernel.numel() > _LARGE:
            return self.cut(self._filtered(wide))
        weight = self.kernel.to(wide).flip(0, 1).expand(wide.shape[1], 1, -1, -1)
        return F.conv2d(wide, weight, groups=wide.shape[1])

    def _spread(self, y: Tensor) -> Tensor:
        """The adjoint of `_blurred`."""
        if self.kernel.numel() > _LARGE:
            return self._filtered(F.pad(y, self.around), adjoint=True)
        weight = self.kernel.to(y).flip(0, 1).expand(y.shape[1], 1, -1, -1)
        return F.conv_transpose2d(y, weight, groups=y.shape[1])

    def _filtered(self, padded: Tensor, *, adjoint: bool = False) -> Tensor:
        """Blurs, or the adjoint of it, what has a margin as wide as the kernel reaches."""
        height, width = padded.shape[-2:]
        size = _quick(height), _quick(width)
        transfer = self.transfer(padded, size)
        spectrum = torch.fft.rfft2(padded, s=size) * (transfer.conj() if adjoint else transfer)
        filtered: Tensor = torch.fft.irfft2(spectrum, s=size)
        return filtered[..., :height, :width]


class CutBlur(Blur):
    """A x = k * x where the kernel stays within x: a blurred picture, cut out of a larger scene.

    x is larger than the measurement by the kernel's reach on all sides, `around`, as what lies
    there has shed light into the picture: (B,C,H+2a,W+2b) -> (B,C,H,W).

    Args:
        kernel: k, (kh,kw) with odd sides.

    Raises:
        InputError: kernels of other shapes, or not finite.
    """

    def __init__(self, kernel: Tensor) -> None:
        super().__init__(kernel)

    def forward(self, x: Tensor) -> Tensor:
        """A x = k * x, without a border as wide as the kernel reaches."""
        return self._blurred(x)

    def adjoint(self, y: Tensor) -> Tensor:
        """Aᵀ y."""
        return self._spread(y)


def _quick(length: int) -> int:
    """The next length that Fourier transforms are quick at: no prime factor above 5."""
    while True:
        rest = length
        for factor in (2, 3, 5):
            while rest % factor == 0:
                rest //= factor
        if rest == 1:
            return length
        length += 1


def gaussian_kernel(sigma: float) -> Tensor:
    """The kernel of a Gaussian blur, cut at four deviations, (k,k) float64 with sum 1.

    Args:
        sigma: deviation in pixels, above 0.

    Raises:
        InputError: another deviation.
    """
    if not 0 < sigma < 1000:
        raise InputError(f"sigma is {sigma}: give a width in pixels above 0.")
    reach = max(1, math.ceil(4 * sigma))
    line = torch.exp(
        -torch.arange(-reach, reach + 1, dtype=torch.float64).square() / (2 * sigma**2)
    )
    kernel = line[:, None] * line
    return kernel / kernel.sum()


def motion_kernel(length: float, angle: float) -> Tensor:
    """The kernel of a straight, even motion, (k,k) float64 with sum 1.

    Args:
        length: in pixels, at least 1.
        angle: in degrees, 0 along a row, counter-clockwise.

    Raises:
        InputError: another length.
    """
    if not 1 <= length < 1000:
        raise InputError(f"length is {length}: give a motion in pixels from 1 on.")
    reach = math.ceil(length / 2)
    side = 2 * reach + 1
    kernel = torch.zeros(side, side, dtype=torch.float64)
    # Points along the path share their weight among the four pixels around.
    along = torch.linspace(-(length - 1) / 2, (length - 1) / 2, 64 * side, dtype=torch.float64)
    radians = math.radians(angle)
    y, x = reach - along * math.sin(radians), reach + along * math.cos(radians)
    top, left = y.floor().long(), x.floor().long()
    for down in (0, 1):
        for right in (0, 1):
            weight = (1 - (y - top - down).abs()) * (1 - (x - left - right).abs())
            places = ((top + down).clamp(max=side - 1), (left + right).clamp(max=side - 1))
            kernel.index_put_(places, weight, accumulate=True)
    return kernel / kernel.sum()
