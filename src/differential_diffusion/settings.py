"""The settings of the public functions, by name and type, for editors and type checkers.

They are the fields of the requests in `schema`, which say what each means and check the values.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, TypedDict

__all__ = [
    "ColorizeSettings",
    "DeblockSettings",
    "DeblurSettings",
    "DemosaicSettings",
    "EnhanceSettings",
    "GenerateSettings",
    "InpaintSettings",
    "MendSettings",
    "PromptedSettings",
    "RestoreSettings",
    "Settings",
    "UpscaleSettings",
]


class Settings(TypedDict, total=False):
    """What every task takes, see `schema.Request`."""

    seed: int
    steps: int
    solver: str
    path: Literal["wait", "together"]
    samples: int
    estimate: Literal["sample", "mean"]
    model: Any
    config: str | Path | None
    device: str | None
    precision: Literal["auto", "fp32", "bf16"]
    tile: int
    views: int


class RestoreSettings(Settings, total=False):
    """What `restore` takes, see `schema.RestoreRequest`."""

    control_mechanism: Literal["static", "dynamic"] | None
    pixel_strengths: Any
    invert: bool
    noise_level_8bit: Any
    damage: Any


class MendSettings(Settings, total=False):
    """What the tasks take that mend a picture in its place, see `schema.MendRequest`."""

    strength: Any
    invert: bool


class UpscaleSettings(Settings, total=False):
    """What `upscale` takes, see `schema.UpscaleRequest`."""

    kernel: Literal["bicubic", "average"]
    noise_level_8bit: Any
    passes: int
    guidance: Literal["diffpir", "ddnm", "pigdm"]


class DemosaicSettings(Settings, total=False):
    """What `demosaic` takes, see `schema.DemosaicRequest`."""

    noise_level_8bit: Any
    passes: int
    guidance: Literal["diffpir", "ddnm", "pigdm"]


class ColorizeSettings(MendSettings, total=False):
    """What `colorize` takes, see `schema.ColorizeRequest`."""


class EnhanceSettings(MendSettings, total=False):
    """What `enhance` takes, see `schema.EnhanceRequest`."""

    noise_level_8bit: Any


class DeblockSettings(MendSettings, total=False):
    """What `deblock` takes, see `schema.DeblockRequest`."""

    sampling: Literal["4:4:4", "4:2:2", "4:2:0", "4:4:0", "4:1:1"] | None
    passes: int


class DeblurSettings(MendSettings, total=False):
    """What `deblur` takes, see `schema.DeblurRequest`."""

    sigma: float | None
    length: float | None
    angle: float
    noise_level_8bit: Any
    passes: int


class GenerateSettings(Settings, total=False):
    """What a task takes that a pipeline can do, but the prompt, see `schema.PromptedRequest`."""

    negative_prompt: str | None
    guidance_scale: float | None
    pipeline_kwargs: dict[str, Any]
    region: Literal["auto", "whole"]
    context: int
    crop_size: int | None
    prefill: Literal["none", "mean", "noise", "coarse", "prior"]
    fade_below: float
    border: int
    exact: bool
    compat: Literal["published"] | None
    skip_idle: bool
    warmup_steps: int
    batch_size: int


class PromptedSettings(GenerateSettings, total=False):
    """What a task takes that a pipeline can do, see `schema.PromptedRequest`."""

    prompt: str | None


class InpaintSettings(PromptedSettings, total=False):
    """What `inpaint` takes, see `schema.InpaintRequest`."""

    passes: int
