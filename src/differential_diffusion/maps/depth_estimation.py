"""Strength by how near things are, as a model of depth sees them."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ..errors import InputError
from . import _check
from ._loaded import Loaded, fit
from ._transformers import DEPTH, load
from .strength import StrengthMap

__all__ = ["depth"]

# What grows with the numbers that a type of model gives, where its configuration does not say.
_LARGER = {
    "depth_pro": "nearer",  # inverse depth, before the library's post-processing turns it over
    "dpt": "nearer",
    "glpn": "farther",
    "tipsv2_dpt": "farther",
    "zoedepth": "farther",
}


def depth(
    image: NDArray[np.floating],
    *,
    model: Any,
    near: float = 1.0,
    far: float = 0.0,
    larger: str = "auto",
    percentile: float = 2.0,
    device: str | None = None,
) -> StrengthMap:
    """Strength by depth, from `far` to `near`, with a model of monocular depth.

    With d the model's output, and d_p and d_100-p its percentiles over the picture,
    t = clip((d - d_p)/(d_100-p - d_p), 0, 1), or 1 - t where larger is farther, and the strength
    is far + (near - far) t; t = 1/2 where all of the picture is equally deep. Depth is relative:
    every picture has its nearest and its farthest.

    Args:
        image: (H,W,3), or (H,W,1) or (H,W) for grey, floats in [-1, 1].
        model: a depth estimation model of transformers, such as Depth Anything, DPT, GLPN or
            ZoeDepth: a folder, a name on the Hub, a pipeline, or a pair (model, processor).
        near: strength of what is nearest, in [0, 1].
        far: strength of what is farthest, in [0, 1].
        larger: what larger numbers of the model mean: "nearer" (inverse depth), "farther"
            (distance), or "auto", by the model's type. DPT is taken to give inverse depth, or
            distance where its backbone is DINOv2.
        percentile: how much of the picture, in percent at either end, may lie beyond the
            nearest and farthest that count; 0 to 49.9.
        device: where the model runs; chosen by default.

    Raises:
        InputError: a bad picture or number, or a model that is not there or of another kind.
        MissingExtraError: the extra 'maps' is not installed.
    """
    image = _check.picture(image)
    near, far = _check.number("near", near, 0, 1), _check.number("far", far, 0, 1)
    percentile = _check.number("percentile", percentile, 0, 49.9)
    if larger not in ("auto", "nearer", "farther"):
        raise InputError(f"larger is {larger!r}: use 'nearer', 'farther' or 'auto'.")
    loaded = load(DEPTH, model, device)
    meaning = _meaning(loaded) if larger == "auto" else larger
    values = loaded.tensor(loaded.run(image), "predicted_depth", 3)[0].double().numpy()
    low, high = np.percentile(values, (percentile, 100 - percentile))
    t = np.clip((values - low) / (high - low), 0, 1) if high > low else np.full_like(values, 0.5)
    if meaning == "farther":
        t = 1 - t
    made = fit(torch.from_numpy(far + (near - far) * t).float(), *image.shape[:2])
    return StrengthMap(np.clip(made, 0, 1))


def _meaning(loaded: Loaded) -> str:
    config = loaded.model.config
    # Depth Anything's configuration says which it is; its older ones say nothing and are relative.
    if "depth_anything" in config.model_type:
        metric = getattr(config, "depth_estimation_type", "relative") == "metric"
        return "farther" if metric else "nearer"
    # Published DPT on DINOv2 learned distances in metres, on NYU and KITTI.
    backbone = getattr(getattr(config, "backbone_config", None), "model_type", None)
    if config.model_type == "dpt" and backbone == "dinov2":
        return "farther"
    if config.model_type not in _LARGER:
        raise InputError(
            f"it is not known whether larger is nearer for the model {loaded.name} "
            f"({config.model_type}): say so with larger='nearer' or larger='farther'."
        )
    return _LARGER[config.model_type]
