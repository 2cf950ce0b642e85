"""Models: a reference (a name, a folder, a file, an object) becomes something that runs plans."""

from __future__ import annotations

from .base import Model
from .denoiser import DenoiserModel
from .interchange import export_pipeline, import_pipeline
from .latent_model import LatentModel
from .load import MODELS, load_model, prior_network
from .pipeline import PipelineModel

__all__ = [
    "MODELS",
    "DenoiserModel",
    "LatentModel",
    "Model",
    "PipelineModel",
    "export_pipeline",
    "import_pipeline",
    "load_model",
    "prior_network",
]
