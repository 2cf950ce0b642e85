"""Training of σ-map models: typed configuration, the loss under σ fields, the loop."""

from .config import TrainingConfig, load_config
from .loop import train

__all__ = ["TrainingConfig", "load_config", "train"]
