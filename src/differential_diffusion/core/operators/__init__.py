"""Linear measurements with adjoint, pseudo-inverse and weighted prox; JPEG, which is not linear."""

from __future__ import annotations

from .base import LinearOperator
from .blur import Blur, CutBlur, gaussian_kernel, motion_kernel
from .channels import BAYER_PATTERNS, ChannelSum, bayer, grey
from .composition import Composition
from .deepinv import DeepinvPhysics
from .fourier import FourierSampling
from .jpeg import SAMPLINGS, Coefficients, Jpeg, JpegFormat, as_stored
from .jpeg_decoded import coefficients_of_decoded, evidence, format_of_decoded
from .mask import Mask
from .resize import BlockAverage, Separable, bicubic

__all__ = [
    "BAYER_PATTERNS",
    "OPERATORS",
    "SAMPLINGS",
    "BlockAverage",
    "Blur",
    "ChannelSum",
    "Coefficients",
    "Composition",
    "CutBlur",
    "DeepinvPhysics",
    "FourierSampling",
    "Jpeg",
    "JpegFormat",
    "LinearOperator",
    "Mask",
    "Separable",
    "as_stored",
    "bayer",
    "bicubic",
    "coefficients_of_decoded",
    "evidence",
    "format_of_decoded",
    "gaussian_kernel",
    "grey",
    "motion_kernel",
]

OPERATORS: dict[str, type[LinearOperator]] = {
    "mask": Mask,
    "block average": BlockAverage,
    "separable": Separable,
    "blur": Blur,
    "cut blur": CutBlur,
    "channel sum": ChannelSum,
    "fourier": FourierSampling,
    "composition": Composition,
    "deepinv physics": DeepinvPhysics,
}
