"""Requests: one typed, serialisable description a task, shared by Python, CLI and batch.

Pictures and maps are paths where a request must travel as JSON; in Python they may also be
objects (arrays, PIL images, tensors), and such a request refuses to serialise.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

from .errors import InputError

MAX_STEPS = 10_000
MAX_SIDE = 16_384


class MapSpec(BaseModel):
    """A strength map by name: a source in `maps.MAPS` with its parameters."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    source: str
    params: dict[str, Any] = Field(default_factory=dict)


def _named_map(value: Any) -> Any:
    """A `MapSpec` where a mapping such as JSON's stands for one."""
    return MapSpec(**value) if isinstance(value, dict) and "source" in value else value


MapLike = Annotated[Any, BeforeValidator(_named_map)]
"""A strength map as the user gives it: number, array, picture, path, or a source by name."""


STRENGTH_WORDS = ("adaptive", "uniform")


def strength_word(value: Any) -> str | None:
    """Which of the words stands in place of a map of strengths; None where it is a map."""
    return value if isinstance(value, str) and value in STRENGTH_WORDS else None


def is_auto(value: Any) -> bool:
    """Whether the user leaves a map to the task; arrays do not compare with a text."""
    return isinstance(value, str) and value == "auto"


class Request(BaseModel):
    """What every task takes.

    Attributes:
        image: the picture: a path, PIL image, array or tensor.
        seed: of all randomness; sample k of n uses seed + k.
        steps: length of the whole noise ladder.
        solver: a name in `core.SOLVERS`.
        path: "wait" (a pixel starts when the ladder reaches its level) or "together".
        samples: how many results to draw.
        estimate: of several samples, return the first (it looks sharp) or the mean (it has the
            least error).
        model: a model reference, see `load_model`.
        config: what belongs to a model that is a single file, likewise.
        device, precision: where and how to compute; chosen automatically by default.
        tile: largest side in pixels of a piece given to the network at once.
        views: turned and mirrored views of the picture that each estimate is the mean of, up to
            8: less error, for as many times the work.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, arbitrary_types_allowed=True)

    task: str
    image: Any
    seed: int = Field(0, ge=-(2**63), lt=2**63)
    steps: int = Field(20, ge=1, le=MAX_STEPS)
    solver: str = "ddim"
    path: Literal["wait", "together"] = "wait"
    samples: int = Field(1, ge=1, le=1000)
    estimate: Literal["sample", "mean"] = "sample"
    model: Any = "prior"
    config: str | Path | None = None
    device: str | None = None
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    tile: int = Field(1024, ge=64)
    views: int = Field(1, ge=1, le=8)

    external: ClassVar[tuple[str, ...]] = ("image", "model")
    """Fields that hold objects in Python and only paths in JSON."""

    @field_validator("solver")
    @classmethod
    def _known_solver(cls, value: str) -> str:
        from .core import SOLVERS

        if value not in SOLVERS:
            raise ValueError(f"'{value}' is no solver: use one of {', '.join(SOLVERS)}")
        return value

    def to_json(self) -> str:
        """This request as JSON.

        Raises:
            InputError: if a field holds an object that JSON cannot say.
        """
        for name in self.external:
            value = getattr(self, name)
            if not isinstance(value, str | Path | int | float | MapSpec | None):
                raise InputError(
                    f"the request's {name} is a {type(value).__name__}, which JSON cannot hold: "
                    "save it to a file and give the path"
                )
        for name in type(self).model_fields:
            try:
                self.model_dump_json(include={name})
            except ValueError:  # pydantic's PydanticSerializationError is one
                raise InputError(
                    f"the request's {name} holds something that JSON cannot say: use plain "
                    "numbers, texts and lists, and the paths of files"
                ) from None
        return self.model_dump_json(indent=2)


class PromptedRequest(Request):
    """What a task takes that a Diffusers pipeline can do; the bundled prior takes none of it.

    Attributes:
        prompt, negative_prompt, guidance_scale: as the pipeline takes them.
        pipeline_kwargs: any other argument of the pipeline's call, such as `control_image`.
        region: "auto" gives the pipeline the part of the picture that changes, with `context`
            around it, where that is less work; "whole" the whole picture.
        context: pixels around a region that the pipeline sees, or half as many where that saves
            work.
        crop_size: pixels a side of a region at least; by default the model's own size, as it makes
            little of smaller pictures.
        prefill: what to put where strength is 1 before the pipeline sees it, as the original would
            overpower the prompt: "mean" colour of what is around, "noise" of these colours,
            "coarse" continuation of the surroundings, the bundled "prior"'s filling, or "none".
        fade_below: strength below which the result fades into the original, from 0 on.
        border: pixels over which the result fades into what is kept, fewer the stronger the edit
            and none where it is complete; 0 for a hard border.
        exact: keep what has strength 0 bit for bit; without it, it goes through the pipeline too.
        compat: "published" for the loop of the paper's code, in which a pixel moves one step more.
        skip_idle: leave out the steps in which no pixel moves.
        warmup_steps: idle steps to do all the same, for schedulers that remember their history.
        batch_size: samples to draw at once.
    """

    prompt: str | None = None
    negative_prompt: str | None = None
    guidance_scale: float | None = Field(None, ge=0)
    pipeline_kwargs: dict[str, Any] = Field(default_factory=dict)
    region: Literal["auto", "whole"] = "auto"
    context: int = Field(64, ge=0)
    crop_size: int | None = Field(None, ge=1)
    prefill: Literal["none", "mean", "noise", "coarse", "prior"] = "none"
    fade_below: float = Field(0.1, ge=0, le=1)
    border: int = Field(4, ge=0)
    exact: bool = True
    compat: Literal["published"] | None = None
    skip_idle: bool = True
    warmup_steps: int = Field(0, ge=0)
    batch_size: int = Field(1, ge=1)

    def pipeline_options(self) -> dict[str, Any]:
        """What was set of these fields."""
        own = PromptedRequest.model_fields.keys() - Request.model_fields.keys()
        return {name: getattr(self, name) for name in sorted(own & self.model_fields_set)}


class EditRequest(PromptedRequest):
    """Change each pixel as much as `strength` says (0 keeps it, 1 may change it completely)."""

    task: Literal["edit"] = "edit"
    strength: MapLike
    invert: bool = False

    external: ClassVar[tuple[str, ...]] = ("image", "model", "strength")


class InpaintRequest(PromptedRequest):
    """Fill the pixels where `mask` is positive, leaving the rest.

    `noise_level_8bit` says how noisy the photograph is (a number, a map, or "auto"), so that
    the filling continues a noisy surrounding correctly; the noise itself stays where it is.
    With `estimate="mean"` a model of pixels gives the mean of all fillings in `passes`
    evaluations, and one more for wide holes: it errs least and is smooth. There, strengths from
    0.9 on count as 1. A pipeline gives the mean of its samples.
    """

    task: Literal["inpaint"] = "inpaint"
    mask: MapLike
    invert: bool = False
    noise_level_8bit: Any = 0.0
    passes: int = Field(16, ge=1, le=MAX_STEPS)

    external: ClassVar[tuple[str, ...]] = ("image", "model", "mask", "noise_level_8bit")


class DenoiseRequest(Request):
    """Remove noise of a known level, a map of levels, or one estimated from the picture.

    With one sample the result is the posterior mean, in one evaluation; with several, each
    is a draw from the posterior and `std` tells where they differ. The default solver has that
    law, and at the default 150 steps a Gaussian posterior's variance to two per cent; ancestral
    sampling needs several times as many.
    """

    task: Literal["denoise"] = "denoise"
    noise_level_8bit: Any = "auto"
    steps: int = Field(150, ge=1, le=MAX_STEPS)
    solver: str = "dpmpp_2m_sde"
    estimate: Literal["sample", "mean"] = "mean"

    external: ClassVar[tuple[str, ...]] = ("image", "model", "noise_level_8bit")


class RestoreRequest(Request):
    """Find noise and damage in the picture and mend both.

    By default damage is filled with the mean of what may have been there, which errs least; where
    it is wide, and the mean has no texture, with a sample drawn from it, in as many of `steps`
    steps as its noise needs. With `estimate="sample"` all of a filling is a sample.

    Attributes:
        mode: "light" removes noise alone; "standard" also takes away the blocks of a JPEG file of
            quality below 90 or so, and finds and fills scratches, dust, dead pixels and missing
            patches, in one pass; "deep" also finds damage through which the
            picture shows, as what the model cannot explain, and repeats finding and mending until
            nothing new is found, three times at most.
        control_mechanism: whether the map of what is to change is made once, from the picture as
            it is ("static"), or again after each mending from what the model cannot explain then
            ("dynamic"), once in "standard". By default dynamic in "deep" and static elsewhere.
            "light", and damage that is given, leave nothing to look for.
        pixel_strengths: where each pixel's strength comes from: "adaptive" from the picture, its
            own level of noise and of hidden damage; "uniform" tells one level of noise, the root
            mean square, everywhere, and fills all damage alike; or a map of how much of the
            change each pixel gets, 1 all, 0 none, bit for bit.
        invert: read that map as white = keep.
        noise_level_8bit: σ of the noise in place of an estimate.
        damage: a map of the damage in place of what would be found.
    """

    task: Literal["restore"] = "restore"
    mode: Literal["light", "standard", "deep"] = "standard"
    control_mechanism: Literal["static", "dynamic"] | None = None
    pixel_strengths: MapLike = "adaptive"
    invert: bool = False
    noise_level_8bit: Any = "auto"
    damage: MapLike = "auto"
    estimate: Literal["sample", "mean"] = "mean"

    external: ClassVar[tuple[str, ...]] = (
        "image",
        "model",
        "pixel_strengths",
        "noise_level_8bit",
        "damage",
    )

    @property
    def is_dynamic(self) -> bool:
        """Whether the map is made again after a mending."""
        chosen = self.control_mechanism or ("dynamic" if self.mode == "deep" else "static")
        return chosen == "dynamic"

    @model_validator(mode="after")
    def _check_damage(self) -> RestoreRequest:
        if self.invert and strength_word(self.pixel_strengths):
            raise ValueError("invert turns a map of pixel_strengths, and none was given: give one")
        if self.mode == "light" and not is_auto(self.damage):
            raise ValueError("damage was given with mode 'light', which mends none: use 'standard'")
        return self


class MendRequest(Request):
    """What a task takes that mends a picture in its place.

    Attributes:
        strength: how much of the change each pixel gets: 1 all of it, 0 none, bit for bit.
        invert: read the map as white = keep.
    """

    strength: MapLike = 1.0
    invert: bool = False

    external: ClassVar[tuple[str, ...]] = ("image", "model", "strength")


Guidance = Literal["diffpir", "ddnm", "pigdm"]
"""Kinds of data consistency, see `core.guidance`."""


class UpscaleRequest(Request):
    """Enlarge a picture: the results, made small again, are the picture that was given.

    With one sample and the mean, no sample is drawn: the mean is estimated by itself.

    Attributes:
        factor: of both sides.
        kernel: how the picture became small: "bicubic" as MATLAB and Pillow have it, with
            antialiasing, or the "average" of blocks, as sensors and binning do.
        noise_level_8bit: σ of the small picture's noise, which the results need not repeat: a
            number, a map of its size, or "auto" to estimate a map.
        passes: evaluations that the mean takes; `steps` are those of a sample.
        guidance: how samples are held to the small picture: "diffpir" or "ddnm", or "pigdm",
            through the network's gradient, for three times the time and several times the memory.
    """

    task: Literal["upscale"] = "upscale"
    factor: Literal[2, 3, 4, 8] = 2
    kernel: Literal["bicubic", "average"] = "bicubic"
    noise_level_8bit: Any = 0.0
    passes: int = Field(8, ge=1, le=MAX_STEPS)
    guidance: Guidance = "diffpir"
    estimate: Literal["sample", "mean"] = "mean"

    external: ClassVar[tuple[str, ...]] = ("image", "model", "noise_level_8bit")


class DemosaicRequest(Request):
    """Give each pixel of a raw picture, behind a Bayer filter, its three colours.

    The picture has one channel, its values as they are to be shown (not linear light): where the
    result is filtered again, it is the raw picture. With one sample and the mean, no sample is
    drawn: the mean is estimated by itself.

    Attributes:
        pattern: colours of the first two pixels of the first two rows.
        noise_level_8bit: σ of the raw picture's noise, which the results need not repeat: a
            number or a map.
        passes: evaluations that the mean takes; `steps` are those of a sample.
        guidance: how samples are held to the raw picture, as in `UpscaleRequest`.
    """

    task: Literal["demosaic"] = "demosaic"
    pattern: Literal["RGGB", "BGGR", "GRBG", "GBRG"] = "RGGB"
    noise_level_8bit: Any = 0.0
    passes: int = Field(24, ge=1, le=MAX_STEPS)
    guidance: Guidance = "diffpir"
    estimate: Literal["sample", "mean"] = "mean"

    external: ClassVar[tuple[str, ...]] = ("image", "model", "noise_level_8bit")


class EnhanceRequest(MendRequest):
    """Take noise and compression away, and bring out the detail and contrast of what is left.

    With one sample the result is made from the posterior mean, in one evaluation; samples are draws
    from the posterior, as in `DenoiseRequest`, each with the same detail brought out.

    Attributes:
        level: how much detail and local contrast to add; noise goes at every level.
        noise_level_8bit: σ of the picture's noise: a number, a map, or "auto" to estimate a map,
            of what compression did too.
    """

    task: Literal["enhance"] = "enhance"
    level: Literal["low", "medium", "high"] = "medium"
    noise_level_8bit: Any = "auto"
    steps: int = Field(150, ge=1, le=MAX_STEPS)
    solver: str = "dpmpp_2m_sde"
    estimate: Literal["sample", "mean"] = "mean"

    external: ClassVar[tuple[str, ...]] = ("image", "model", "strength", "noise_level_8bit")


class ColorizeRequest(MendRequest):
    """Give a grey picture colours: the results, made grey again, are the picture that was given.

    Of a picture with colours, the luminance is coloured anew. The bundled prior knows no objects,
    so colours come from hints, spread along the picture's edges; without hints the mean is grey.
    With one sample and the mean, no sample is drawn. Samples are the model's: what it may make of
    the grey picture and the hints.

    Attributes:
        hints: a picture of the same size with colours where they are known: where it is not
            transparent or, if it is opaque, where it is coloured. Their lightness does not count.
            Pixels of strength 0 of a picture with colours are hints too.
    """

    task: Literal["colorize"] = "colorize"
    hints: Any = None
    estimate: Literal["sample", "mean"] = "mean"

    external: ClassVar[tuple[str, ...]] = ("image", "model", "strength", "hints")


class DeblockRequest(MendRequest):
    """Free a picture of what JPEG did to it: of the pictures that give the same file, the mean.

    A JPEG file says by which tables and sampling it was quantised. Of arrays and other files the
    pixels tell, as long as nothing changed, shrank or cut them since they were decoded: blocks must
    begin at the picture's corner.

    Attributes:
        quality: that the picture was saved with, as Pillow and most programs count it, for a JPEG
            file in place of its own tables; by default these, or what the pixels tell.
        sampling: of the colours, likewise; for use with `quality`.
        passes: evaluations that the mean takes.
    """

    task: Literal["deblock"] = "deblock"
    quality: int | None = Field(None, ge=1, le=100)
    sampling: Literal["4:4:4", "4:2:2", "4:2:0", "4:4:0", "4:1:1"] | None = None
    passes: int = Field(8, ge=1, le=MAX_STEPS)
    estimate: Literal["sample", "mean"] = "mean"

    @model_validator(mode="after")
    def _check(self) -> DeblockRequest:
        if self.samples > 1 or self.estimate == "sample":
            raise ValueError("deblock estimates the mean and draws no samples: leave both out")
        if self.quality is None and self.sampling is not None:
            raise ValueError("sampling was given without quality, which it goes with: give both")
        return self


class DeblurRequest(MendRequest):
    """Take a blur away: the results, blurred again, are the picture that was given.

    With one sample and the mean, no sample is drawn: the mean is estimated by itself.

    Attributes:
        kernel: what blurred the picture: "gaussian", "motion" (straight and even), or the kernel
            itself, an array (h,w) or a grey picture, whose values are made to sum to 1.
        sigma: deviation of the Gaussian in pixels; estimated from the picture if not given.
        length, angle: of the motion in pixels, and in degrees, 0 along a row, counter-clockwise.
        noise_level_8bit: σ of the picture's noise, which the results need not repeat: a number, a
            map (H,W), or "auto", one number estimated from the picture.
        passes: evaluations that the mean takes; `steps` are those of a sample.
    """

    task: Literal["deblur"] = "deblur"
    kernel: Any = "gaussian"
    sigma: float | None = Field(None, gt=0, le=100)
    length: float | None = Field(None, ge=1, le=500)
    angle: float = Field(0.0, ge=-360, le=360)
    noise_level_8bit: Any = "auto"
    passes: int = Field(8, ge=1, le=MAX_STEPS)
    estimate: Literal["sample", "mean"] = "mean"

    external: ClassVar[tuple[str, ...]] = (
        "image",
        "model",
        "strength",
        "kernel",
        "noise_level_8bit",
    )

    @model_validator(mode="after")
    def _check_kernel(self) -> DeblurRequest:
        kind = self.kernel if isinstance(self.kernel, str) else None
        if self.sigma is not None and kind != "gaussian":
            raise ValueError("sigma is a Gaussian's: leave it out, or use kernel 'gaussian'")
        if kind == "motion" and self.length is None:
            raise ValueError("kernel 'motion' has no length: give it in pixels")
        if kind != "motion" and (self.length is not None or self.angle):
            raise ValueError("length and angle are a motion's: leave them out, or use 'motion'")
        return self


class GenerateRequest(PromptedRequest):
    """Make a picture of a size: from a prompt with a pipeline, else from nothing.

    The bundled prior makes textures: it knows no objects. An `image` lends its size alone, in
    place of `width` and `height`.
    """

    task: Literal["generate"] = "generate"
    image: Any = None
    width: int = Field(512, ge=8, le=MAX_SIDE)
    height: int = Field(512, ge=8, le=MAX_SIDE)


def build(cls: type[Request], /, **fields: Any) -> Any:
    """Construct a request; bad fields become an `InputError` of one sentence."""
    try:
        return cls(**fields)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = ".".join(str(part) for part in first["loc"])
        if first["type"] == "extra_forbidden":
            known = ", ".join(cls.model_fields)
            raise InputError(f"'{key}' is no setting of {cls.__name__}: use {known}") from None
        if first["type"] == "missing":
            raise InputError(f"{cls.__name__} needs '{key}': give it") from None
        message = first["msg"].removeprefix("Value error, ")
        if first["type"] == "value_error":
            raise InputError(message) from None
        raise InputError(
            f"{key} is {first['input']!r}: {message[:1].lower()}{message[1:]}"
        ) from None
