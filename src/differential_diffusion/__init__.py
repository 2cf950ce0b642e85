"""Edit, inpaint, denoise and restore pictures: a pixel's strength is its noise level.

    import differential_diffusion as dd

    result = dd.restore("photo.jpg", seed=0)
    result.save("restored.png")

Importing this package is cheap: torch and the rest load at the first use of a name.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from .errors import InputError, MissingExtraError

if TYPE_CHECKING:
    from . import maps
    from .api import (
        Result,
        colorize,
        deblock,
        deblur,
        demosaic,
        denoise,
        edit,
        edit_batch,
        enhance,
        fan,
        generate,
        inpaint,
        restore,
        upscale,
    )
    from .engine import Anomaly, anomaly_map
    from .facade import DifferentialDiffusionModel, differential_diffusion_process
    from .maps import StrengthMap
    from .models import load_model
    from .teaching import DiffusionModel, forward_diffusion, noise_schedule

__version__ = "0.1.0"
"""Version of the package, as in its distribution's metadata."""

__all__ = [
    "Anomaly",
    "DifferentialDiffusionModel",
    "DiffusionModel",
    "InputError",
    "MissingExtraError",
    "Result",
    "StrengthMap",
    "__version__",
    "anomaly_map",
    "colorize",
    "deblock",
    "deblur",
    "demosaic",
    "denoise",
    "differential_diffusion_process",
    "edit",
    "edit_batch",
    "enhance",
    "fan",
    "forward_diffusion",
    "generate",
    "inpaint",
    "load_model",
    "maps",
    "noise_schedule",
    "restore",
    "upscale",
]

_HOME = {
    "Anomaly": ".engine",
    "DifferentialDiffusionModel": ".facade",
    "differential_diffusion_process": ".facade",
    "Result": ".api",
    "colorize": ".api",
    "deblock": ".api",
    "deblur": ".api",
    "anomaly_map": ".engine",
    "demosaic": ".api",
    "denoise": ".api",
    "edit": ".api",
    "edit_batch": ".api",
    "enhance": ".api",
    "fan": ".api",
    "generate": ".api",
    "inpaint": ".api",
    "restore": ".api",
    "upscale": ".api",
    "StrengthMap": ".maps",
    "load_model": ".models",
    "DiffusionModel": ".teaching",
    "forward_diffusion": ".teaching",
    "noise_schedule": ".teaching",
}


def __getattr__(name: str) -> object:
    if name == "maps":
        value: object = import_module(".maps", __name__)
    elif name in _HOME:
        value = getattr(import_module(_HOME[name], __name__), name)
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(set(globals()) | set(__all__))
