"""What the pixels tell of the JPEG file that they were decoded from: coefficients, tables."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from .jpeg import SAMPLINGS, Coefficients, Jpeg, JpegFormat, as_stored

__all__ = ["coefficients_of_decoded", "evidence", "format_of_decoded"]

_ROUNDED, _TRUE, _TELLS = 1.0, 0.7, 3.0
_LOOKED_AT = 512


def coefficients_of_decoded(x: Tensor, jpeg: Jpeg) -> Coefficients:
    """The coefficients that libjpeg decoded to x, as well as they can be told.

    Pixels were rounded and clipped, which rarely moves a coefficient by half a step unless quality
    is high or the picture burnt out. Colour that has one sample for two pixels was interpolated
    between these (3/4 of the nearer, 1/4 of the farther), which is undone here. Of a block that
    the picture does not fill, what lay beyond is taken for a repetition of its border.

    Args:
        x: (B,C,H,W) in [-1,1], as decoded.
        jpeg: the operator of the file's format and the picture's size.
    """
    return tuple(steps.round() for steps in _steps_of_decoded(x, jpeg))


def evidence(x: Tensor, form: JpegFormat) -> tuple[float, float]:
    """How much more the coefficients of a picture look like those of a format than like any.

    Those of a file lie within a level of a step, but for those that clipping moved, say three in
    ten; others lie anywhere. A finer table has more steps to lie near to, so that of a coefficient

        log p(c | q) / p(c) = log(0.7 q / 2 [|c - k q| < 1] + 0.3)

    Returns: the sums over brightness and over colour of those coefficients in a corner of the
    picture that are more than 3 levels from 0; positive in brightness where the table suits.

    Args:
        x: (1,C,H,W) in [-1,1].
        form: of the file that it may have been decoded from.
    """
    found = _in_levels(x, form)
    each = [_evidence(c, q) for c, q in zip(found, form.tables, strict=True)]
    return each[0], sum(each[1:])


def format_of_decoded(
    x: Tensor, quality: int | None = None, sampling: str | None = None
) -> tuple[int, str, JpegFormat] | None:
    """The quality, sampling and format of the file that pixels were decoded from.

    The quality that has the most evidence in brightness, of the Independent JPEG Group's; then the
    sampling that has most in colour, 4:2:0 if they tell nothing. None where no quality suits: there
    was no file, its quality was too high to leave marks or its tables were others, or the picture
    was changed or cut since.

    Args:
        x: (1,C,H,W) in [-1,1]; one channel if it is grey.
        quality, sampling: where one of them is known.
    """
    grey = x.shape[1] == 1
    of = JpegFormat.of_quality
    if quality is None:
        brightness = _in_levels(x, of(50, "4:4:4", grey=grey))[0]
        suits = {q: _evidence(brightness, of(q, grey=True).tables[0]) for q in range(1, 101)}
        quality = max(suits, key=suits.__getitem__)
        if suits[quality] <= 0:
            return None
    if sampling is None:
        shown = {name: evidence(x, of(quality, name, grey=grey))[1] for name in SAMPLINGS}
        sampling = max(shown, key=shown.__getitem__) if any(shown.values()) else "4:2:0"
    return quality, sampling, of(quality, sampling, grey=grey)


def _in_levels(x: Tensor, form: JpegFormat) -> Coefficients:
    """The coefficients of a corner of the picture on the 8-bit scale, 0 in blocks with clipping."""
    stored = as_stored(x, form.orientation)
    height, width = (min(side, _LOOKED_AT) // 32 * 32 or side for side in stored.shape[-2:])
    corner = stored[..., :height, :width]  # of full blocks
    plain = JpegFormat(tuple(torch.ones_like(q) for q in form.tables), form.factors)
    found = _steps_of_decoded(corner, Jpeg(plain, *corner.shape[-2:]))
    clipped = (corner.abs() >= 1).double().amax(1, keepdim=True)
    levels = []
    for c, (down, across) in zip(found, form.factors, strict=True):
        spoilt = F.max_pool2d(clipped, (8 * down, 8 * across), ceil_mode=True)[:, 0]
        levels.append(c * (1 - spoilt[..., None, None]))
    return tuple(levels)


def _evidence(c: Tensor, q: Tensor) -> float:
    tells = c.abs() > _TELLS
    step = q.to(c).expand_as(c)[tells]
    near = (c[tells] / step - (c[tells] / step).round()).abs() * step < _ROUNDED
    return float((_TRUE / (2 * _ROUNDED) * step * near + (1 - _TRUE)).log().sum())


def _steps_of_decoded(x: Tensor, jpeg: Jpeg) -> Coefficients:
    planes = []
    for plane, (down, across) in zip(jpeg.planes(x), jpeg.form.factors, strict=True):
        plane = _sharpened(plane.mT, down).mT
        planes.append(_sharpened(plane, across))
    return jpeg.steps_of(planes)


def _sharpened(plane: Tensor, factor: int) -> Tensor:
    """Interpolated samples (...,n) as repeated ones, where there is one for two.

    The means of pairs of pixels are 3/4 of their sample and 1/8 of those beside it; at an end the
    sample stands for its neighbour.
    """
    pixels = plane.shape[-1]
    samples = -(-pixels // 2)
    if factor != 2 or samples < 3:
        return plane
    even = plane if pixels % 2 == 0 else torch.cat([plane, plane[..., -1:]], -1)
    means = even.reshape(*even.shape[:-1], samples, 2).mean(-1)
    blur = torch.eye(samples) * 0.75
    beside = torch.arange(samples - 1)
    blur[beside, beside + 1] = blur[beside + 1, beside] = 0.125
    blur[0, 0] = blur[-1, -1] = 0.875
    if pixels % 2:  # the last pair is the nearer pixel twice
        blur[-1, -2:] = torch.tensor([0.25, 0.75])
    solved: Tensor = torch.linalg.solve(blur.to(means), means.transpose(-2, -1)).transpose(-2, -1)
    return solved.repeat_interleave(2, -1)[..., :pixels]
