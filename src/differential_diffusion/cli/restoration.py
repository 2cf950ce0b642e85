"""The tasks that bring a picture back: noise, damage, and what a camera took from it."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from .common import Images, Invert, Noise, Settings, number_or_file, with_settings
from .run import noise_level, run_task

KnownNoise = Annotated[
    str | None,
    typer.Option(
        "--noise",
        help="σ of the picture's noise on the 0-255 scale: a number, or a grey picture of the "
        "levels (black 0, white 255) [default: 0].",
        show_default=False,
    ),
]
Strength = Annotated[
    str | None,
    typer.Option(
        "--strength",
        "--map",
        "-s",
        help="How much of the change each pixel gets, 0 none, 1 all: a number, or a grey picture "
        "(black 0, white 1) [default: 1].",
    ),
]
Guidance = Annotated[
    str | None,
    typer.Option(
        "--guidance",
        help="How samples are held to the picture: 'diffpir' (default), 'ddnm', or 'pigdm', which "
        "takes three times the time and several times the memory.",
        show_default=False,
    ),
]
Passes = Annotated[
    int | None,
    typer.Option(
        "--passes",
        help="Evaluations that the mean takes [default: 8; demosaic: 24].",
    ),
]


@with_settings
def denoise(images: Images, noise: Noise = None, *, settings: Settings) -> None:
    """Remove noise of known, mapped or (by default) estimated level.

    One result is the posterior mean, the most accurate guess; several are samples of what the
    picture may have been.
    """
    run_task("denoise", images, settings, noise_level(noise))


@with_settings
def restore(
    images: Images,
    mode: Annotated[
        str,
        typer.Option(
            help="'light' mends noise alone, 'standard' also damage, 'deep' also damage through "
            "which the picture shows, in several passes."
        ),
    ] = "standard",
    control_mechanism: Annotated[
        str | None,
        typer.Option(
            "--control-mechanism",
            "--control",
            help="'static' finds damage once, 'dynamic' again after each mending [default: dynamic "
            "in mode deep, else static].",
            show_default=False,
        ),
    ] = None,
    pixel_strengths: Annotated[
        str,
        typer.Option(
            "--pixel-strengths",
            "--strength",
            "--map",
            "-s",
            help="Where each pixel's strength comes from: 'adaptive' from the picture, 'uniform' "
            "the same for all, or a number or grey picture of how much of the change each gets.",
        ),
    ] = "adaptive",
    invert: Invert = False,
    noise: Noise = None,
    damage: Annotated[
        str | None,
        typer.Option(
            help="A grey picture of the damage, white where it is, instead of looking for it.",
            show_default=False,
        ),
    ] = None,
    *,
    settings: Settings,
) -> None:
    """Find noise, scratches, dust and missing patches in a photograph, and mend them."""
    given: dict[str, Any] = {"mode": mode, "invert": invert} | noise_level(noise)
    if control_mechanism is not None:
        given["control_mechanism"] = control_mechanism
    own = pixel_strengths not in ("adaptive", "uniform")
    given["pixel_strengths"] = (
        number_or_file("--strength", pixel_strengths) if own else pixel_strengths
    )
    if damage not in (None, "auto"):
        given["damage"] = number_or_file("--damage", damage)
    run_task("restore", images, settings, given)


@with_settings
def upscale(
    images: Images,
    factor: Annotated[
        int, typer.Option(help="How many times as long each side: 2, 3, 4 or 8.")
    ] = 2,
    kernel: Annotated[
        str,
        typer.Option(
            help="How the picture became small: 'bicubic', as programs make them so, or the "
            "'average' of blocks, as sensors do."
        ),
    ] = "bicubic",
    noise: KnownNoise = None,
    passes: Passes = None,
    guidance: Guidance = None,
    *,
    settings: Settings,
) -> None:
    """Enlarge a picture: the result, made small again, is the picture that was given."""
    given: dict[str, Any] = {"factor": factor, "kernel": kernel}
    run_task("upscale", images, settings, given | _measured(noise, passes, guidance))


@with_settings
def demosaic(
    images: Images,
    pattern: Annotated[
        str, typer.Option(help="Colours of the first two pixels of the first two rows.")
    ] = "RGGB",
    noise: KnownNoise = None,
    passes: Passes = None,
    guidance: Guidance = None,
    *,
    settings: Settings,
) -> None:
    """Give each pixel of a raw picture, of one channel behind a Bayer filter, its three colours."""
    given: dict[str, Any] = {"pattern": pattern}
    run_task("demosaic", images, settings, given | _measured(noise, passes, guidance))


@with_settings
def enhance(
    images: Images,
    level: Annotated[
        str,
        typer.Option(help="How much detail and contrast to add: 'low', 'medium' or 'high'."),
    ] = "medium",
    noise: Noise = None,
    strength: Strength = None,
    invert: Invert = False,
    *,
    settings: Settings,
) -> None:
    """Take noise and compression away, then bring out detail and local contrast."""
    given = {"level": level} | noise_level(noise) | _mended(strength, invert)
    run_task("enhance", images, settings, given)


@with_settings
def colorize(
    images: Images,
    hints: Annotated[
        str | None,
        typer.Option(
            help="A picture of the same size with colours where they are known: where it is not "
            "transparent or, if it is opaque, where it is coloured.",
            show_default=False,
        ),
    ] = None,
    strength: Strength = None,
    invert: Invert = False,
    *,
    settings: Settings,
) -> None:
    """Give a grey picture colours from hints, spread along its edges.

    The result, made grey again, is the picture that was given. The bundled prior knows no objects:
    without hints the result is grey.
    """
    given: dict[str, Any] = {} if hints is None else {"hints": hints}
    run_task("colorize", images, settings, given | _mended(strength, invert))


@with_settings
def deblock(
    images: Images,
    quality: Annotated[
        int | None,
        typer.Option(
            help="What it was saved with, 1 to 100 [default: as the file's tables or pixels tell]."
        ),
    ] = None,
    sampling: Annotated[
        str | None,
        typer.Option(
            help="With --quality: which pixels share a colour, 4:4:4, 4:2:2, 4:2:0, 4:4:0 or "
            "4:1:1 [default: as the pixels tell]."
        ),
    ] = None,
    strength: Strength = None,
    invert: Invert = False,
    passes: Passes = None,
    *,
    settings: Settings,
) -> None:
    """Free a JPEG picture of blocks and rings: the result would give the same file again."""
    own = {"quality": quality, "sampling": sampling, "passes": passes}
    given = {name: value for name, value in own.items() if value is not None}
    run_task("deblock", images, settings, given | _mended(strength, invert))


@with_settings
def deblur(
    images: Images,
    kernel: Annotated[
        str,
        typer.Option(
            help="What blurred the picture: 'gaussian', 'motion', or a grey picture of the kernel."
        ),
    ] = "gaussian",
    sigma: Annotated[
        float | None,
        typer.Option(
            help="Deviation of the Gaussian in pixels [default: estimated from the picture]."
        ),
    ] = None,
    length: Annotated[float | None, typer.Option(help="Of the motion, in pixels.")] = None,
    angle: Annotated[
        float, typer.Option(help="Of the motion: degrees, 0 along a row, counter-clockwise.")
    ] = 0.0,
    noise: Noise = None,
    passes: Passes = None,
    strength: Strength = None,
    invert: Invert = False,
    *,
    settings: Settings,
) -> None:
    """Take a blur away: the result, blurred again, is the picture that was given."""
    own = {"sigma": sigma, "length": length, "passes": passes}
    given: dict[str, Any] = {"kernel": kernel, "angle": angle}
    given |= {name: value for name, value in own.items() if value is not None}
    run_task("deblur", images, settings, given | noise_level(noise) | _mended(strength, invert))


def _measured(noise: str | None, passes: int | None, guidance: str | None = None) -> dict[str, Any]:
    """What was set of the fields that the tasks on measurements share."""
    given = {"passes": passes, "guidance": guidance}
    return {name: value for name, value in given.items() if value is not None} | noise_level(noise)


def _mended(strength: str | None, invert: bool) -> dict[str, Any]:
    """What was set of the fields that the tasks share which mend a picture in its place."""
    given: dict[str, Any] = {"invert": invert}
    if strength is not None:
        given["strength"] = number_or_file("--strength", strength)
    return given
