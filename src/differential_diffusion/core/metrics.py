"""Picture quality against a reference: PSNR and SSIM."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import InputError

__all__ = ["psnr", "ssim"]


def psnr(a: Tensor, b: Tensor, data_range: float = 2.0) -> Tensor:
    """Peak signal-to-noise ratio of each image in dB, over all its channels.

        10 log10(data_range² / mean (a - b)²),    ∞ for equal pictures

    Args:
        a, b: (B,C,H,W).
        data_range: largest less smallest possible value; 2 for pictures in [-1,1].

    Returns: (B,).

    Raises:
        InputError: unlike shapes, or a data_range not above 0.
    """
    _check_pair(a, b, data_range)
    return 10 * torch.log10(data_range**2 / (a - b).square().mean((1, 2, 3)))


def ssim(a: Tensor, b: Tensor, data_range: float = 2.0) -> Tensor:
    """Structural similarity of each image, averaged over channels (Wang et al., 2004).

        (2 μ_a μ_b + c1)(2 σ_ab + c2) / ((μ_a² + μ_b² + c1)(σ_a² + σ_b² + c2))
        c1 = (0.01 data_range)²,    c2 = (0.03 data_range)²

    with local moments under a Gaussian window of 11 pixels and deviation 1.5, wherever the
    whole window lies within the picture.

    Args:
        a, b: (B,C,H,W), H and W at least 11.
        data_range: largest less smallest possible value; 2 for pictures in [-1,1].

    Returns: (B,), at most 1.

    Raises:
        InputError: unlike shapes, pictures smaller than the window, or a data_range not
            above 0.
    """
    _check_pair(a, b, data_range)
    if min(a.shape[2:]) < 11:
        raise InputError(
            f"ssim needs pictures of at least 11x11 pixels, not {a.shape[2]}x{a.shape[3]}."
        )
    c1, c2 = (0.01 * data_range) ** 2, (0.03 * data_range) ** 2
    mu_a, mu_b = _local_mean(a), _local_mean(b)
    var_a = _local_mean(a * a) - mu_a * mu_a
    var_b = _local_mean(b * b) - mu_b * mu_b
    cov = _local_mean(a * b) - mu_a * mu_b
    luminance = (2 * mu_a * mu_b + c1) / (mu_a * mu_a + mu_b * mu_b + c1)
    structure = (2 * cov + c2) / (var_a + var_b + c2)
    return (luminance * structure).mean((1, 2, 3))


def _local_mean(x: Tensor) -> Tensor:
    """Mean under the Gaussian window, which is separable: (B,C,H-10,W-10)."""
    offset = torch.arange(-5, 6, dtype=x.dtype, device=x.device)
    g = torch.exp(-offset * offset / (2 * 1.5**2))
    g = (g / g.sum()).view(1, 1, 1, 11)
    flat = F.conv2d(F.conv2d(x.flatten(0, 1).unsqueeze(1), g), g.mT)
    return flat.view(*x.shape[:2], *flat.shape[2:])


def _check_pair(a: Tensor, b: Tensor, data_range: float) -> None:
    if a.ndim != 4 or a.shape != b.shape:
        raise InputError(
            f"the pictures must both have the shape (B,C,H,W), not {tuple(a.shape)} and"
            f" {tuple(b.shape)}."
        )
    if not data_range > 0:
        raise InputError(f"data_range must be above 0, not {data_range}.")
