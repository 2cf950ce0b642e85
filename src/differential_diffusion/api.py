"""The functions of the public face: one call, one request, one result."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Literal

from .core.plan import OnStep
from .engine import Result, execute, execute_batch, fan_out
from .engine.executor import OnProgress
from .errors import InputError
from .schema import (
    ColorizeRequest,
    DeblockRequest,
    DeblurRequest,
    DemosaicRequest,
    DenoiseRequest,
    EditRequest,
    EnhanceRequest,
    GenerateRequest,
    InpaintRequest,
    Request,
    RestoreRequest,
    UpscaleRequest,
    build,
)

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from .settings import (
        ColorizeSettings,
        DeblockSettings,
        DeblurSettings,
        DemosaicSettings,
        EnhanceSettings,
        GenerateSettings,
        InpaintSettings,
        PromptedSettings,
        RestoreSettings,
        Settings,
        UpscaleSettings,
    )

__all__ = [
    "Result",
    "colorize",
    "deblock",
    "deblur",
    "demosaic",
    "denoise",
    "edit",
    "edit_batch",
    "enhance",
    "fan",
    "generate",
    "inpaint",
    "restore",
    "upscale",
]


def edit(
    image: Any,
    strength: Any,
    *,
    invert: bool = False,
    on_step: OnStep | None = None,
    on_progress: OnProgress | None = None,
    **settings: Unpack[PromptedSettings],
) -> Result:
    """Change each pixel as much as its strength says (Levin and Fried, 2023).

    Args:
        image: a path, PIL image, numpy array (H,W[,C]) or tensor (C,H,W).
        strength: 0 keeps a pixel bit for bit, 1 may change it completely: a number, an array
            (H,W) in [0,1] (or uint8, uint16 by their range), a PIL image, a path, a `StrengthMap`,
            or a `MapSpec` that names a source of maps.
        invert: read the map as the paper's files, white = keep.
        on_step: called with every `Step`, whose state is cut to what changes and a margin where
            the model is local; raise in it to stop.
        on_progress: called with a `Progress` as work is done.
        settings: fields of `EditRequest`, named in `PromptedSettings`: seed, steps, model, samples
            and more; with a pipeline prompt, guidance_scale, pipeline_kwargs, region, prefill ...

    Raises:
        InputError: for anything wrong with the picture, the map or a setting.
    """
    return _perform(
        EditRequest,
        on_step,
        on_progress,
        image=image,
        strength=strength,
        invert=invert,
        **settings,
    )


def edit_batch(
    images: Iterable[Any],
    strengths: Any,
    *,
    prompts: Sequence[str] | None = None,
    seeds: Sequence[int] | None = None,
    on_progress: OnProgress | None = None,
    **settings: Unpack[PromptedSettings],
) -> list[Result]:
    """Edit several pictures, each with a map, a prompt and a seed of its own.

    A pipeline draws those at once whose sizes and numbers of steps are alike; each comes out as it
    would from `edit`, up to rounding.

    Args:
        images: as `image` in `edit`, one after the other.
        strengths: a list or tuple of maps, or one for all, as `strength` in `edit`.
        prompts: one for each picture, for a pipeline.
        seeds: one for each picture; by default `seed` for all.
        on_progress: as in `edit`.
        settings: of all, as in `edit`; `batch_size` is how many to draw at once, 4 by default.

    Raises:
        InputError: for lists of different lengths, and as `edit`.
    """
    size = settings.pop("batch_size", 4)
    images = list(images)
    if not isinstance(strengths, list | tuple):
        strengths = [strengths] * len(images)
    own: dict[str, Sequence[Any]] = {"strength": strengths}
    own |= {} if prompts is None else {"prompt": prompts}
    own |= {} if seeds is None else {"seed": seeds}
    for name, values in own.items():
        if isinstance(values, str):
            raise InputError(f"{name}s is one text: give a list, or {name}= for all")
        if len(values) != len(images):
            raise InputError(
                f"{name}s has {len(values)} entries for {len(images)} pictures: give one for each"
            )
    requests = [
        build(
            EditRequest,
            image=image,
            **settings,
            **{name: values[index] for name, values in own.items()},
        )
        for index, image in enumerate(images)
    ]
    return execute_batch(requests, size, on_progress)


def inpaint(
    image: Any,
    mask: Any,
    *,
    noise_level_8bit: Any = 0.0,
    invert: bool = False,
    on_step: OnStep | None = None,
    on_progress: OnProgress | None = None,
    **settings: Unpack[InpaintSettings],
) -> Result:
    """Fill the pixels where `mask` is positive, in a clean or a noisy photograph.

    Args:
        image: a path, PIL image, numpy array (H,W[,C]) or tensor (C,H,W).
        mask: as `strength` in `edit`; a soft mask is honoured, never thresholded.
        noise_level_8bit: σ of the photograph's own noise on the 0-255 scale: a number, a map
            (H,W), or "auto". It stays in the known pixels and informs the filling.
        invert: white = keep.
        on_step, on_progress, settings: as in `edit`; fields of `InpaintRequest`. With
            ``estimate="mean"`` the mean of all fillings, in ``passes`` evaluations and, for wide
            holes, one more.

    Raises:
        InputError: for anything wrong with the picture, the mask or a setting.
    """
    return _perform(
        InpaintRequest,
        on_step,
        on_progress,
        image=image,
        mask=mask,
        noise_level_8bit=noise_level_8bit,
        invert=invert,
        **settings,
    )


def denoise(
    image: Any,
    noise_level_8bit: Any = "auto",
    *,
    on_step: OnStep | None = None,
    on_progress: OnProgress | None = None,
    **settings: Unpack[Settings],
) -> Result:
    """Remove noise: the posterior mean in one evaluation, or ``samples=n`` posterior samples.

    ``views=2`` to 8 averages as many turned and mirrored estimates, each at the cost of one.

    Args:
        image: a path, PIL image, numpy array (H,W[,C]) or tensor (C,H,W).
        noise_level_8bit: σ on the 0-255 scale: a number, a map (H,W), or "auto" to estimate a
            map from the picture. Pixels of level 0 stay bit for bit.
        on_step, on_progress, settings: as in `edit`; fields of `DenoiseRequest`. With several
            samples, ``estimate="mean"`` (default) or "sample", and `Result.std`.

    Raises:
        InputError: for anything wrong with the picture, the level or a setting.
    """
    return _perform(
        DenoiseRequest,
        on_step,
        on_progress,
        image=image,
        noise_level_8bit=noise_level_8bit,
        **settings,
    )


def restore(
    image: Any,
    *,
    mode: str = "standard",
    on_step: OnStep | None = None,
    on_progress: OnProgress | None = None,
    **settings: Unpack[RestoreSettings],
) -> Result:
    """Find noise and damage in a photograph and mend both.

    Args:
        image: a path, PIL image, numpy array (H,W[,C]) or tensor (C,H,W).
        mode: "light" removes noise; "standard" also fills scratches, dust, dead pixels and
            missing patches; "deep" also mends damage through which the picture shows, and repeats
            finding and mending until nothing new is found.
        on_step, on_progress, settings: as in `edit`; fields of `RestoreRequest`:
            `control_mechanism` and `pixel_strengths` say where the maps come from;
            `noise_level_8bit` and `damage` replace what would be found.

    Raises:
        InputError: for anything wrong with the picture or a setting.
    """
    return _perform(RestoreRequest, on_step, on_progress, image=image, mode=mode, **settings)


def upscale(
    image: Any,
    factor: Literal[2, 3, 4, 8] = 2,
    *,
    on_step: OnStep | None = None,
    on_progress: OnProgress | None = None,
    **settings: Unpack[UpscaleSettings],
) -> Result:
    """Enlarge a picture: the result, made small again, is the picture that was given.

    Args:
        image: a path, PIL image, numpy array (H,W[,C]) or tensor (C,H,W).
        factor: of both sides: 2, 3, 4 or 8.
        on_step, on_progress, settings: as in `edit`; fields of `UpscaleRequest`. With several
            samples, ``estimate="mean"`` (default) or "sample", and `Result.std`.

    Raises:
        InputError: for anything wrong with the picture or a setting.
    """
    return _perform(UpscaleRequest, on_step, on_progress, image=image, factor=factor, **settings)


def demosaic(
    image: Any,
    pattern: Literal["RGGB", "BGGR", "GRBG", "GBRG"] = "RGGB",
    *,
    on_step: OnStep | None = None,
    on_progress: OnProgress | None = None,
    **settings: Unpack[DemosaicSettings],
) -> Result:
    """Give each pixel of a raw picture, behind a Bayer filter, its three colours.

    Args:
        image: of one channel, its values as they are to be shown (not linear light): a path, PIL
            image, numpy array (H,W) or tensor (1,H,W).
        pattern: colours of the first two pixels of the first two rows.
        on_step, on_progress, settings: as in `edit`; fields of `DemosaicRequest`. With several
            samples, ``estimate="mean"`` (default) or "sample", and `Result.std`.

    Raises:
        InputError: for a picture with colours, or anything wrong with a setting.
    """
    return _perform(DemosaicRequest, on_step, on_progress, image=image, pattern=pattern, **settings)


def enhance(
    image: Any,
    level: Literal["low", "medium", "high"] = "medium",
    *,
    on_step: OnStep | None = None,
    on_progress: OnProgress | None = None,
    **settings: Unpack[EnhanceSettings],
) -> Result:
    """Take noise and compression away, then bring out detail and local contrast.

    What varies no more than the noise did is not amplified.

    Args:
        image: a path, PIL image, numpy array (H,W[,C]) or tensor (C,H,W).
        level: "low", "medium" or "high": how much detail and contrast to add; noise goes at every
            level.
        on_step, on_progress, settings: as in `edit`; fields of `EnhanceRequest`: `strength` and
            `invert` say how much of it each pixel gets, `noise_level_8bit` replaces the estimate.
            With several samples, ``estimate="mean"`` (default) or "sample", and `Result.std`.

    Raises:
        InputError: for anything wrong with the picture, the map or a setting.
    """
    return _perform(EnhanceRequest, on_step, on_progress, image=image, level=level, **settings)


def colorize(
    image: Any,
    hints: Any = None,
    *,
    on_step: OnStep | None = None,
    on_progress: OnProgress | None = None,
    **settings: Unpack[ColorizeSettings],
) -> Result:
    """Give a grey picture colours: the result, made grey again, is the picture that was given.

    Args:
        image: a path, PIL image, numpy array (H,W[,C]) or tensor (C,H,W); of a picture with
            colours the luminance counts alone.
        hints: a picture of the same size, likewise, with colours where they are known: where it
            is not transparent or, if it is opaque, where it is coloured. Without, the result is
            grey: the bundled prior knows no objects.
        on_step, on_progress, settings: as in `edit`; fields of `ColorizeRequest`. `strength` says
            how much of its colour each pixel gets, 0 none, bit for bit. With several samples,
            ``estimate="mean"`` (default) or "sample", and `Result.std`.

    Raises:
        InputError: for anything wrong with the picture, the hints or a setting.
    """
    return _perform(ColorizeRequest, on_step, on_progress, image=image, hints=hints, **settings)


def deblock(
    image: Any,
    *,
    quality: int | None = None,
    on_step: OnStep | None = None,
    on_progress: OnProgress | None = None,
    **settings: Unpack[DeblockSettings],
) -> Result:
    """Free a JPEG picture of blocks and rings: the result would give the same file again.

    Args:
        image: a path, PIL image, numpy array (H,W[,C]) or tensor (C,H,W).
        quality: that it was saved with, 1 to 100; by default as the JPEG file's tables say, or as
            the pixels tell of other files, arrays and tensors.
        on_step, on_progress, settings: as in `edit`; fields of `DeblockRequest`: `strength`, how
            much of the change each pixel gets, `sampling`, `passes`.

    Raises:
        InputError: for a picture whose quality nothing tells, or anything wrong with a setting.
    """
    return _perform(DeblockRequest, on_step, on_progress, image=image, quality=quality, **settings)


def deblur(
    image: Any,
    kernel: Any = "gaussian",
    *,
    on_step: OnStep | None = None,
    on_progress: OnProgress | None = None,
    **settings: Unpack[DeblurSettings],
) -> Result:
    """Take a blur away: the result, blurred again, is the picture that was given.

    Args:
        image: a path, PIL image, numpy array (H,W[,C]) or tensor (C,H,W).
        kernel: what blurred it: "gaussian" of deviation ``sigma=`` in pixels, which is estimated
            from the picture if not given; "motion" of ``length=`` pixels at ``angle=`` degrees (0
            along a row, counter-clockwise); or the kernel itself, an array (h,w) or a grey picture.
        on_step, on_progress, settings: as in `edit`; fields of `DeblurRequest`:
            ``noise_level_8bit`` (a number, a map, or "auto"), ``passes``, ``strength`` and
            ``invert`` for how much of the change each pixel gets. With several samples,
            ``estimate="mean"`` (default) or "sample", and `Result.std`.

    Raises:
        InputError: for a picture smaller than its kernel, or anything wrong with a setting.
    """
    return _perform(DeblurRequest, on_step, on_progress, image=image, kernel=kernel, **settings)


def generate(
    prompt: str | None = None,
    *,
    width: int = 512,
    height: int = 512,
    on_step: OnStep | None = None,
    on_progress: OnProgress | None = None,
    **settings: Unpack[GenerateSettings],
) -> Result:
    """Make a picture: from a prompt with a text-to-image pipeline, else from nothing.

    Args:
        prompt: for a pipeline; the bundled prior and unconditional models take none.
        width, height: of the picture, in pixels.
        on_step, on_progress, settings: as in `edit`; fields of `GenerateRequest`.

    Raises:
        InputError: for anything wrong with a setting, or a model that cannot do it.
    """
    given = {} if prompt is None else {"prompt": prompt}
    return _perform(
        GenerateRequest, on_step, on_progress, width=width, height=height, **given, **settings
    )


def fan(
    image: Any,
    strengths: Sequence[float] = (0.2, 0.4, 0.6, 0.8, 1.0),
    *,
    strength: Any = 1.0,
    invert: bool = False,
    on_progress: OnProgress | None = None,
    **settings: Unpack[PromptedSettings],
) -> list[Result]:
    """One edit at several strengths, to choose from: all from the same noise.

    Args:
        image: a path, PIL image, numpy array (H,W[,C]) or tensor (C,H,W).
        strengths: factors in (0, 1] of the map; one result for each.
        strength: the map, as in `edit`.
        invert: white = keep.
        on_progress, settings: as in `edit`.

    Raises:
        InputError: for anything wrong with the picture, the map or a setting.
    """
    request = build(EditRequest, image=image, strength=strength, invert=invert, **settings)
    return fan_out(request, strengths, on_progress)


def _perform(
    request: type[Request],
    on_step: OnStep | None,
    on_progress: OnProgress | None,
    **fields: Any,
) -> Result:
    return execute(build(request, **fields), on_step=on_step, on_progress=on_progress)
