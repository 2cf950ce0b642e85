"""Pictures against a reference: PSNR and SSIM; and whether a change follows its strength map."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import InputError

__all__ = ["cam", "dam", "psnr", "spatial_change", "ssim"]

# Where the local contrast of both pictures is below this share of the range, a region counts as
# flat. SSIM has 0.03; more keeps weak noise in smooth regions from counting as complete change.
_FLAT = 0.06

# Means over 11 pixels with deviation 1.5, and the B-spline that halves the resolution.
_WINDOW = tuple(math.exp(-(k * k) / (2 * 1.5**2)) for k in range(-5, 6))
_LOWPASS = (1.0, 4.0, 6.0, 4.0, 1.0)


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


def spatial_change(a: Tensor, b: Tensor, *, data_range: float = 2.0, scales: int = 4) -> Tensor:
    """How much each pixel's surroundings differ between two pictures, over several scales.

        change = mean_k s_k + ‖μ_a - μ_b‖ / (√C data_range)
        s_k² = V_k(a - b) / (2 V_k(a) + 2 V_k(b) + 2 C c),    c = (0.06 data_range)²

    V_k is the variance, summed over the C channels, under SSIM's Gaussian window at scale k (11
    taps 2^k pixels apart, of pictures smoothed to that scale without subsampling), and μ the mean
    under the finest window. With SSIM's constant in place of c, s_k² is (1 - structure) / 2 of
    SSIM (Wang et al., 2004) at the scales of its multi-scale form (Wang, Simoncelli and Bovik,
    2003); its root is a normalised metric (Brunet, Vrscay and Wang, 2012), which grows with the
    amplitude of noise and not with its square. s_k is 0 for equal structure, about 0.7 for
    unrelated, and 1 for reversed; the second term is the change of colour.

    A stand-in for the spatial form of LPIPS that needs no trained network. It knows contrast and
    colour but no objects, and does not forgive shifts: texture redrawn a little elsewhere counts
    as replaced. The same noise counts more in a smooth region than in a busy one, as for the eye,
    and blur less where there is little to blur. Compare figures of one measure alone.

    Symmetric, and 0 exactly for equal pictures. A pixel's value depends on pixels within
    7 · 2^(scales-1) - 2 rows and columns, 54 by default. Windows end at the picture's border.

    Args:
        a, b: (B,C,H,W), of any size.
        data_range: largest less smallest possible value; 2 for pictures in [-1,1].
        scales: how many octaves, 1 to 8.

    Returns: (B,1,H,W) in [0, 2].

    Raises:
        InputError: unlike shapes, a data_range not above 0, or scales out of range.
    """
    _check_pair(a, b, data_range)
    if not 1 <= scales <= 8:
        raise InputError(f"scales must be 1 to 8, not {scales}.")
    # With d = a - b and t = a + b, 2 V(a) + 2 V(b) = V(d) + V(t).
    channels = a.shape[1]
    floor = 2 * channels * (_FLAT * data_range) ** 2
    both = torch.cat([a - b, a + b], dim=1).contiguous(memory_format=torch.channels_last)
    colour = _windowed(both[:, :channels], _WINDOW).square().mean(1, keepdim=True).sqrt()
    structure = torch.zeros_like(colour)
    for k in range(scales):
        v_d, v_t = _local_variances(both, channels, 2**k)
        structure += (v_d / (v_d + v_t + floor)).sqrt()
        both = _windowed(both, _LOWPASS, 2**k)
    return structure / scales + colour / data_range


def cam(strength: Tensor, change: Tensor) -> Tensor:
    """CAM, adherence to a map by correlation (Levin and Fried, 2023).

        CAM = ⟨m - m̄, e - ē⟩ / (‖m - m̄‖ ‖e - ē‖)

    for each image: Pearson's correlation over its pixels of the strength m with the change e, 1
    where the change is an affine function of the strength that rises with it.

    Args:
        strength: (B,1,H,W) or (1,1,H,W) for all images alike.
        change: how much each pixel changed, such as `spatial_change` or its mean over many
            edits with one map: (B,1,H,W) or (1,1,H,W).

    Returns: (B,) in [-1,1]; NaN where strength or change is constant (up to rounding), for which
        no correlation is defined.

    Raises:
        InputError: other shapes, or shapes that do not go together.
    """
    m, e, undefined = _centred(strength, change)
    cosine: Tensor = (m * e).sum(1) / (m.norm(dim=1) * e.norm(dim=1))
    return cosine.clamp(-1, 1).masked_fill(undefined, math.nan)


def dam(strength: Tensor, change: Tensor) -> Tensor:
    """DAM, adherence to a map by distance (Levin and Fried, 2023).

        DAM = min over a, b of ‖m - a e - b‖ = ‖m - m̄‖ √(1 - CAM²)

    for each image: the Frobenius norm of what the change e, scaled and shifted at its best, leaves
    of the strength m. Since a may be negative, a change that runs against its map has a small
    DAM too: read CAM first. DAM grows with the size of the picture; DAM / √(H W) is the root mean
    square over pixels, in strength, and does not.

    Args:
        strength, change: as in `cam`.

    Returns: (B,), at least 0: 0 for a constant strength, and ‖m - m̄‖ for a constant change.

    Raises:
        InputError: as in `cam`.
    """
    m, e, _ = _centred(strength, change)
    power = e.square().sum(1, keepdim=True)
    a = torch.where(power > 0, (m * e).sum(1, keepdim=True) / power, 0)
    rest: Tensor = (m - a * e).norm(dim=1)
    return rest


def _centred(strength: Tensor, change: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Both as (B,HW) less their means, 0 where constant, and (B,) whether either is constant."""
    shapes = (strength.shape, change.shape)
    single = all(len(shape) == 4 and shape[1] == 1 and shape.numel() for shape in shapes)
    batches = {shape[0] for shape in shapes} - {1}
    if not single or shapes[0][2:] != shapes[1][2:] or len(batches) > 1:
        raise InputError(
            f"strength and change must both have the shape (B,1,H,W), not {tuple(shapes[0])} and"
            f" {tuple(shapes[1])}."
        )
    m, constant = _less_mean(strength.flatten(1))
    e, unchanging = _less_mean(change.flatten(1))
    return m, e, constant | unchanging


def _less_mean(x: Tensor) -> tuple[Tensor, Tensor]:
    """Rows less their means, and which are constant up to rounding: these become 0."""
    rounding = 4 * torch.finfo(x.dtype).eps * x.abs().amax(1)
    constant = x.amax(1) - x.amin(1) <= rounding
    return (x - x.mean(1, keepdim=True)).masked_fill(constant[:, None], 0), constant


def _local_variances(x: Tensor, channels: int, spacing: int) -> tuple[Tensor, Tensor]:
    """Variances under the window of two pictures in one, each summed over its channels."""
    pair = (x[:, :channels], x[:, channels:])
    squares = [picture.square().sum(1, keepdim=True) for picture in pair]
    moments = _windowed(torch.cat([x, *squares], dim=1), _WINDOW, spacing)
    first = moments[:, -2:-1] - moments[:, :channels].square().sum(1, keepdim=True)
    second = moments[:, -1:] - moments[:, channels:-2].square().sum(1, keepdim=True)
    return first.clamp(min=0), second.clamp(min=0)


def _windowed(x: Tensor, taps: Sequence[float], spacing: int = 1) -> Tensor:
    """Weighted mean over rows and columns `spacing` apart, of those within the picture."""
    weights = torch.tensor(taps, dtype=x.dtype, device=x.device)
    reach = len(taps) // 2 * spacing
    x = x.contiguous(memory_format=torch.channels_last)  # ten times as fast on CPUs
    for axis in (2, 3):
        across = (1, 1, -1, 1) if axis == 2 else (1, 1, 1, -1)
        space = (spacing, 1) if axis == 2 else (1, spacing)
        edge = (reach, 0) if axis == 2 else (0, reach)
        kernel = weights.view(across)
        share = F.conv2d(
            x.new_ones(x.shape[axis]).view(across), kernel, padding=edge, dilation=space
        )
        kernels = kernel.expand(x.shape[1], -1, -1, -1)
        x = F.conv2d(x, kernels, padding=edge, dilation=space, groups=x.shape[1]) / share
    return x


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
