"""Strength maps: where they come from, and what can be done with them.

`MAPS` holds the sources by name. A source is a function that returns a `StrengthMap` and asks by
the names of its parameters for what it needs: `height` and `width`, or `image` (H,W,C float32 in
[-1, 1]), and settings, which JSON can say. To add one, write `maps/<name>.py` and add a line.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError
from .brush import Stroke, brush_strokes
from .colour_range import colour_range
from .compression import compression_strength, estimate_compression
from .constant import constant_map
from .contrast import contrast_strength
from .damage import find_colour, find_damage
from .depth_estimation import depth
from .edges import edge_strength
from .file import from_file, from_image
from .foreground import salient_object
from .grabcut import grab_cut
from .gradient import linear_gradient, radial_gradient
from .image_segmentation import segmentation
from .noise import estimate_noise, noise_strength
from .object_detection import detection
from .ops import (
    dilate,
    feather,
    heat_map,
    intersection,
    invert,
    levels,
    product,
    resize,
    threshold,
    to_latent_grid,
    union,
)
from .saliency import saliency_strength
from .shapes import boxes, polygons
from .strength import StrengthMap
from .text_prompt import text_region

__all__ = [
    "MAPS",
    "StrengthMap",
    "Stroke",
    "boxes",
    "brush_strokes",
    "colour_range",
    "compression_strength",
    "constant_map",
    "contrast_strength",
    "depth",
    "detection",
    "dilate",
    "edge_strength",
    "estimate_compression",
    "estimate_noise",
    "feather",
    "find_colour",
    "find_damage",
    "from_file",
    "from_image",
    "grab_cut",
    "heat_map",
    "intersection",
    "invert",
    "levels",
    "linear_gradient",
    "make_map",
    "noise_strength",
    "polygons",
    "product",
    "radial_gradient",
    "resize",
    "saliency_strength",
    "salient_object",
    "segmentation",
    "text_region",
    "threshold",
    "to_latent_grid",
    "union",
]

MAPS: dict[str, Callable[..., StrengthMap]] = {
    "constant": constant_map,
    "file": from_file,
    "linear": linear_gradient,
    "radial": radial_gradient,
    "brush": brush_strokes,
    "boxes": boxes,
    "polygons": polygons,
    "noise": noise_strength,
    "compression": compression_strength,
    "damage": find_damage,
    "colour": find_colour,
    "colour_range": colour_range,
    "edges": edge_strength,
    "contrast": contrast_strength,
    "saliency": saliency_strength,
    "grabcut": grab_cut,
    "depth": depth,
    "segmentation": segmentation,
    "detection": detection,
    "text": text_region,
    "salient": salient_object,
}
"""The sources of strength maps, by name."""


def make_map(
    source: str, image: NDArray[np.floating], params: Mapping[str, Any] | None = None
) -> StrengthMap:
    """The map that a source in `MAPS` makes for a picture.

    Args:
        source: name of the source.
        image: (H,W,C) floats in [-1, 1].
        params: settings of the source, by name.

    Raises:
        InputError: an unknown source or setting, a setting that is missing or bad, or a map of
            another size than the picture's.
    """
    if source not in MAPS:
        raise InputError(f"'{source}' is no source of maps: use one of {', '.join(MAPS)}.")
    if not isinstance(image, np.ndarray) or image.ndim not in (2, 3):
        raise InputError(
            f"a map is made for a picture (height, width, channels), not for "
            f"{type(image).__name__} of shape {np.shape(image)}: give an array of floats."
        )
    accepted = inspect.signature(MAPS[source]).parameters
    given = {"height": image.shape[0], "width": image.shape[1], "image": image}
    arguments = {name: given[name] for name in accepted if name in given}
    settings = [name for name in accepted if name not in given]
    for name, value in (params or {}).items():
        if name not in settings:
            raise InputError(
                f"'{name}' is no setting of '{source}': use {', '.join(settings) or 'none'}."
            )
        arguments[name] = value
    for name in settings:
        if accepted[name].default is inspect.Parameter.empty and name not in arguments:
            raise InputError(f"the source '{source}' needs '{name}': give it.")
    return StrengthMap.of(MAPS[source](**arguments), *image.shape[:2])
