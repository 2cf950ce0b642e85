"""Linear measurements with adjoint, pseudo-inverse and weighted prox."""

from __future__ import annotations

from .base import LinearOperator
from .blur import Blur, gaussian_kernel, motion_kernel
from .channels import BAYER_PATTERNS, ChannelSum, bayer, grey
from .composition import Composition
from .deepinv import DeepinvPhysics
from .fourier import FourierSampling
from .mask import Mask
from .resize import BlockAverage, Separable, bicubic

__all__ = [
    "BAYER_PATTERNS",
    "OPERATORS",
    "BlockAverage",
    "Blur",
    "ChannelSum",
    "Composition",
    "DeepinvPhysics",
    "FourierSampling",
    "LinearOperator",
    "Mask",
    "Separable",
    "bayer",
    "bicubic",
    "gaussian_kernel",
    "grey",
    "motion_kernel",
]

OPERATORS: dict[str, type[LinearOperator]] = {
    "mask": Mask,
    "block average": BlockAverage,
    "separable": Separable,
    "blur": Blur,
    "channel sum": ChannelSum,
    "fourier": FourierSampling,
    "composition": Composition,
    "deepinv physics": DeepinvPhysics,
}
