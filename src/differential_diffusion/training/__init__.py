"""Training of denoisers: typed configuration, objectives, the loop.

The loop needs accelerate, and loads when it is asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .config import TrainingConfig
from .config_file import load_config

if TYPE_CHECKING:
    from .loop import Progress, TrainingStopped, train

__all__ = ["Progress", "TrainingConfig", "TrainingStopped", "load_config", "train"]


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from . import loop

    value: object = getattr(loop, name)
    globals()[name] = value
    return value
