"""Deblocking: the mean of the pictures that one JPEG file may stand for."""

from __future__ import annotations

import math
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from ..core.ladder import log_linear
from ..core.noise import PositionalNoise, derive_seed
from ..core.operators import (
    Coefficients,
    Jpeg,
    JpegFormat,
    as_stored,
    coefficients_of_decoded,
    evidence,
    format_of_decoded,
)
from ..core.plan import Run
from ..errors import InputError
from ..schema import DeblockRequest
from .base import (
    Task,
    TaskInput,
    TaskOutput,
    colour_noise,
    denoise_plan,
    in_part,
    strength_tensor,
    unused,
)

__all__ = ["deblocked", "error_of", "stored"]

_STREAM = 11
_PASSES = 8
_FIRST, _LAST = 1.5, 0.4
"""Levels to begin and to end with, in parts of the error of the decoded picture."""

_DOUBT = 2.0
"""τ, how far to doubt what the model believes, in parts of the level that it was told."""

_DOUBTFUL = (
    "the pixels do not look decoded from such a JPEG file: give the quality that it was last saved "
    "with, and the picture as it was, neither cut nor resized"
)
_FROM_PIXELS = (
    "the coefficients were told from the pixels: to read them exactly give the file, and install "
    "the extra: pip install 'differential-diffusion[jpeg]'"
)
_NO_SAMPLES = "deblock makes passes, not samples: {} went unused"
_FALL = 1.4
"""Mean squares of a photograph's coefficients fall as 1 / (u² + v²)^1.4."""

_LEAST = 5.0
"""Mean square at u² + v² = 1 that a block has at least."""


def deblock(request: DeblockRequest, source: TaskInput, run: Run) -> TaskOutput:
    """Estimate the mean of the pictures in the cells, as much of it as the strength says."""
    form, k, notes = stored(request, source)
    jpeg = Jpeg(form, *source.size)
    strength = strength_tensor(request.strength, source, invert=request.invert)
    mean = posterior_mean(run, jpeg, k, source, request.passes, request.seed)
    mended = in_part(source, mean.expand_as(source.image), strength)
    return TaskOutput(
        mended, strength == 0, strength, notes=(*notes, *unused(request, _NO_SAMPLES)), mean=mended
    )


def stored(
    request: DeblockRequest, source: TaskInput
) -> tuple[JpegFormat, Coefficients, tuple[str, ...]]:
    """How a JPEG file held the picture, its coefficients, and sentences on what was not certain.

    Raises:
        InputError: if neither the request nor the picture tells.
    """
    notes: tuple[str, ...] = ()
    picture = source.image[:, :1] if source.grey else source.image
    if request.quality is None and isinstance(source.jpeg, str):
        raise InputError(
            f"the picture {source.jpeg}, which deblock does not undo: give one of grey or YCbCr"
        )
    if request.quality is None and isinstance(source.jpeg, JpegFormat):
        form = source.jpeg
        if (k := source.coefficients()) is not None:
            return form, k, notes
        notes = (_FROM_PIXELS,)
    else:
        orientation = source.jpeg.orientation if isinstance(source.jpeg, JpegFormat) else 1
        told = format_of_decoded(as_stored(picture, orientation), request.quality, request.sampling)
        if told is None:
            raise InputError(
                "the picture is no JPEG file, and its pixels tell no quality that it was saved "
                "with before: give quality=, 1 to 100"
            )
        form = replace(told[2], orientation=orientation)
        if request.quality is None:
            sampling = "" if source.grey else f" and sampling {told[1]}"
            notes = (f"the pixels tell of a JPEG file of quality {told[0]}{sampling}",)
    if evidence(picture, form)[0] < 0:
        notes = (_DOUBTFUL,)
    return form, coefficients_of_decoded(picture, Jpeg(form, *source.size)), notes


def deblocked(source: TaskInput, run: Run, seed: int, least: float) -> tuple[Tensor, float] | None:
    """The picture of a JPEG file without its blocks, and the error expected with them, on [-1,1].

    None of another file, and where the error is less than `least`.
    """
    if not isinstance(source.jpeg, JpegFormat):
        return None
    picture = source.image[:, :1] if source.grey else source.image
    jpeg, k = Jpeg(source.jpeg, *source.size), source.coefficients()
    if k is None:
        # Pillow's pictures keep their tables when they are resized or turned grey.
        if len(source.jpeg.tables) != picture.shape[1] or evidence(picture, source.jpeg)[0] < 0:
            return None
        k = coefficients_of_decoded(picture, jpeg)
    error = error_of(source.jpeg, k)
    if error < least:
        return None
    mean = posterior_mean(run, jpeg, k, source, _PASSES, seed)
    return mean.expand_as(source.image).contiguous(), error


def posterior_mean(
    run: Run, jpeg: Jpeg, k: Coefficients, source: TaskInput, passes: int, seed: int
) -> Tensor:
    """An estimate of the mean of the pictures that have the coefficients k.

    Plug-and-play as in `measured.posterior_mean`, with two differences. JPEG's errors are no white
    noise, so that some is added that makes them look so (as much as there is to remove); and a
    cell is not held by its border, but by the mean of what the model believes within it:

        z ← D(x + σ_k ε, √2 σ_k),    x ← E[x | k] with x ~ N(z, (τ σ_k)²)

    with σ_k from 1.5 to 0.4 times the error expected of the decoded picture, log-evenly.

    Args:
        run: a model.
        jpeg: the operator.
        k: the file's coefficients.
        source: the picture as it was decoded.
        passes: how many levels.
        seed: of ε.

    Returns: (1,C,H,W) inside the cells, float32; C = 1 if the picture is grey.
    """
    error = error_of(jpeg.form, k)
    x = source.image
    for index, part in enumerate(log_linear(passes, _LAST, _FIRST)[:-1].float()):
        sigma = (part * error).view(1, 1, 1, 1)
        own = derive_seed(seed, _STREAM + index)
        noise = PositionalNoise([own], 1 if source.grey else x.shape[1], *source.size)(0)
        noisy, told = replace(source, image=x + sigma * noise), 2**0.5 * sigma
        z = run(denoise_plan(*colour_noise(noisy, told, own), own))
        if source.grey:
            z = z.mean(1, keepdim=True)
        x = jpeg.expected(z, k, _DOUBT * float(sigma)).float().expand_as(source.image)
    return x[:, :1] if source.grey else x


def error_of(form: JpegFormat, k: Coefficients) -> float:
    """Deviation to expect of what was decoded from what was encoded, on [-1,1], in brightness.

    A coefficient errs by q²/12 where steps are fine, and by itself where they are coarse; between,
    by 1/(12/q² + 1/P) with the power P that it may have: as that of photographs falls with the
    frequency, and in all as much as is left of the block and its neighbours.
    """
    q, steps = form.tables[0], k[0]
    u = torch.arange(8, dtype=torch.float64)
    radius = u[:, None].square() + u.square()
    falls = torch.where(radius > 0, radius.clamp(min=1) ** -_FALL, 0.0)
    left = torch.where(radius > 0, (steps * q).square(), 0.0).sum((-1, -2))[:, None]
    around = F.avg_pool2d(F.pad(left, (1, 1, 1, 1), mode="replicate"), 3, 1)[:, 0]
    power = (around / falls.sum()).clamp(min=_LEAST)[..., None, None] * falls
    power[..., 0, 0] = math.inf
    return float((1 / (12 / q.square() + 1 / power)).mean().sqrt()) / 127.5


TASK = Task(DeblockRequest, deblock, "free a JPEG picture of blocks and rings")
