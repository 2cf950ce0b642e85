"""Training of denoisers and codecs: typed configuration, objectives, the loop.

The loop needs accelerate, and loads when it is asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .codec_config import CodecConfig
from .config import TrainingConfig
from .config_file import load_config, overrides

if TYPE_CHECKING:
    from .loop import Progress, TrainingStopped, train

__all__ = [
    "CodecConfig",
    "Progress",
    "TrainingConfig",
    "TrainingStopped",
    "load_config",
    "overrides",
    "train",
]


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from . import loop

    value: object = getattr(loop, name)
    globals()[name] = value
    return value
