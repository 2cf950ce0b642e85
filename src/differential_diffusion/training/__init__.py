"""Training of denoisers: typed configuration, objectives, the loop."""

from .config import TrainingConfig
from .config_file import load_config, overrides
from .loop import Progress, TrainingStopped, train

__all__ = ["Progress", "TrainingConfig", "TrainingStopped", "load_config", "overrides", "train"]
