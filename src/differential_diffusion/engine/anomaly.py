"""The anomaly map: how badly a model explains each pixel."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..core.plan import Plan
from ..errors import InputError
from ..images import read
from ..maps import StrengthMap
from ..models import PipelineModel, load_model
from ..tasks.unexplained import anomalies
from .run import run_plan

__all__ = ["Anomaly", "anomaly_map"]


@dataclass(frozen=True)
class Anomaly:
    """How badly a model explains each pixel of a picture.

    Attributes:
        deviations: (H,W) float32, the picture less what the model explains, in the model's own
            deviations there: positive where it is lighter. Over clean photographs the variance
            is 1.
        map: the deviations' size as strength.
    """

    deviations: NDArray[np.float32]
    map: StrengthMap


def anomaly_map(
    image: Any,
    *,
    black: float = 2.0,
    white: float = 8.0,
    model: Any = "prior",
    config: str | Path | None = None,
    device: str | None = None,
    precision: str = "auto",
    tile: int = 1024,
) -> Anomaly:
    """How badly the model explains each pixel: for inspection, and for damage that hides.

    The model is told that the picture is noisy, which it is not; what it then takes away is what
    it finds no reason for. That is counted in deviations, by what it takes away around and by
    how busy the picture is there. What is rare to the model need not be wrong, nor what is usual
    right: the map says where to look.

    Args:
        image: a path, PIL image, numpy array (H,W[,C]) or tensor (C,H,W).
        black: deviations up to which the map's strength is 0.
        white: deviations from which on it is 1.
        model: a reference, see `load_model`, or a loaded model; of pixels.
        config: what belongs to a model that is a single file.
        device: where to compute, chosen automatically by default.
        precision: "fp32", "bf16" or "auto".
        tile: largest side in pixels of a piece given to the network at once.

    Raises:
        InputError: for a bad picture, a pipeline, or black and white out of order.
    """
    if not 0 <= black < white < float("inf"):
        raise InputError(f"black is {black} and white {white}: give 0 <= black < white")
    loaded = load_model(model, config=config, device=device, precision=precision)
    if isinstance(loaded, PipelineModel):
        raise InputError(
            f"the model '{loaded.name}' is a pipeline, which explains no pixels: use the bundled "
            "prior, or another model of pixels"
        )
    picture = read(image)

    def run(plan: Plan) -> Tensor:
        return run_plan(plan, loaded, tile=tile)

    with torch.no_grad():
        deviations = anomalies(picture.tensor(), run, grey=picture.is_grey)
    strength = np.clip((np.abs(deviations) - black) / (white - black), 0, 1)
    return Anomaly(deviations, StrengthMap(strength.astype(np.float32)))
