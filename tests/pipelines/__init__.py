"""Tiny, complete Diffusers pipelines with random weights: one builder for each family.

Every part is made here, tokenizers too, so nothing is downloaded. Latents are 8 times smaller than
the picture, as in the real models. Weights that start at zero (ControlNet's and AnimateDiff's last
layers, for instance) are drawn too, or else a condition would have no effect.

`FAMILIES[name]()` builds a pipeline; `arguments(name, picture)` gives the keywords of a call, but
for `num_inference_steps`, `strength` (where `CALLS[name].strength`) and `generator`.
"""

from . import flow, stable, unet, video
from .calls import CALLS, VIDEOS, Call, arguments
from .parts import FAMILIES, realigned

__all__ = [
    "CALLS",
    "FAMILIES",
    "VIDEOS",
    "Call",
    "arguments",
    "flow",
    "realigned",
    "stable",
    "unet",
    "video",
]
